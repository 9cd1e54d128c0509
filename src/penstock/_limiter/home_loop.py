"""The one event loop that a limiter belongs to while it is in use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from .._loops import event_loop

__all__ = ["HomeLoop"]

IN_USE = (
    "this limiter is in use in another event loop: give each event loop a Limiter of its own"
    " (all blocking clients of a process run in one loop, and may share one)"
)


class HomeLoop:
    """Knows the event loop of an object that may be used in one after another, not in two."""

    __slots__ = ("_loop", "_thread", "moving")

    def __init__(self) -> None:
        # asyncio's event loop or trio's token.
        self._loop: Any = None
        self._thread: int | None = None
        self.moving: threading.Lock = threading.Lock()
        """Held from `move_here` until the object counts as in use."""

    def move_here(self, *, in_use: bool) -> bool:
        """Make the running event loop the home; return False if it is already.

        Raises RuntimeError if the object is in use in another loop that has not ended.
        """
        here = event_loop()
        if here is self._loop:
            return False
        if in_use and self._call(_nothing):
            raise RuntimeError(IN_USE)
        self._loop = here
        self._thread = threading.get_ident()
        return True

    @property
    def is_here(self) -> bool:
        """True if the running event loop is the home."""
        return self._loop is not None and event_loop() is self._loop

    @property
    def is_elsewhere(self) -> bool:
        """True if the home is in another thread than the caller."""
        return self._thread != threading.get_ident()

    def run_there(self, fn: Callable[[], None]) -> bool:
        """Have the home call `fn` soon; return False if it has ended."""
        return self._call(fn)

    def _call(self, fn: Callable[[], None]) -> bool:
        loop = self._loop
        if loop is None:
            return False
        call = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
        try:
            call(fn)
        except RuntimeError:  # closed; trio.RunFinishedError is one
            return False
        return True


def _nothing() -> None:
    pass
