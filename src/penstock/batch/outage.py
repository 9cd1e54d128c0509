"""Whether the server is away, or a row's own retries are used up.

A request that finds no connection, or a server that is overloaded, says little about its row:
the server may be away for everybody. So such a failure counts against its row only if a request
that was sent *after* it was answered. By answers since the attempt began, instant resets would
never count; by answers since the failure, those just before an outage would.

No I/O and no clock: the time is passed in.
"""

from __future__ import annotations

import math

__all__ = ["Outage"]


class Outage:
    """Numbers the requests of a run, and knows when the last one was answered."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._next = 0
        self._answered = -1
        """The number of the latest request that was answered."""
        self._under_way: dict[int, None] = {}
        self._since: float | None = None
        """When the first failure was since the last answer; None if there was none."""
        self._first_failed = 0
        """The next request's number at that time."""

    def sent(self) -> int:
        """Return the number of a request that is about to be sent."""
        number = self._next
        self._next += 1
        self._under_way[number] = None
        return number

    def ended(self, number: int) -> None:
        """Note that this request is not under way any more."""
        self._under_way.pop(number, None)

    def answered(self, number: int) -> None:
        """Note that this request was answered: the server is there."""
        self._answered = max(self._answered, number)
        self._since = None

    def failed(self, now: float) -> int:
        """Note that a request found no server; return a mark for `counts`."""
        if self._since is None:
            self._since = now
            self._first_failed = self._next
        return self._next

    def counts(self, mark: int) -> bool:
        """Return whether a failure counts: a request that was sent after it was answered."""
        return self._answered >= mark

    @property
    def is_on(self) -> bool:
        """True if there was a failure since the last answer."""
        return self._since is not None

    @property
    def expires(self) -> float:
        """When patience ends; infinite while there is no outage."""
        return math.inf if self._since is None else self._since + self._patience

    def expired(self, now: float) -> bool:
        """Return whether there was no answer for too long.

        Requests that were sent before the outage are waited for: they may be long ones, and paid.
        """
        if now < self.expires:
            return False
        oldest = next(iter(self._under_way), None)
        return oldest is None or oldest >= self._first_failed
