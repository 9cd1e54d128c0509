"""The line in front of a limiter, and the count of its places.

No place is handed to a task: the first in line is woken and takes it itself, so a task that was
cancelled in the meantime loses nothing, and what it would have taken goes to the next.

Who is first waits for whatever it lacks: a place, the end of a pause, the pace (`per_second`), or
the rates of a minute. Nobody passes it but the items that were in line before it, each with one
request. So a request of many tokens is not overtaken by small ones for ever, and those behind it
wait with it.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from itertools import chain, islice
from typing import TYPE_CHECKING, Literal

import anyio

from .._logs import logger
from .._policy.adaptive import AdaptiveLimit
from .._policy.quotas import quotas_in
from .._policy.retry import is_overload
from ..errors import APIStatusError
from ..headers import Headers
from .home_loop import HomeLoop
from .rates import Rates, Reservation
from .run_clock import RunClock

if TYPE_CHECKING:
    from .slots import Slot

__all__ = ["Line", "PauseReason"]

PauseReason = Literal[
    "retry_after", "backoff", "caller", "per_second", "requests", "tokens", "header"
]
"""Why a limiter starts nothing: a server asked to wait, or refused for load without saying how
long; `Limiter.pause`; the limits of a second and of a minute; a server's headers."""


# Wake at most this many waiters at once. Waking one fills a single place per loop iteration;
# waking all is quadratic.
WOKEN_AT_ONCE = 16


class _Ticket:
    __slots__ = ("event", "paced", "reservation")

    def __init__(self, reservation: Reservation | None, *, paced: bool) -> None:
        self.event = anyio.Event()
        self.reservation = reservation
        self.paced = paced


