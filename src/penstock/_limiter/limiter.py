"""A bound on requests in flight, and on their rate, shared by whoever is given it."""

from __future__ import annotations

import math
from types import TracebackType

import msgspec

from .._policy.adaptive import AdaptiveLimit
from .slots import Line, Slot

__all__ = ["Limiter", "LimiterStatistics"]


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


class Limiter:
    """At most `max_in_flight` requests at once, `per_second` started in a second.

    First come, first served. Starts keep a steady pace; after a lull up to one second's
    worth may be caught up at once. A server's Retry-After (429, 503) pauses every user of
    the limiter until then. With `adaptive`, a 429 or an overload halves the number in
    flight, and every full window of successes adds one back, between `min_in_flight` and
    `max_in_flight`.

    One limiter may serve any number of clients and fan-outs, nested or not, all in one
    event loop: a request of a fan-out's item stands in the item's place. On its own it is
    a context manager, `async with limiter: ...`, for what no client of it does: a request
    of such a client within takes a place beside. Waiting is cancellable and then takes
    nothing.
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
        self.line: Line = Line(limit, adapts=adaptive, per_second=per_second)

    async def acquire(self) -> Slot:
        """Wait in line for a slot; the caller releases it."""
        slot = Slot(self.line)
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
        self.line.pause(seconds)

    def statistics(self) -> LimiterStatistics:
        """Numbers of this moment."""
        line = self.line
        return LimiterStatistics(
            in_flight=line.in_flight,
            limit=line.limit.limit,
            waiting=line.waiting,
            granted=line.granted,
            refused=line.refusals,
            cuts=line.limit.cuts,
            paused_for=max(0.0, line.paused_until - line.clock.now()),
        )
