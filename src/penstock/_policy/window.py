"""How much may start within any minute, as a provider counts it.

A sliding window and not a token bucket. A bucket that holds N and is refilled with N a minute
lets 2 N pass in the minute after a lull, and a refund may overfill it. A window lets N pass in
any minute, all at once if need be, and a refund takes back no more than was booked:

    the sum of what was booked in any 60 seconds is at most the limit

It takes an amount above the limit only when nothing else is booked, and books the limit for it.
What turns out to cost more than was booked is booked when that is known, and may exceed the
limit: then the window lets nothing pass until enough of it is a minute old.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

__all__ = ["Booking", "Window"]

# Requests take different times to the server: some that were sent within more than a minute
# arrive within less.
MINUTE = 60.5
# Amounts booked within so many seconds expire together: a window is some 240 numbers long.
GRAIN = 0.25
# Of clocks that are added and subtracted.
ROUNDING = 1e-9


class Share:
    """What was booked within a grain of time."""

    __slots__ = ("amount", "expires", "since")

    def __init__(self, since: float) -> None:
        self.since: float = since
        self.expires: float = since
        self.amount: int = 0


class Booking:
    """An amount booked in a window."""

    __slots__ = ("amount", "share", "term")

    def __init__(self, amount: int, share: Share, term: int) -> None:
        self.amount: int = amount
        """What is booked, while it is younger than a minute."""
        self.share: Share = share
        """Where it is booked."""
        self.term: int = term
        """How often a server had lowered the window before."""

    def counts(self, now: float) -> bool:
        """Return True while it is younger than a minute."""
        return _lasts(self.share.expires, now)


class Window:
    """At most `per_minute` within any minute; below 1, one within a longer time."""

    __slots__ = ("_left", "_left_until", "_shares", "_term", "_used", "limit", "seconds")

    def __init__(self, per_minute: float) -> None:
        self.limit: int = max(1, math.floor(per_minute))
        self.seconds: float = MINUTE / min(1.0, per_minute)
        # No deque: without the global lock one that changes cannot even be copied.
        self._shares: list[Share] = []
        """Oldest first."""
        self._used = 0
        """The sum of the shares."""
        self._left = 0
        """What may still be booked until `_left_until`, as a server has said."""
        self._left_until = -math.inf
        self._term = 0
        """Number of times that a server lowered it."""

    def available(self, now: float) -> int:
        """Return what fits now. Changes nothing, so any thread may ask."""
        used = sum(share.amount for share in self._shares.copy() if _lasts(share.expires, now))
        free = max(0, self.limit - used)
        return max(0, min(free, self._left)) if _lasts(self._left_until, now) else free

    def ready_at(self, now: float, amount: int) -> float:
        """Return the time from which the amount fits; not after `now` if it does."""
        self._expire(now)
        return self._ready_at(now, amount, self._used, self._shares)

    def looked_at(self, now: float, amount: int) -> tuple[float, bool]:
        """Return what `ready_at` does, and whether a server's figure is the reason.

        Changes nothing, so any thread may ask.
        """
        shares = [share for share in self._shares.copy() if _lasts(share.expires, now)]
        at = self._ready_at(now, amount, sum(share.amount for share in shares), shares)
        return at, at > now and self._lowered_until(now, amount) >= at

    def _ready_at(self, now: float, amount: int, used: int, shares: Iterable[Share]) -> float:
        ready = now
        excess = used + min(amount, self.limit) - self.limit
        if excess > 0:
            for share in shares:
                excess -= share.amount
                if excess <= 0:
                    ready = share.expires
                    break
        return max(ready, self._lowered_until(now, amount))

    def _lowered_until(self, now: float, amount: int) -> float:
        lowered = min(amount, self.limit) > self._left and _lasts(self._left_until, now)
        return self._left_until if lowered else now

    def has_room(self, now: float, amount: int) -> bool:
        """Return True if the amount fits now, whole."""
        self._expire(now)
        left = self._left if _lasts(self._left_until, now) else self.limit
        return amount <= min(self.limit - self._used, left)

    def book(self, now: float, amount: int) -> Booking:
        """Book the amount, or the limit if that is less, whether or not it fits."""
        self._expire(now)
        amount = min(amount, self.limit)
        share = self._shares[-1] if self._shares else None
        if share is None or now - share.since > GRAIN:
            share = Share(now)
            self._shares.append(share)
        share.expires = now + self.seconds
        self._add(share, amount)
        self._left -= amount
        return Booking(amount, share, self._term)

    def change(self, now: float, booking: Booking, amount: int) -> None:
        """Make it another amount, as far as that is known now.

        Less is taken back if it is younger than a minute; more is booked at this moment.
        """
        self._expire(now)
        more = min(amount, self.limit) - booking.amount
        if more > 0:
            self.book(now, more)
        elif _lasts(booking.share.expires, now):
            self._add(booking.share, more)
            if booking.term == self._term:
                self._left -= more
        booking.amount += more

    def move(self, now: float, booking: Booking) -> None:
        """Book it anew at this moment."""
        amount = booking.amount
        self.change(now, booking, 0)
        moved = self.book(now, amount)
        booking.amount, booking.share, booking.term = amount, moved.share, moved.term

    def lower(self, now: float, remaining: int, seconds: float) -> None:
        """Let no more than `remaining` be booked for so many seconds, unless less fits anyway."""
        if remaining < self.available(now):
            self._left = remaining
            self._left_until = max(self._left_until, now + seconds)
            self._term += 1

    def _add(self, share: Share, amount: int) -> None:
        share.amount += amount
        self._used += amount

    def _expire(self, now: float) -> None:
        shares = self._shares
        while shares and not _lasts(shares[0].expires, now):
            self._used -= shares.pop(0).amount


def _lasts(until: float, now: float) -> bool:
    return until - now > ROUNDING
