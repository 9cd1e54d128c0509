"""Slots: claims on the places of a limiter.

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
- **Lost places.** A slot that is released while it is lent is *leaving*: its place moves on when
  the borrower is done.
- **A second event loop.** A context variable is copied into threads, and so into the event loops
  that run there. A slot of one loop never lends to a request of another, and a limiter moves to
  another loop only while nobody uses it: `Line.enter` raises RuntimeError before two loops wait
  for each other. A slot that is released in another thread (by the garbage collector) is released
  in its own loop.
- **Two starts for one place.** A pace (`per_second`) counts starts. The place that was given to an
  item counts as one start, which the item's first request uses up (`_fresh`); each further request
  in the same place counts as a start of its own.
- **Rates held by those who wait.** The rates of a minute count what is sent. An item reserves one
  request when its work begins (`begin`), as the end of the source may come in its place. What it
  reserved goes back when a request is made on its behalf, which reserves its own, tokens included,
  or when it gives its place up. What the request reserves beyond that must leave the first in line
  enough.

`slot_states` holds the states of a slot and every step between them.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial

from ..errors import APIStatusError
from ..headers import Headers
from .lent import lent_slots
from .line import Line
from .rates import Reservation, checked_tokens
from .slot_states import TRANSITIONS, SlotEvent, SlotState

__all__ = ["Slot", "request_slot"]


class Slot:
    """A claim on one place, its own or a lender's. `release` ends it."""

    __slots__ = (
        "_borrower",
        "_epoch",
        "_fresh",
        "_home",
        "_line",
        "_reservation",
        "_reserves",
        "_state",
        "_tokens",
        "_wanted",
    )

    def __init__(self, line: Line, *, tokens: int = 0, reserves: bool = True) -> None:
        self._line = line
        self._tokens = tokens
        """What the request may cost."""
        self._reserves = reserves and line.rates is not None
        """True if a place counts as a request; an item reserves when it begins."""
        self._reservation: Reservation | None = None
        """What it holds of the rates of a minute."""
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

    async def acquire(self, *, paced: bool = False) -> None:
        """Take a place, waiting in line if need be; does nothing if there is one already.

        With `paced`, the start was counted before. Cancelled, it holds nothing.
        """
        if self._state in (SlotState.HELD, SlotState.LENT, SlotState.LEAVING):
            return
        lenders = [
            slot
            for slot in lent_slots()
            if slot._line is self._line and slot._lends and slot is not self
        ]
        self._home = home = lenders[-1] if lenders else None
        reservation = Reservation(self._tokens) if self._reserves else None
        if home is None or not home._lend_to(self, reservation):
            if home is not None and reservation is not None:
                # It waits for the rates as well: the start that the item's place counted as is
                # its own.
                paced, home._fresh = home._fresh, False
            self._step(SlotEvent.QUEUE)
            for slot in lenders:
                slot._wanted += 1
            try:
                for slot in reversed(lenders):
                    slot.give_way()
                await self._line.enter(reservation, paced=paced)
            except BaseException:
                if home is not None and paced:
                    home._fresh = True
                self._step(SlotEvent.WITHDRAW)
                raise
            finally:
                for slot in lenders:
                    slot._wanted -= 1
            self._fresh = True
        self._reservation = reservation
        self._step(SlotEvent.TAKE)
        self._epoch = self._line.limit.epoch

    @property
    def begins(self) -> bool:
        """True for an item that has not reserved a request, where there is a rate to keep."""
        return not self._reserves and self._line.rates is not None

    async def begin(self) -> None:
        """Count an item's work as a request that is sent now, waiting in line if need be.

        Cancelled, it holds nothing.
        """
        rates = self._line.rates
        if not self.begins or rates is None:
            return
        self._reserves = True
        reservation = Reservation()
        if self._state is SlotState.HELD and self._line.has_room(reservation, paced=self._fresh):
            rates.reserve(self._line.clock.now(), reservation)
            self._reservation = reservation
        else:
            self.give_way()
            await self.acquire(paced=self._fresh)
        self.sent()

    def _lend_to(self, borrower: Slot, reservation: Reservation | None) -> bool:
        if self._state is not SlotState.HELD:
            return False
        line = self._line
        covered = reservation is None or self._covers(reservation)
        self._give_back()
        if reservation is not None and not covered:
            covered = line.has_room(reservation, paced=self._fresh)
        if not covered:
            return False
        if not line.may_start(counted=self._fresh):
            return False
        if reservation is not None and line.rates is not None:
            line.rates.reserve(line.clock.now(), reservation)
        self._fresh = False
        borrower._fresh = True
        self._borrower = borrower
        self._step(SlotEvent.LEND)
        return True

    def _covers(self, reservation: Reservation) -> bool:
        """Return True if what it holds of the rates is enough for the borrower as well."""
        own, rates = self._reservation, self._line.rates
        if own is None or rates is None:
            return False
        return own.tokens >= reservation.tokens and rates.holds(self._line.clock.now(), own)

    def release(self) -> None:
        """Give the place up for good: it goes home, or to the next in line. Idempotent.

        In another thread than the limiter's, its event loop does it when it comes round.
        """
        if self._line.home.is_elsewhere and self._line.home.run_there(self.release):
            return
        held = self._state is SlotState.HELD
        if self._reservation is not None:
            self._end_reservation(self._reservation)
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
        self._give_back()
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

    def sent(self) -> None:
        """Tell the limiter that the request is sent now; before that, `release` gives all back."""
        if self._reservation is not None and self._line.rates is not None:
            self._line.rates.send(self._line.clock.now(), self._reservation)

    def withdraw(self) -> None:
        """Tell the limiter that nothing was sent after all: `release` gives all back."""
        if self._reservation is not None:
            self._reservation.sent = False

    def settle(self, tokens: float) -> None:
        """Count the request with the tokens that it has cost, in place of the estimate.

        What is not settled when the slot is released stays as it was estimated. Raises TypeError
        or ValueError if it is not a number of tokens.
        """
        cost = checked_tokens(tokens)
        home = self._line.home
        if home.is_elsewhere and home.run_there(partial(self.settle, cost)):
            return
        if self._reservation is not None and self._line.rates is not None:
            self._line.rates.settle(self._line.clock.now(), self._reservation, cost)
            self._line.wake()

    def head_arrived(self, headers: Headers, longest: float) -> None:
        """Tell the limiter what a response says is left of its rates.

        It counts for so many seconds at most.
        """
        self._line.head_arrived(headers, longest)

    def _give_back(self) -> None:
        """Give back what is reserved for an item: nothing of it was sent on the item's behalf."""
        if self._reservation is not None:
            self.withdraw()
            self._end_reservation(self._reservation)

    def _end_reservation(self, reservation: Reservation) -> None:
        self._reservation = None
        if self._line.rates is not None:
            self._line.rates.close(self._line.clock.now(), reservation)

    def refused(self, error: APIStatusError, pause: float | None) -> None:
        """Tell the limiter that the request was answered with an error status.

        It has cost no tokens.
        """
        self.settle(0)
        self._line.refused(self._epoch, error, pause)

    def succeeded(self) -> None:
        """Tell the limiter that the request was answered in full."""
        self._line.succeeded(self._epoch)


def request_slot(line: Line, body: bytes) -> Slot:
    """Return a slot for a request with this body, whose tokens are estimated if they count.

    Raises what the limiter's `estimate` raises, and TypeError or ValueError if it returns no
    number of tokens.
    """
    return Slot(line, tokens=0 if line.rates is None else line.rates.estimate(body))
