"""Where the time goes until the head of an answer is in.

     SLOT ──> CONNECTION ──> HEAD ──> BODY
      ^                       │        │ failed before the first byte
      └────── BACKOFF <───────┴────────┘

One phase begins where the one before it ends, so together they are the time since the start.
"""

from __future__ import annotations

import enum
import math

__all__ = ["Phase", "Phases"]


class Phase(enum.IntEnum):
    """What a call waits for."""

    SLOT = 0
    """A slot of each limiter."""
    CONNECTION = 1
    """A key, and a connection."""
    HEAD = 2
    """The head of the response, once the request is being sent."""
    BACKOFF = 3
    """The next attempt."""
    BODY = 4
    """The body, and those who read it."""


class Phases:
    """Seconds spent in each phase."""

    __slots__ = ("_current", "_seconds", "_since")

    def __init__(self) -> None:
        self._current: Phase | None = None
        self._since = math.nan
        self._seconds = [0.0, 0.0, 0.0, 0.0, 0.0]  # of each Phase

    def enter(self, phase: Phase, now: float) -> None:
        """End the current phase and begin another one."""
        if self._current is not None:
            self._seconds[self._current] += now - self._since
        self._current = phase
        self._since = now

    def fail(self, now: float) -> None:
        """End an attempt whose body did not begin: what it took belongs to the head."""
        self.enter(Phase.BACKOFF, now)
        self._seconds[Phase.HEAD] += self._seconds[Phase.BODY]
        self._seconds[Phase.BODY] = 0.0

    def spent(self, until: float) -> list[float]:
        """Return the seconds of each phase, the current one up to `until`."""
        seconds = list(self._seconds)
        if self._current is not None and until > self._since:
            seconds[self._current] += until - self._since
        return seconds
