"""A bound on requests in flight and on their rate, shared by all that use it."""

from __future__ import annotations

import math
from types import TracebackType

import anyio.lowlevel
import msgspec

from .._policy.adaptive import AdaptiveLimit
from .line import Line, PauseReason
from .place import Place
from .rates import Estimate, Rates, Reservation, checked_tokens
from .slots import Slot

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
    """Seconds until the next request may start, if there is a slot for it; else 0. The next one is
    the first in line, or, where nobody waits, one without tokens."""
    max_in_flight: int
    """Slots that may be taken at most."""
    paused_by: PauseReason | None
    """Why it starts nothing for `paused_for` seconds; None if it is not paused.

    - "retry_after": a server asked to wait
    - "backoff": a server refused for load and did not say how long
    - "header": a server's headers say that not enough is left
    - "caller": `pause` was called
    - "per_second", "requests", "tokens": that rate is used up
    """
    requests_available: int | None
    """Requests that may start now; None without `requests_per_minute`."""
    tokens_available: int | None
    """Tokens that may be reserved now; None without `tokens_per_minute`, as are the next three."""
    tokens_held: int | None
    """Tokens reserved for requests that are not over."""
    tokens_reserved: int | None
    """Tokens reserved so far, in all."""
    tokens_settled: int | None
    """Tokens that all requests which are over have cost, by their usage or, without one, as
    estimated."""


class Limiter:
    """At most `max_in_flight` requests at once, and no more in a second or a minute than allowed.

    First come, first served. Requests start at a steady rate of `per_second`; after a lull, up to
    one second's worth may start at once. In any minute, at most `requests_per_minute` are sent,
    which cost at most `tokens_per_minute`; they start as early as that allows.

    Tokens are counted as a provider counts them. Before a request is sent, `estimate` is called
    with the parameters in its body, and the tokens that it returns are reserved. When the answer is
    over, they are settled with its usage: what was too much may be used at once, what was too
    little is missing from then on. Without a usage the estimate stays; an error status has cost
    no tokens; a request that was not sent has cost nothing. Each attempt reserves anew. A request
    that is larger than a whole minute waits for an unused minute, and counts as all of it. By
    default the estimate is a quarter of the bytes of text in the body, 1000 tokens for each image,
    recording or file, and as many for the answer as the request allows, or 512. `estimate` is
    called in the event loop.

    What a response's `x-ratelimit-remaining-*` headers and their like say is left is taken where it
    is less, until the reset that they name, or for ten seconds; they count only where there is a
    limit per minute for the same unit.

    A server's Retry-After (429, 503) pauses every user of the limiter until then; a 429 without one
    pauses them for a back-off. Nothing that a server says stops it for longer than the client's
    `max_retry_wait`. With `adaptive`, a 429 or an overload halves the number in flight, and every
    full window of successes adds one, between `min_in_flight` and `max_in_flight`.

    One limiter may serve any number of clients and fan-outs, nested or not, all in one event
    loop. While it is in use there, using it in another loop raises RuntimeError. A request made
    for a fan-out's item uses the item's slot. An item whose function makes no request counts as
    one request without tokens.

    Use it as a context manager to limit other work: `async with limiter: ...`, which is one request
    without tokens. A request made inside by a client that shares the limiter takes a second slot;
    inside of `async with limiter.place()` it uses that one. Waiting can be cancelled, and then
    takes nothing.

    Raises TypeError or ValueError for bounds that are not whole numbers with
    1 <= `min_in_flight` <= `max_in_flight`, and for rates that are not numbers above 0.
    """

    def __init__(
        self,
        max_in_flight: int,
        *,
        min_in_flight: int = 1,
        adaptive: bool = False,
        per_second: float | None = None,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        estimate: Estimate | None = None,
    ) -> None:
        for number in (max_in_flight, min_in_flight):
            if isinstance(number, bool) or not isinstance(number, int):
                raise TypeError(f"a limiter's bounds must be whole numbers, not {number!r}")
        if not 1 <= min_in_flight <= max_in_flight:
            raise ValueError(
                f"a limiter needs 1 <= min_in_flight <= max_in_flight,"
                f" not {min_in_flight} and {max_in_flight}"
            )
        _check_rate("per_second", per_second)
        _check_rate("requests_per_minute", requests_per_minute)
        _check_rate("tokens_per_minute", tokens_per_minute)
        if estimate is not None and not callable(estimate):
            raise TypeError(f"estimate must be a function, not {type(estimate).__name__}")
        rates = None
        if requests_per_minute is not None or tokens_per_minute is not None:
            rates = Rates(requests_per_minute, tokens_per_minute, estimate)
        limit = AdaptiveLimit(min_in_flight, max_in_flight)
        self.line: Line = Line(limit, adapts=adaptive, per_second=per_second, rates=rates)
        """The line in front of it, for penstock's own use."""

    async def acquire(self, tokens: float = 0) -> Slot:
        """Wait in line for a slot and return it; the caller must release it.

        It counts as one request, which costs so many tokens until `slot.settle(tokens)` says what
        it has cost. Cancelled, it takes nothing.
        """
        slot = Slot(self.line, tokens=checked_tokens(tokens))
        await slot.acquire()
        slot.sent()
        return slot

    async def __aenter__(self) -> Limiter:
        # A turn for the others, also where there is a slot: the caller may loop.
        await anyio.lowlevel.checkpoint()
        if self.line.rates is None:
            await self.line.enter()
        else:
            reservation = Reservation()
            await self.line.enter(reservation)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.line.leave()

    def place(self) -> Place:
        """Take a place for the calls made within: `async with limiter.place(): ...`.

        Requests of clients that share the limiter use this place, one after the other, as those
        of a fan-out's item do. Entering waits in line; cancelled, it takes nothing. Between the
        wait and the request there is time to look whether it is still wanted. Leave the block
        before you wait for something else, for instance to ask again later.
        """
        return Place(self.line)

    def pause(self, seconds: float) -> None:
        """Start no request for so many seconds; a shorter pause does not end a longer one."""
        self.line.pause(seconds)

    def statistics(self) -> LimiterStatistics:
        """Return the figures of this moment."""
        line = self.line
        now = line.clock.now()
        paused_for, paused_by = line.held_back(now)
        rates = line.rates
        requests = None if rates is None else rates.requests
        tokens = None if rates is None else rates.tokens
        return LimiterStatistics(
            in_flight=line.in_flight,
            limit=line.limit.limit,
            waiting=line.waiting,
            granted=line.granted,
            refused=line.refusals,
            cuts=line.limit.cuts,
            paused_for=paused_for,
            max_in_flight=line.limit.maximum,
            paused_by=paused_by,
            requests_available=None if requests is None else requests.available(now),
            tokens_available=None if tokens is None else tokens.available(now),
            tokens_held=None if tokens is None or rates is None else rates.held,
            tokens_reserved=None if tokens is None or rates is None else rates.reserved,
            tokens_settled=None if tokens is None or rates is None else rates.settled,
        )


def _check_rate(name: str, rate: object) -> None:
    if rate is None:
        return
    if isinstance(rate, bool) or not isinstance(rate, (int, float)):
        raise TypeError(f"{name} is {rate!r}: give a number above 0, or None")
    if not 0 < rate < math.inf:
        raise ValueError(f"{name} is {rate!r}: give a number above 0, or None")
