"""The scripted server in a thread of its own, for clients that block or run in another process."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from anyio.from_thread import start_blocking_portal

from .server import Server, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from .script import Script


@contextmanager
def serve_in_thread(script: Script) -> Generator[Server]:
    """Run `serve(script)` beside the block. Read the server's records, call none of its methods."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve(script)) as server,
    ):
        yield server


def becomes_true(condition: Callable[[], object], seconds: float = 20.0) -> bool:
    """Whether the condition came true within the time, looked at every ten milliseconds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
