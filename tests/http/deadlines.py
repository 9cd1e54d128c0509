"""Deadlines for the tests of streams: none at all, and one at a point in time."""

from __future__ import annotations

import math


class OutOfTime(Exception):
    """What `Within` raises; no library has it, so it cannot come from elsewhere."""


class NoDeadline:
    """No deadline. Records the waits, and that each begin has its end."""

    def __init__(self) -> None:
        self.waiting = False
        self.waits: list[tuple[float, float]] = []
        self.checks = 0
        self._since = math.nan

    def begin(self, now: float) -> float:
        assert not self.waiting, "two waits at once"
        self.waiting = True
        self._since = now
        return math.inf

    def end(self, now: float) -> None:
        assert self.waiting, "an end without a begin"
        self.waiting = False
        self.waits.append((self._since, now))

    def check(self, now: float) -> None:
        self.checks += 1

    def byte_arrived(self) -> None:
        pass

    def error(self) -> Exception:
        raise AssertionError("no deadline was given")


class Within(NoDeadline):
    """So many seconds from the first wait on, or from the first look at the clock."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._until: float | None = None

    def _fix(self, now: float) -> float:
        if self._until is None:
            self._until = now + self._seconds
        return self._until

    def begin(self, now: float) -> float:
        super().begin(now)
        return self._fix(now)

    def check(self, now: float) -> None:
        super().check(now)
        if now >= self._fix(now):
            raise self.error()

    def error(self) -> Exception:
        return OutOfTime()
