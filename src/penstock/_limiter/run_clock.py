"""A clock for objects that outlive an event loop.

Each run of an event loop may have its own clock: trio's starts at a random time, a virtual one at
zero. A time noted in one run means nothing in the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from .._loops import event_loop, event_loop_clock

__all__ = ["RunClock"]


class RunClock:
    """A clock that goes on from one run of an event loop to the next, and between them.

    Within a run it follows the loop's clock (`anyio.current_time`); from one run to the next, and
    where no loop runs, `time.monotonic`. It cannot follow two runs at the same time.
    """

    __slots__ = ("_followed", "_looked")

    # Each is replaced whole: other threads, in event loops of their own, may ask at any time.

    def __init__(self) -> None:
        self._followed: tuple[Any, Callable[[], float], float] = (None, time.monotonic, 0.0)
        """The run, its clock, and how many seconds this one is ahead of that."""
        self._looked: tuple[float, float] | None = None
        """What the time was at last, and what `time.monotonic` was then."""

    def now(self) -> float:
        """Return the time in seconds; callable from anywhere."""
        run = event_loop()
        if run is None:
            now = self._without_loop(0.0)
        else:
            followed, loop_time, ahead = self._followed
            if run is not followed:
                loop_time = event_loop_clock()
                begun = loop_time()
                ahead = self._without_loop(begun) - begun
                self._followed = (run, loop_time, ahead)
            now = loop_time() + ahead
        self._looked = (now, time.monotonic())
        return now

    def _without_loop(self, start: float) -> float:
        if self._looked is None:
            return start
        latest, looked_at = self._looked
        return latest + time.monotonic() - looked_at