class Line:
    """The line in front of a limiter, and the count of places taken."""

    def __init__(
        self,
        limit: AdaptiveLimit,
        *,
        adapts: bool,
        per_second: float | None,
        rates: Rates | None = None,
    ) -> None:
        self.limit = limit
        self.rates: Rates | None = rates
        """What may start within a minute; None if there is no such limit."""
        self.in_flight: int = 0
        self.granted: int = 0
        self.refusals: int = 0
        self.clock: RunClock = RunClock()
        self.home: HomeLoop = HomeLoop()
        self.paused_until: float = -math.inf
        """On `clock`: no request starts before it."""
        self.paused_by: PauseReason = "caller"
        """Why no request starts before `paused_until`."""
        self._adapts = adapts
        self._interval = 0.0 if per_second is None else 1 / per_second
        # Generic cell rate algorithm: what a pause left unused, up to a second's worth, may
        # be caught up at once. There is nothing to catch up at the start.
        self._ahead = max(0.0, 1 - self._interval)
        self._next_start: float | None = None
        # A linked list: the first is found, and any one removed, in constant time.
        self._queue: OrderedDict[_Ticket, bool] = OrderedDict()
        self._admitted: OrderedDict[_Ticket, bool] = OrderedDict()
        """In front of the queue: the first request of each item that has come through it."""
        self._first: _Ticket | None = None
        """Who is first in line: an attribute, as other threads cannot walk through a queue."""
        self.offered: set[Slot] = set()
        """Slots whose holders give their place up as soon as somebody waits."""

    def may_start(self, *, counted: bool) -> bool:
        """Return True if pause and pace let a request start now in a place that is there.

        The request counts as a start, unless its place was `counted` for it.
        """
        now = self.clock.now()
        if counted:
            return self.paused_until <= now
        if self._paced_at(now) > now:
            return False
        self._started(now)
        return True

    def has_room(self, reservation: Reservation, *, paced: bool) -> bool:
        """Return True if the rates of a minute let it start now, ahead of the first in line.

        They do if they are enough for both, so that nobody waits longer for it.
        """
        assert self.rates is not None
        first = next(iter(self._admitted), None) if paced else self._first
        ahead = None if first is None else first.reservation
        return self.rates.has_room(self.clock.now(), reservation, ahead)

    async def enter(self, reservation: Reservation | None = None, *, paced: bool = False) -> None:
        """Wait in line, then take a place and reserve. Cancelled, it takes nothing.

        With `paced` it is an item's, which was in line and was counted as a start before: it
        passes those who came later, once. Raises RuntimeError if the limiter is in use in another
        event loop.
        """
        queue = self._admitted if paced else self._queue
        with self.home.moving:
            in_use = self.in_flight > 0
            if self._admitted or self._queue:
                in_use = True
            if self.home.move_here(in_use=in_use):
                # Those who waited in a loop that has ended never take a place.
                self._queue.clear()
                self._admitted.clear()
                self._first = None
            first = not self._admitted and (paced or not self._queue)
            if first and self._try_take(reservation, paced) <= 0:
                return
            gave_way = any(slot.give_way() for slot in list(self.offered))
            if gave_way and self._try_take(reservation, paced) <= 0:
                return
            ticket = _Ticket(reservation, paced=paced)
            queue[ticket] = True
            self._find_first()
        try:
            # The first in line takes the place itself: nothing is handed to a task that may
            # have been cancelled in the meantime.
            while True:
                first = self._first is ticket
                wait = self._try_take(reservation, paced) if first else math.inf
                if wait <= 0:
                    return
                with anyio.move_on_after(wait):
                    await ticket.event.wait()
                    ticket.event = anyio.Event()
        finally:
            if ticket in queue:
                # Only who is first keeps others from a place: a cancellation costs the same
                # however many wait.
                del queue[ticket]
                if self._first is ticket:
                    self._find_first()
                    self.wake()

    @property
    def waiting(self) -> int:
        """Tasks that wait in line."""
        return len(self._admitted) + len(self._queue)

    def _find_first(self) -> None:
        self._first = next(iter(self._admitted or self._queue), None)

    def _try_take(self, reservation: Reservation | None, paced: bool) -> float:
        """Take a place and return 0, or return the seconds after which to try again."""
        if self.in_flight >= self.limit.limit:
            return math.inf
        now = self.clock.now()
        ready = self.paused_until if paced else self._paced_at(now)
        if reservation is not None and self.rates is not None:
            ready = max(ready, self.rates.ready_at(now, reservation))
        if ready > now:
            return ready - now
        if not paced:
            self._started(now)
        if reservation is not None and self.rates is not None:
            self.rates.reserve(now, reservation)
        self.in_flight += 1
        self.granted += 1
        return 0.0

    def _paced_at(self, now: float) -> float:
        if self._next_start is None:
            self._next_start = now + self._ahead
        return max(self.paused_until, self._next_start - self._ahead)

    def _started(self, now: float) -> None:
        self._next_start = max(self._next_start or now, now) + self._interval

    def leave(self) -> None:
        """Give a place back."""
        self.in_flight -= 1
        self.wake()

    def wake(self) -> None:
        """Wake the waiters that may find a place: the first in line, and some behind it."""
        first = self._first
        free = self.limit.limit - self.in_flight
        if first is None or free <= 0:
            return
        first.event.set()
        # Only the first in line waits for pace, rates and pause.
        if free > 1 and not self._interval and self._ready(first, self.clock.now()):
            behind = chain(self._admitted, self._queue)
            for ticket in islice(behind, 1, min(free, WOKEN_AT_ONCE)):
                ticket.event.set()

    def _ready(self, ticket: _Ticket, now: float) -> bool:
        """Return True if it lacks nothing but a place."""
        if (self.paused_until if ticket.paced else self._paced_at(now)) > now:
            return False
        reservation, rates = ticket.reservation, self.rates
        return reservation is None or rates is None or rates.ready_at(now, reservation) <= now

    def pause(self, seconds: float, reason: PauseReason = "caller") -> None:
        """Start no request for so many seconds."""
        until = self.clock.now() + seconds
        if until > self.paused_until:
            self.paused_until, self.paused_by = until, reason

    def held_back(self, now: float) -> tuple[float, PauseReason | None]:
        """Return the seconds until the next request may start, if it has a place, and why.

        It is the first in line, else a request without tokens. Any thread may ask.
        """
        until: float = self.paused_until
        reason: PauseReason = self.paused_by
        first = self._first
        if (first is None or not first.paced) and self._next_start is not None:
            paced_at = self._next_start - self._ahead
            if paced_at > until:
                until, reason = paced_at, "per_second"
        reservation = Reservation() if first is None else first.reservation
        if self.rates is not None and reservation is not None:
            at, limit = self.rates.held_back_by(now, reservation)
            if at > until:
                until, reason = at, limit
        return (until - now, reason) if until > now else (0.0, None)

    def head_arrived(self, headers: Headers, longest: float) -> None:
        """Take what a response says is left of the rates; it counts for so many seconds at most."""
        if self.rates is not None:
            self.rates.lower(self.clock.now(), quotas_in(headers, time.time()), longest)

    def refused(self, epoch: int, error: APIStatusError, pause: float | None) -> None:
        """Learn from an error status; only refusals for load count.

        `pause` is how many seconds the others should wait, at most. A server that asks for more
        is logged.
        """
        if not is_overload(error):
            return
        self.refusals += 1
        if pause is not None:
            paused = self.paused_until > self.clock.now()
            self.pause(pause, "backoff" if error.retry_after is None else "retry_after")
            # Once per pause, not for every sibling that is refused as well.
            if not paused and error.retry_after is not None and error.retry_after > pause:
                logger("limiter").warning(
                    "the server asks to wait %.0f s, longer than max_retry_wait:"
                    " other requests wait %.0f s",
                    error.retry_after,
                    pause,
                    extra={"retry_after": error.retry_after, "wait": pause},
                )
        if self._adapts:
            self.limit.refused(epoch, self.in_flight)

    def succeeded(self, epoch: int) -> None:
        """Learn from a complete answer."""
        if self._adapts:
            # A waiter beside a free place is about to take it, or waits for pause, pace or rates.
            first = self._first
            held_back = first is not None and self._ready(first, self.clock.now())
            binding = held_back or self.in_flight >= self.limit.limit
            self.limit.succeeded(epoch, binding=binding)
            self.wake()
