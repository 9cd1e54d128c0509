"""The line in front of a limiter, and the places it gives out.

A place may be lent: a fan-out holds one for each item, and the requests made for that
item stand in it, one at a time. Whoever waits in line never leaves a place idle that it
could have stood in: places that are lent and not in use go back to the line while a
request made under them waits, and come home with it. So nothing that shares a limiter,
in whatever nesting, can wait for itself.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice

import anyio

from .._policy.adaptive import AdaptiveLimit
from ..errors import APIStatusError, RateLimitError
from .run_clock import RunClock

__all__ = ["Line", "Slot", "lent", "lent_slots"]

# One that takes a place wakes others in turn. Where each woke only the next one, a busy loop
# would fill a single place in each of its turns; where each woke all, it were quadratic.
WOKEN_AT_ONCE = 16

# Service unavailable, and "overloaded" as Anthropic's gateways say it.
OVERLOADED = (503, 529)


class _Ticket:
    __slots__ = ("event", "gone")

    def __init__(self) -> None:
        self.event = anyio.Event()
        self.gone = False


class Line:
    """The line in front of a limiter, and those it has let through."""

    def __init__(self, limit: AdaptiveLimit, *, adapts: bool, per_second: float | None) -> None:
        self.limit = limit
        self.in_flight: int = 0
        self.waiting: int = 0
        self.granted: int = 0
        self.refusals: int = 0
        self.clock: RunClock = RunClock()
        self.paused_until: float = -math.inf
        self._adapts = adapts
        self._interval = 0.0 if per_second is None else 1 / per_second
        # Generic cell rate algorithm: what a pause left unused, up to a second's worth, may
        # be caught up at once. There is nothing to catch up at the start.
        self._ahead = max(0.0, 1 - self._interval)
        self._next_start: float | None = None
        self._queue: deque[_Ticket] = deque()
        self.offered: set[Slot] = set()
        """Slots whose holders can do without, if anybody waits."""

    def may_start(self, *, taken: bool) -> bool:
        """Whether a request may start now in a place that is there, by pause and pace.

        It counts as a start, unless the one that the place was given for is `taken` for it.
        """
        now = self.clock.now()
        if taken:
            return self.paused_until <= now
        if self._ready_at(now) > now:
            return False
        self._started(now)
        return True

    async def enter(self) -> None:
        """Wait in line, then take a place. Cancelled, nothing is taken."""
        if not self._queue and self._try_take() <= 0:
            return
        if any(slot.give_way() for slot in list(self.offered)) and self._try_take() <= 0:
            return
        ticket = _Ticket()
        self._queue.append(ticket)
        self.waiting += 1
        try:
            # Whoever is first in line takes the place itself: nothing is handed to a task
            # that may have been cancelled in the meantime.
            while True:
                wait = self._try_take() if self._queue[0] is ticket else math.inf
                if wait <= 0:
                    return
                with anyio.move_on_after(wait):
                    await ticket.event.wait()
                    ticket.event = anyio.Event()
        finally:
            ticket.gone = True
            self.waiting -= 1
            self.wake()

    def _try_take(self) -> float:
        """Take a place and give 0, or give the seconds until it is worth asking again."""
        if self.in_flight >= self.limit.limit:
            return math.inf
        now = self.clock.now()
        ready = self._ready_at(now)
        if ready > now:
            return ready - now
        self._started(now)
        self.in_flight += 1
        self.granted += 1
        return 0.0

    def _ready_at(self, now: float) -> float:
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
        """Have those look again who may find a place: the first in line, and some behind it."""
        queue = self._queue
        while queue and queue[0].gone:
            queue.popleft()
        free = self.limit.limit - self.in_flight
        if not queue or free <= 0:
            return
        queue[0].event.set()
        # Pace and pauses are the first one's business.
        if free > 1 and not self._interval and self.paused_until <= self.clock.now():
            for ticket in islice(queue, 1, min(free, WOKEN_AT_ONCE)):
                ticket.event.set()

    def pause(self, seconds: float) -> None:
        """Let no request start for so long."""
        self.paused_until = max(self.paused_until, self.clock.now() + seconds)

    def refused(self, epoch: int, error: APIStatusError) -> None:
        """An error status came; only refusals for load count."""
        if error.status_code not in OVERLOADED and not isinstance(error, RateLimitError):
            return
        self.refusals += 1
        if error.retry_after is not None:
            self.pause(error.retry_after)
        if self._adapts:
            self.limit.refused(epoch, self.in_flight)

    def succeeded(self, epoch: int) -> None:
        """A whole answer came."""
        if self._adapts:
            # Who waits beside a free place is about to take it, or waits for pace or pause.
            now = self.clock.now()
            held_back = self.waiting > 0 and self._ready_at(now) <= now
            binding = held_back or self.in_flight >= self.limit.limit
            self.limit.succeeded(epoch, binding=binding)
            self.wake()


class Slot:
    """One place among those in flight, its own or lent by another. Ends by `release`."""

    __slots__ = (
        "_borrower",
        "_ended",
        "_epoch",
        "_fresh",
        "_has_place",
        "_home",
        "_line",
        "_parked",
        "_wanted",
    )

    def __init__(self, line: Line) -> None:
        self._line = line
        self._has_place = False
        self._home: Slot | None = None
        """Who lent the place, or gets it when it is given up."""
        self._borrower: Slot | None = None
        self._parked = False
        """The place was given up for a while; it comes back with a request made under it."""
        self._wanted = 0
        """How many wait in line who could stand in this place."""
        self._fresh = False
        """The start that the place was given for has not been made use of."""
        self._ended = True
        self._epoch = 0

    async def acquire(self) -> None:
        """Take a place, waiting in line; does nothing where it has one. Cancelled, it has none."""
        if self._has_place or self._borrower is not None:
            return
        lenders = [slot for slot in _lent.get() if slot._line is self._line and not slot._ended]
        lenders = [slot for slot in lenders if slot is not self]
        self._home = lenders[-1] if lenders else None
        if self._home is None or not self._home._lend_to(self):
            for slot in lenders:
                slot._wanted += 1
            try:
                for slot in reversed(lenders):
                    slot.give_way()
                await self._line.enter()
            finally:
                for slot in lenders:
                    slot._wanted -= 1
            self._fresh = True
        self._has_place = True
        self._ended = self._parked = False
        self._epoch = self._line.limit.epoch

    def _lend_to(self, borrower: Slot) -> bool:
        if not self._has_place or self._borrower is not None:
            return False
        if not self._line.may_start(taken=self._fresh):
            return False
        self._fresh = False
        borrower._fresh = True
        self._borrower = borrower
        return True

    def release(self) -> None:
        """Be done with the place: it goes home, or to the next in line. Idempotent."""
        self._ended = True
        self._parked = False
        if self._has_place and self._borrower is None:
            self._give_up()

    def step_aside(self) -> None:
        """Hold nothing while waiting for something else than the line, nor let a lender hold it."""
        self.release()
        for slot in reversed(_lent.get()):
            if slot._line is self._line:
                slot.give_way()

    def give_way(self) -> bool:
        """Give the place up for a while, if nobody stands in it; whether it was."""
        idle = self._has_place and self._borrower is None and not self._ended
        if idle:
            self._parked = True
            self._give_up()
        return idle

    @contextmanager
    def offered(self) -> Generator[None]:
        """Within, the place is given up when anybody waits; `acquire` takes one again."""
        self._line.offered.add(self)
        if self._line.waiting:
            self.give_way()
        try:
            yield
        finally:
            self._line.offered.discard(self)

    def _give_up(self) -> None:
        self._has_place = False
        home = self._home
        if home is not None and home._borrower is self:
            home._borrower = None
            home._settle()
        elif home is not None and home._parked:
            home._parked = False
            home._has_place = True
            home._settle()
        else:
            self._line.leave()

    def _settle(self) -> None:
        """The place is idle: it stays only where nobody else could use it."""
        offered = self in self._line.offered and self._line.waiting
        if self._ended:
            self._give_up()
        elif self._wanted or offered:
            self.give_way()

    @property
    def line(self) -> Line:
        """Where it stands in line."""
        return self._line

    def refused(self, error: APIStatusError) -> None:
        """The request was answered with an error status; a limiter learns from some."""
        self._line.refused(self._epoch, error)

    def succeeded(self) -> None:
        """The request was answered in full."""
        self._line.succeeded(self._epoch)


_lent: ContextVar[tuple[Slot, ...]] = ContextVar("penstock_lent_slots", default=())


@contextmanager
def lent(slot: Slot) -> Generator[None]:
    """Let requests made within, by this task and those it starts, stand in this slot."""
    token = _lent.set((*_lent.get(), slot))
    try:
        yield
    finally:
        _lent.reset(token)


def lent_slots() -> tuple[Slot, ...]:
    """The slots this task stands in, the outermost first."""
    return _lent.get()
