"""A timer for trio, which has none without a task.

A task would be seen by whoever counts tasks. So a thread waits, one for the whole process and
only while a timer is set, and lets trio call the function.
"""

from __future__ import annotations

import heapq
import os
import threading
import time
from collections.abc import Callable
from itertools import count

import trio

__all__ = ["Timer"]

# A lock may not wait for longer than some hundred years.
LONGEST_WAIT = 3600.0


class Timer:
    """Calls a function once, in the trio run that made it, after so many seconds of real time."""

    def __init__(self, seconds: float, function: Callable[[], object]) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._function: Callable[[], object] | None = function
        _waiting().add(time.monotonic() + seconds, self)

    def cancel(self) -> None:
        """Let it not happen. In trio's thread, also when it is due already."""
        self._function = None
        _waiting().wake()

    @property
    def is_cancelled(self) -> bool:
        """Whether there is nothing to call any more."""
        return self._function is None

    def fire(self) -> None:
        """Called by the thread that waits."""
        try:
            self._token.run_sync_soon(self._call)
        except trio.RunFinishedError:
            pass

    def _call(self) -> None:
        if self._function is not None:
            self._function()


class _Waiting:
    """The timers of a process, and the thread that waits for the first of them."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = count()
        self._changed = threading.Condition()
        self._runs = False

    def add(self, when: float, timer: Timer) -> None:
        with self._changed:
            heapq.heappush(self._timers, (when, next(self._numbers), timer))
            self._changed.notify()
            if not self._runs:
                thread = threading.Thread(target=self._run, name="timers of penstock", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    return  # the interpreter is shutting down, and closes everything
                self._runs = True

    def wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while self._timers:
                when, _, timer = self._timers[0]
                left = when - time.monotonic()
                if left > 0 and not timer.is_cancelled:
                    self._changed.wait(min(left, LONGEST_WAIT))
                    continue
                heapq.heappop(self._timers)
                if not timer.is_cancelled:
                    timer.fire()
            self._runs = False


_of_this_process = _Waiting()


def _waiting() -> _Waiting:
    """Return the timers of this process; a forked one begins anew."""
    global _of_this_process
    if _of_this_process.pid != os.getpid():
        _of_this_process = _Waiting()
    return _of_this_process
