"""The line in front of a limiter, and the slots that stand in it.

A limiter has a number of places. A `Line` counts those that are taken and queues the tasks that
wait for one. A `Slot` is one holder's claim: a request's, or that of a fan-out's item.

The hard part is that both kinds of holder may share one limiter. A fan-out takes a place for an
item before it pulls the item, and the request made for the item needs a place as well. With two
separate places a limiter of 1 would deadlock. So an item's slot is *lent*: requests made on its
behalf use its place, one after the other.

    Limiter(2)          in_flight 2
    ┌─────────┬─────────┐
    │ place 1 │ place 2 │     queue: request C, request D, ...
    └────┬────┴────┬────┘
      item A    item B        slots of a fan-out, lent to what runs on their behalf
         │         │
     request A  request B     slots of clients' requests: each borrows its item's place

`lent(slot)` puts a slot into a context variable, so the function that a fan-out calls, and the
tasks that it starts, find the slots that they run under: `lent_slots()`, the outermost first.

What this defends against:

- **Deadlock by nesting.** A request that finds its lender's place in use (an item that makes two
  requests at once, or a fan-out inside a fan-out) queues. A waiter first returns any idle place
  lent to it: while something waits in line on behalf of a slot (`_wanted`), the slot does not
  keep a place idle. It is *parked*, its place goes to the line, and the first place taken on its
  behalf comes home when that request ends. So no holder waits for a place that it keeps from
  itself, however users of one limiter are nested.
- **Holding a place while asleep.** A request that waits to be sent again releases its slot and
  parks its lenders (`step_aside`). A source of items that takes its time offers the place of its
  next item to the waiters (`offered`).
- **Lost places.** No place is handed to a task: the first in line is woken and takes it itself,
  so a task that was cancelled in the meantime loses nothing. A slot that is released while it is
  lent is *leaving*: its place moves on when the borrower is done.
- **A second event loop.** A context variable is copied into threads, and so into the event loops
  that run there. A slot of one loop never lends to a request of another, and a limiter moves to
  another loop only while nobody uses it: `Line.enter` raises RuntimeError before two loops wait
  for each other. A slot that is released in another thread (by the garbage collector) is released
  in its own loop.
- **Two starts for one place.** A rate counts starts. The place that was given to an item counts
  as one start, which the item's first request uses up (`_fresh`); each further request in the
  same place counts as a start of its own.

`slot_states` holds the states of a slot and every step between them.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice

import anyio

from .._policy.adaptive import AdaptiveLimit
from .._policy.retry import is_overload
from ..errors import APIStatusError
from .home_loop import HomeLoop
from .run_clock import RunClock
from .slot_states import TRANSITIONS, SlotEvent, SlotState

__all__ = ["Line", "Slot", "lent", "lent_slots"]

_logger = logging.getLogger("penstock")

# Wake at most this many waiters at once. Waking one fills a single place per loop iteration;
# waking all is quadratic.
WOKEN_AT_ONCE = 16


class _Ticket:
    __slots__ = ("event",)

    def __init__(self) -> None:
        self.event = anyio.Event()


class Line:
    """The line in front of a limiter, and the count of places taken."""

    def __init__(self, limit: AdaptiveLimit, *, adapts: bool, per_second: float | None) -> None:
        self.limit = limit
        self.in_flight: int = 0
        self.granted: int = 0
        self.refusals: int = 0
        self.clock: RunClock = RunClock()
        self.home: HomeLoop = HomeLoop()
        self.paused_until: float = -math.inf
        """On `clock`: no request starts before it."""
        self._adapts = adapts
        self._interval = 0.0 if per_second is None else 1 / per_second
        # Generic cell rate algorithm: what a pause left unused, up to a second's worth, may
        # be caught up at once. There is nothing to catch up at the start.
        self._ahead = max(0.0, 1 - self._interval)
        self._next_start: float | None = None
        # A linked list: the first is found, and any one removed, in constant time.
        self._queue: OrderedDict[_Ticket, bool] = OrderedDict()
        self.offered: set[Slot] = set()
        """Slots whose holders give their place up as soon as somebody waits."""

    def may_start(self, *, counted: bool) -> bool:
        """Return True if pause and rate let a request start now in a place that is there.

        The request counts as a start, unless its place was `counted` for it.
        """
        now = self.clock.now()
        if counted:
            return self.paused_until <= now
        if self._ready_at(now) > now:
            return False
        self._started(now)
        return True

    async def enter(self) -> None:
        """Wait in line, then take a place. Cancelled, it takes nothing.

        Raises RuntimeError if the limiter is in use in another event loop.
        """
        with self.home.moving:
            if self.home.move_here(in_use=self.in_flight > 0 or self.waiting > 0):
                # Those who waited in a loop that has ended never take a place.
                self._queue.clear()
            if not self._queue and self._try_take() <= 0:
                return
            if any(slot.give_way() for slot in list(self.offered)) and self._try_take() <= 0:
                return
            ticket = _Ticket()
            self._queue[ticket] = True
        try:
            # The first in line takes the place itself: nothing is handed to a task that may
            # have been cancelled in the meantime.
            while True:
                wait = self._try_take() if next(iter(self._queue)) is ticket else math.inf
                if wait <= 0:
                    return
                with anyio.move_on_after(wait):
                    await ticket.event.wait()
                    ticket.event = anyio.Event()
        finally:
            if self._queue.pop(ticket, False):
                self.wake()

    @property
    def waiting(self) -> int:
        """Tasks that wait in line."""
        return len(self._queue)

    def _try_take(self) -> float:
        """Take a place and return 0, or return the seconds after which to try again."""
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
        """Wake the waiters that may find a place: the first in line, and some behind it."""
        queue = self._queue
        free = self.limit.limit - self.in_flight
        if not queue or free <= 0:
            return
        next(iter(queue)).event.set()
        # Only the first in line waits for rate and pause.
        if free > 1 and not self._interval and self.paused_until <= self.clock.now():
            for ticket in islice(queue, 1, min(free, WOKEN_AT_ONCE)):
                ticket.event.set()

    def pause(self, seconds: float) -> None:
        """Start no request for so many seconds."""
        self.paused_until = max(self.paused_until, self.clock.now() + seconds)

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
            self.pause(pause)
            # Once per pause, not for every sibling that is refused as well.
            if not paused and error.retry_after is not None and error.retry_after > pause:
                _logger.warning(
                    "the server asks to wait %.0f s, longer than max_retry_wait:"
                    " other requests wait %.0f s",
                    error.retry_after,
                    pause,
                )
        if self._adapts:
            self.limit.refused(epoch, self.in_flight)

    def succeeded(self, epoch: int) -> None:
        """Learn from a complete answer."""
        if self._adapts:
            # A waiter beside a free place is about to take it, or waits for pause or rate.
            now = self.clock.now()
            held_back = self.waiting > 0 and self._ready_at(now) <= now
            binding = held_back or self.in_flight >= self.limit.limit
            self.limit.succeeded(epoch, binding=binding)
            self.wake()


class Slot:
    """A claim on one place, its own or a lender's. `release` ends it."""

    __slots__ = ("_borrower", "_epoch", "_fresh", "_home", "_line", "_state", "_wanted")

    def __init__(self, line: Line) -> None:
        self._line = line
        self._state = SlotState.FREE
        self._home: Slot | None = None
        """The slot that lent the place, or that gets it when this one gives it up."""
        self._borrower: Slot | None = None
        """The slot that uses the place while this one is lent."""
        self._wanted = 0
        """Number of waiters in line that could use this slot's place."""
        self._fresh = False
        """True while the start that the place counted as has not been used."""
        self._epoch = 0

    async def acquire(self) -> None:
        """Take a place, waiting in line if need be; does nothing if there is one already.

        Cancelled, it holds nothing.
        """
        if self._state in (SlotState.HELD, SlotState.LENT, SlotState.LEAVING):
            return
        lenders = [
            slot
            for slot in lent_slots()
            if slot._line is self._line and slot._lends and slot is not self
        ]
        self._home = lenders[-1] if lenders else None
        if self._home is None or not self._home._lend_to(self):
            self._step(SlotEvent.QUEUE)
            for slot in lenders:
                slot._wanted += 1
            try:
                for slot in reversed(lenders):
                    slot.give_way()
                await self._line.enter()
            except BaseException:
                self._step(SlotEvent.WITHDRAW)
                raise
            finally:
                for slot in lenders:
                    slot._wanted -= 1
            self._fresh = True
        self._step(SlotEvent.TAKE)
        self._epoch = self._line.limit.epoch

    def _lend_to(self, borrower: Slot) -> bool:
        if self._state is not SlotState.HELD:
            return False
        if not self._line.may_start(counted=self._fresh):
            return False
        self._fresh = False
        borrower._fresh = True
        self._borrower = borrower
        self._step(SlotEvent.LEND)
        return True

    def release(self) -> None:
        """Give the place up for good: it goes home, or to the next in line. Idempotent.

        In another thread than the limiter's, its event loop does it when it comes round.
        """
        if self._line.home.is_elsewhere and self._line.home.run_there(self.release):
            return
        held = self._state is SlotState.HELD
        self._step(SlotEvent.RELEASE)
        if held:
            self._pass_on()

    def step_aside(self) -> None:
        """Release it and park its lenders: nothing is held while waiting for something else."""
        self.release()
        for slot in reversed(lent_slots()):
            if slot._line is self._line:
                slot.give_way()

    def give_way(self) -> bool:
        """Park it if its place is idle. Return True if that gave a place up."""
        if self._state is not SlotState.HELD:
            return False
        self._step(SlotEvent.PARK)
        self._pass_on()
        return True

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

    def _pass_on(self) -> None:
        """Give the place to the lender or to a parked slot it was taken for, else to the line."""
        home = self._home
        if home is not None and home._borrower is self:
            home._borrower = None
            home._take_back()
        elif home is not None and home._state is SlotState.PARKED:
            home._take_back()
        else:
            self._line.leave()

    def _take_back(self) -> None:
        leaving = self._state is SlotState.LEAVING
        self._step(SlotEvent.RETURN)
        offered = self in self._line.offered and self._line.waiting
        if leaving:
            self._pass_on()
        elif self._wanted or offered:
            # Idle now: it stays only where nobody else could use it.
            self.give_way()

    def _step(self, event: SlotEvent) -> None:
        self._state = TRANSITIONS[self._state, event]

    @property
    def _lends(self) -> bool:
        """True if requests made on its behalf may use its place, or wait in its name."""
        return self._state in (SlotState.HELD, SlotState.LENT, SlotState.PARKED)

    @property
    def line(self) -> Line:
        """The line that it stands in."""
        return self._line

    def refused(self, error: APIStatusError, pause: float | None) -> None:
        """Tell the limiter that the request was answered with an error status."""
        self._line.refused(self._epoch, error, pause)

    def succeeded(self) -> None:
        """Tell the limiter that the request was answered in full."""
        self._line.succeeded(self._epoch)


_lent: ContextVar[tuple[Slot, ...]] = ContextVar("penstock_lent_slots", default=())


@contextmanager
def lent(slot: Slot) -> Generator[None]:
    """Lend this slot to requests made within, by this task and the tasks it starts."""
    token = _lent.set((*_lent.get(), slot))
    try:
        yield
    finally:
        _lent.reset(token)


def lent_slots() -> tuple[Slot, ...]:
    """Return the slots of this event loop that are lent to this task, the outermost first."""
    lent = _lent.get()
    return tuple(slot for slot in lent if slot.line.home.is_here) if lent else lent
