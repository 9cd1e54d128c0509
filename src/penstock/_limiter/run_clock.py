"""A clock for objects that outlive an event loop.

Each run of an event loop may have its own clock: trio's starts at a random time, a virtual one at
zero. A time noted in one run means nothing in the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from .._loops import event_loop_clock
from .home_loop import running_loop

__all__ = ["RunClock"]


class RunClock:
    """A clock that goes on from one run of an event loop to the next, and between them.

    Within a run it follows the loop's clock (`anyio.current_time`); from one run to the next, and
    where no loop runs, `time.monotonic`. It cannot follow two runs at the same time.
    """

    __slots__ = ("_ahead", "_latest", "_looked_at", "_loop_time", "_run")

    def __init__(self) -> None:
        self._run: Any = None
        self._loop_time: Callable[[], float] = time.monotonic
        """The clock of `_run`."""
        self._ahead = 0.0
        """Seconds that it is ahead of the run's clock."""
        self._latest: float | None = None
        self._looked_at = 0.0

    def now(self) -> float:
        """Return the time in seconds; callable from anywhere."""
        run = running_loop()
        if run is None:
            now = self._without_loop(0.0)
        else:
            if run is not self._run:
                self._run = run
                self._loop_time = event_loop_clock()
                loop_time = self._loop_time()
                self._ahead = self._without_loop(loop_time) - loop_time
            now = self._loop_time() + self._ahead
        self._latest, self._looked_at = now, time.monotonic()
        return now

    def _without_loop(self, start: float) -> float:
        if self._latest is None:
            return start
        return self._latest + time.monotonic() - self._looked_at
