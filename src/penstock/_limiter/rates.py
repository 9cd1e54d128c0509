"""What may start within a minute: requests, and the tokens that they cost.

A request reserves its estimate when it takes a slot. From `send` on that counts for a minute. When
the answer is over, `settle` puts its usage in place of the estimate. `close` ends it: what was not
settled stays as estimated, and what was not sent is given back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeGuard

import msgspec

from .._policy.estimate import BYTES_PER_TOKEN, estimated_tokens
from .._policy.quotas import Quota
from .._policy.window import Booking, Window

__all__ = ["Estimate", "Rates", "Reservation"]

Estimate = Callable[[Mapping[str, Any]], float]
"""Takes the parameters in a request's body, and returns the tokens that it may cost."""


class Reservation:
    """What one request takes of the rates: one request, and its tokens."""

    __slots__ = ("booked_requests", "booked_tokens", "counted", "sent", "tokens")

    def __init__(self, tokens: int = 0) -> None:
        self.tokens: int = tokens
        """The estimate, as it is reserved."""
        self.sent: bool = False
        """True if the server may have seen the request."""
        self.counted: int = tokens
        """What the request has cost, as far as is known."""
        self.booked_requests: Booking | None = None
        self.booked_tokens: Booking | None = None


class Rates:
    """The rates of one limiter, and what is reserved of them."""

    __slots__ = ("_estimate", "held", "requests", "reserved", "settled", "tokens")

    def __init__(
        self,
        requests_per_minute: float | None,
        tokens_per_minute: float | None,
        estimate: Estimate | None,
    ) -> None:
        self.requests: Window | None = (
            None if requests_per_minute is None else Window(requests_per_minute)
        )
        self.tokens: Window | None = (
            None if tokens_per_minute is None else Window(tokens_per_minute)
        )
        self._estimate: Estimate = estimated_tokens if estimate is None else estimate
        self.held: int = 0
        """Tokens reserved for requests that are not over."""
        self.reserved: int = 0
        """Tokens reserved so far."""
        self.settled: int = 0
        """Tokens that requests have cost which are over."""

    def estimate(self, body: bytes) -> int:
        """Return the tokens that a request with this body may cost.

        Raises TypeError or ValueError if the caller's `estimate` returns no number of tokens,
        and what it raises.
        """
        if self.tokens is None or not body:
            return 0
        try:
            request: Any = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            request = None
        if not _is_object(request):  # there are no parameters to look at
            return -(-len(body) // BYTES_PER_TOKEN)
        return checked_tokens(self._estimate(request))

    # --- a request's way ---

    def ready_at(self, now: float, reservation: Reservation) -> float:
        """Return the time from which the request may start; not after `now` if it may."""
        ready = now
        if self.requests is not None:
            ready = self.requests.ready_at(now, 1)
        if self.tokens is not None:
            ready = max(ready, self.tokens.ready_at(now, reservation.tokens))
        return ready

    def has_room(self, now: float, reservation: Reservation, first: Reservation | None) -> bool:
        """Return True if the request may start now, and the first in line could as well."""
        if first is None:
            return self.ready_at(now, reservation) <= now
        tokens = reservation.tokens + first.tokens
        return (self.requests is None or self.requests.has_room(now, 2)) and (
            self.tokens is None or self.tokens.has_room(now, tokens)
        )

    def held_back_by(
        self, now: float, reservation: Reservation
    ) -> tuple[float, Literal["requests", "tokens", "header"]]:
        """Return what `ready_at` does, and which limit says so. Any thread may ask."""
        best = now
        reason: Literal["requests", "tokens", "header"] = "requests"
        if self.requests is not None:
            best, lowered = self.requests.looked_at(now, 1)
            reason = "header" if lowered else "requests"
        if self.tokens is not None:
            at, lowered = self.tokens.looked_at(now, reservation.tokens)
            if at > best:
                best, reason = at, "header" if lowered else "tokens"
        return best, reason

    def holds(self, now: float, reservation: Reservation) -> bool:
        """Return True if all that was reserved still counts."""
        booked = (reservation.booked_requests, reservation.booked_tokens)
        return all(booking is None or booking.counts(now) for booking in booked)

    def reserve(self, now: float, reservation: Reservation) -> None:
        """Book the request, whether or not it fits."""
        if self.requests is not None:
            reservation.booked_requests = self.requests.book(now, 1)
        if self.tokens is not None:
            reservation.booked_tokens = self.tokens.book(now, reservation.tokens)
            self.held += reservation.tokens
            self.reserved += reservation.tokens

    def send(self, now: float, reservation: Reservation) -> None:
        """Note that the request is sent now: its minute begins."""
        reservation.sent = True
        if self.requests is not None and reservation.booked_requests is not None:
            self.requests.move(now, reservation.booked_requests)
        if self.tokens is not None and reservation.booked_tokens is not None:
            self.tokens.move(now, reservation.booked_tokens)

    def settle(self, now: float, reservation: Reservation, tokens: int) -> None:
        """Count the request with what it has cost, in place of the estimate."""
        if self.tokens is not None and reservation.booked_tokens is not None:
            self.tokens.change(now, reservation.booked_tokens, tokens)
            reservation.counted = tokens

    def close(self, now: float, reservation: Reservation) -> None:
        """End it: unless it was sent, all is given back."""
        if not reservation.sent:
            if self.requests is not None and reservation.booked_requests is not None:
                self.requests.change(now, reservation.booked_requests, 0)
            self.settle(now, reservation, 0)
        if reservation.booked_tokens is not None:
            self.held -= reservation.tokens
            self.settled += reservation.counted
        reservation.booked_requests = reservation.booked_tokens = None

    # --- what servers say ---

    def lower(self, now: float, quotas: Sequence[Quota], longest: float) -> None:
        """Take what servers say is left; it counts for so many seconds at most."""
        for quota in quotas:
            window = self.requests if quota.unit == "requests" else self.tokens
            if window is not None:
                reset = UNNAMED_RESET if quota.reset is None else quota.reset
                window.lower(now, quota.remaining, min(reset, longest))


def _is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


UNNAMED_RESET = 10.0
"""Seconds for which a number counts whose reset the server does not name."""


def checked_tokens(tokens: object) -> int:
    """Return a number of tokens, rounded up; TypeError or ValueError if it is not one."""
    if isinstance(tokens, bool) or not isinstance(tokens, (int, float)):
        raise TypeError(
            f"an estimate must be a number of tokens, not {type(tokens).__name__}:"
            " give a function that is not async and returns a number"
        )
    if not 0 <= tokens < math.inf:
        raise ValueError(f"an estimate is a number of tokens from 0 on, not {tokens!r}")
    return math.ceil(tokens)
