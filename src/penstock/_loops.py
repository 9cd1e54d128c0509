"""Which event loop runs, its clock, and anyio's backend for it.

asyncio is imported only where it runs. It is a quarter of what a first client takes, and under trio
nobody needs it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import cache
from typing import Any, cast

import anyio.lowlevel

# trio depends on sniffio: where there is none, there is no trio. To look for trio itself in
# `sys.modules` would find one that another thread is importing, and is wrong under trio-asyncio.
try:
    from sniffio import thread_local as _thread
except ImportError:  # pragma: no cover - the tests need trio
    from types import SimpleNamespace as _Namespace

    _thread = cast("Any", _Namespace(name=None))

__all__ = [
    "call_in_next_iteration",
    "event_loop",
    "event_loop_clock",
    "in_trio",
    "load_backend",
    "mark_asyncio_thread",
]


def in_trio() -> bool:
    """Whether the calling task runs under trio, as `sniffio` and anyio see it."""
    # trio, and trio-asyncio in its two modes, tell it for the thread. sniffio's context variable,
    # which anyio sets as well, is copied into threads that run no event loop.
    return _thread.name == "trio"


@cache
def load_backend(trio: bool) -> None:
    """Have anyio import now what else it imports when it is first used in an event loop.

    `trio`: what `in_trio` returns. Raises OSError where no file descriptor is left for that.
    """
    anyio.lowlevel.current_token()


def mark_asyncio_thread() -> None:
    """Tell `sniffio` that this thread runs asyncio, whatever context its tasks were given."""
    _thread.name = "asyncio"


def event_loop_clock() -> Callable[[], float]:
    """The running event loop's clock: `anyio.current_time` without its look-ups."""
    if in_trio():
        import trio

        return trio.current_time
    import asyncio

    loop = asyncio.get_running_loop()
    # asyncio's own loops read this clock, which needs no bound method for each stream.
    of_asyncio = type(loop).time is asyncio.BaseEventLoop.time
    return time.monotonic if of_asyncio else loop.time


def event_loop() -> Any:
    """Return asyncio's running event loop or trio's token; None if no event loop runs.

    A third of the cost of `anyio.lowlevel.current_token`: each request asks several times.
    """
    if in_trio():
        import trio

        return trio.lowlevel.current_trio_token()
    # Not an `import`, which takes as long as a dozen calls.
    asyncio: Any = sys.modules.get("asyncio")
    try:
        return None if asyncio is None else asyncio.get_running_loop()
    except (RuntimeError, AttributeError):  # none runs, or another thread imports asyncio just now
        return None


def call_in_next_iteration(function: Callable[[], object]) -> None:
    """Have the running event loop call this in its next iteration."""
    if in_trio():
        import trio

        trio.lowlevel.current_trio_token().run_sync_soon(function)
    else:
        import asyncio

        asyncio.get_running_loop().call_soon(function)
