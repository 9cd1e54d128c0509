"""The embedded model for a command: its errors are one line each."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from .._local.server import LocalServer, LocalServerError
from .run import UsageError

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["local_server"]


@contextmanager
def local_server(*, parallel: int, port: int = 0) -> Generator[LocalServer]:
    """Start the embedded server with this many slots; it has ended when the block is left."""
    server = LocalServer(parallel=parallel, port=port)
    try:
        server.start()
    except LocalServerError as error:
        raise UsageError(str(error)) from error
    try:
        yield server
    finally:
        server.stop()
