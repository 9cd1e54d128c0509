"""A bound on requests in flight, and on their rate, shared by whoever is given it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType

import anyio
import msgspec

from .._policy.adaptive import AdaptiveLimit
from ..errors import APIStatusError, RateLimitError

__all__ = ["Limiter", "LimiterStatistics", "Slot", "lent", "lent_slots"]

# Service unavailable, and "overloaded" as Anthropic's gateways say it.
OVERLOADED = (503, 529)


class LimiterStatistics(msgspec.Struct, frozen=True):
    """A limiter at one moment."""

    in_flight: int
    limit: int
    """How many may be in flight now; below the maximum after an adaptive cut."""
    waiting: int
    granted: int
    """Slots given out so far."""
    refused: int
    """Refusals (429, overload) reported so far."""
    cuts: int
    """How often the adaptive limit was cut."""
    paused_for: float
    """Seconds until new requests may start, because a server asked to wait."""


class _Ticket:
    __slots__ = ("event", "gone")

    def __init__(self) -> None:
        self.event = anyio.Event()
        self.gone = False


class _Line:
    """The line in front of a limiter, and those it has let through."""

    def __init__(self, limit: AdaptiveLimit, *, adapts: bool, per_second: float | None) -> None:
        self.limit = limit
        self.in_flight = 0
        self.waiting = 0
        self.granted = 0
        self.refusals = 0
        self.paused_until = -math.inf
        self._adapts = adapts
        self._interval = 0.0 if per_second is None else 1 / per_second
        # Generic cell rate algorithm: what a pause left unused, up to a second's worth, may
        # be caught up at once. There is nothing to catch up at the start.
        self._ahead = max(0.0, 1 - self._interval)
        self._next_start: float | None = None
        self._queue: deque[_Ticket] = deque()

    async def enter(self) -> None:
        """Wait in line, then take a place. Cancelled, nothing is taken."""
        if not self._queue and self._try_take() <= 0:
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
                with anyio.move_on_after(None if wait == math.inf else wait):
                    await ticket.event.wait()
                    ticket.event = anyio.Event()
        finally:
            ticket.gone = True
            self.waiting -= 1
            self.wake_first()

    def _try_take(self) -> float:
        """Take a place and give 0, or give the seconds until it is worth asking again."""
        if self.in_flight >= self.limit.limit:
            return math.inf
        now = anyio.current_time()
        if self._next_start is None:
            self._next_start = now + self._ahead
        ready = max(self.paused_until, self._next_start - self._ahead)
        if ready > now:
            return ready - now
        self._next_start = max(self._next_start, now) + self._interval
        self.in_flight += 1
        self.granted += 1
        return 0.0

    def leave(self) -> None:
        """Give a place back."""
        self.in_flight -= 1
        self.wake_first()

    def wake_first(self) -> None:
        """Have the first in line look again."""
        queue = self._queue
        while queue and queue[0].gone:
            queue.popleft()
        if queue and self.in_flight < self.limit.limit:
            queue[0].event.set()

    def refused(self, epoch: int, error: APIStatusError) -> None:
        """An error status came; only refusals for load count."""
        if error.status_code not in OVERLOADED and not isinstance(error, RateLimitError):
            return
        self.refusals += 1
        if error.retry_after is not None:
            self.paused_until = max(self.paused_until, anyio.current_time() + error.retry_after)
        if self._adapts:
            self.limit.refused(epoch, self.in_flight)

    def succeeded(self, epoch: int) -> None:
        """A whole answer came."""
        if self._adapts:
            binding = bool(self.waiting) or self.in_flight >= self.limit.limit
            self.limit.succeeded(epoch, binding=binding)
            self.wake_first()


class Slot:
    """One place among those in flight. Ends by `release`, which is idempotent."""

    __slots__ = ("_epoch", "_held", "_line")

    def __init__(self, limiter: Limiter) -> None:
        self._line = limiter.line
        self._held = False
        self._epoch = 0

    async def acquire(self) -> None:
        """Wait in line for the place; does nothing while it is held."""
        if not self._held:
            await self._line.enter()
            self._held = True
            self._epoch = self._line.limit.epoch

    def release(self) -> None:
        """Give the place to the next in line."""
        if self._held:
            self._held = False
            self._line.leave()

    def is_of(self, limiter: Limiter) -> bool:
        """Whether it is a place of this limiter."""
        return self._line is limiter.line

    def refused(self, error: APIStatusError) -> None:
        """The request was answered with an error status; a limiter learns from some."""
        self._line.refused(self._epoch, error)

    def succeeded(self) -> None:
        """The request was answered in full."""
        self._line.succeeded(self._epoch)


class Limiter:
    """At most `max_in_flight` requests at once, `per_second` started in a second.

    First come, first served. Starts keep a steady pace; after a lull up to one second's
    worth may be caught up at once. A server's Retry-After (429, 503) pauses every user of
    the limiter until then. With `adaptive`, a 429 or an overload halves the number in
    flight, and every full window of successes adds one back, between `min_in_flight` and
    `max_in_flight`.

    One limiter may serve any number of clients and fan-outs, all in one event loop. On its
    own: `async with limiter: ...`. Waiting is cancellable and then takes nothing.
    """

    def __init__(
        self,
        max_in_flight: int,
        *,
        min_in_flight: int = 1,
        adaptive: bool = False,
        per_second: float | None = None,
    ) -> None:
        for number in (max_in_flight, min_in_flight):
            if isinstance(number, bool) or not isinstance(number, int):
                raise TypeError(f"a limiter's bounds have to be whole numbers, not {number!r}")
        if not 1 <= min_in_flight <= max_in_flight:
            raise ValueError(
                f"a limiter needs 1 <= min_in_flight <= max_in_flight,"
                f" not {min_in_flight} and {max_in_flight}"
            )
        if per_second is not None and not (0 < per_second < math.inf):
            raise ValueError(f"per_second is {per_second!r}: give a number above 0, or None")
        limit = AdaptiveLimit(min_in_flight, max_in_flight)
        self.line = _Line(limit, adapts=adaptive, per_second=per_second)

    async def acquire(self) -> Slot:
        """Wait in line for a slot; the caller releases it."""
        slot = Slot(self)
        await slot.acquire()
        return slot

    async def __aenter__(self) -> Limiter:
        await self.line.enter()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.line.leave()

    def pause(self, seconds: float) -> None:
        """Start no request for so long; a shorter pause does not end a longer one."""
        self.line.paused_until = max(self.line.paused_until, anyio.current_time() + seconds)

    def statistics(self) -> LimiterStatistics:
        """Numbers of this moment."""
        line = self.line
        pause = 0.0 if line.paused_until == -math.inf else line.paused_until - anyio.current_time()
        return LimiterStatistics(
            in_flight=line.in_flight,
            limit=line.limit.limit,
            waiting=line.waiting,
            granted=line.granted,
            refused=line.refusals,
            cuts=line.limit.cuts,
            paused_for=max(0.0, pause),
        )


_lent: ContextVar[tuple[Slot, ...]] = ContextVar("penstock_lent_slots", default=())


@contextmanager
def lent(slot: Slot) -> Generator[None]:
    """Let requests made within, by this task, stand in this slot.

    A fan-out holds a slot for each item; a client with the same limiter would wait for
    another one while holding it, and enough of those wait for ever.
    """
    token = _lent.set((*_lent.get(), slot))
    try:
        yield
    finally:
        _lent.reset(token)


def lent_slots() -> tuple[Slot, ...]:
    """The slots this task stands in, the outermost first."""
    return _lent.get()
