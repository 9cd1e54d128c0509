"""A bound on requests in flight and on their rate, shared by all that use it."""

from __future__ import annotations

import math
from types import TracebackType

import anyio.lowlevel
import msgspec

from .._policy.adaptive import AdaptiveLimit
from .slots import Line, Slot

__all__ = ["Limiter", "LimiterStatistics"]


class LimiterStatistics(msgspec.Struct, frozen=True):
    """A limiter at one moment."""

    in_flight: int
    """Slots taken now."""
    limit: int
    """Slots that may be taken now; below `max_in_flight` after an adaptive cut."""
    waiting: int
    """Tasks that wait in line for a slot."""
    granted: int
    """Slots given out so far."""
    refused: int
    """Refusals for load (429, 503, 529) reported so far."""
    cuts: int
    """Number of times the adaptive limit was cut."""
    paused_for: float
    """Seconds until new requests may start, because a server asked to wait; else 0."""


class Limiter:
    """At most `max_in_flight` requests at once, of which `per_second` start in a second.

    First come, first served. Requests start at a steady rate; after a lull, up to one second's
    worth may start at once. A server's Retry-After (429, 503) pauses every user of the limiter
    until then, but no longer than the client's `max_retry_wait`; a 429 without one pauses them
    for a back-off. With `adaptive`, a 429 or an overload halves the number in flight, and every
    full window of successes adds one, between `min_in_flight` and `max_in_flight`.

    One limiter may serve any number of clients and fan-outs, nested or not, all in one event
    loop. While it is in use there, using it in another loop raises RuntimeError. A request made
    for a fan-out's item uses the item's slot.

    Use it as a context manager to limit other work: `async with limiter: ...`. A request made
    inside by a client that shares the limiter takes a second slot. Waiting can be cancelled, and
    then takes nothing.

    Raises TypeError or ValueError for bounds that are not whole numbers with
    1 <= `min_in_flight` <= `max_in_flight`, and ValueError for a `per_second` not above 0.
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
                raise TypeError(f"a limiter's bounds must be whole numbers, not {number!r}")
        if not 1 <= min_in_flight <= max_in_flight:
            raise ValueError(
                f"a limiter needs 1 <= min_in_flight <= max_in_flight,"
                f" not {min_in_flight} and {max_in_flight}"
            )
        if per_second is not None and not (0 < per_second < math.inf):
            raise ValueError(f"per_second is {per_second!r}: give a number above 0, or None")
        limit = AdaptiveLimit(min_in_flight, max_in_flight)
        self.line: Line = Line(limit, adapts=adaptive, per_second=per_second)
        """The line in front of it, for penstock's own use."""

    async def acquire(self) -> Slot:
        """Wait in line for a slot and return it; the caller must release it."""
        slot = Slot(self.line)
        await slot.acquire()
        return slot

    async def __aenter__(self) -> Limiter:
        # A turn for the others, also where there is a slot: the caller may loop.
        await anyio.lowlevel.checkpoint()
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
        """Start no request for so many seconds; a shorter pause does not end a longer one."""
        self.line.pause(seconds)

    def statistics(self) -> LimiterStatistics:
        """Return the figures of this moment."""
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
