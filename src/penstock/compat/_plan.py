"""How a request that a client above has planned is sent, in place of the usual way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import msgspec

from ..errors import PenstockError
from ..timeouts import Timeouts

__all__ = ["PLAN", "RAISES", "STREAM", "Plan"]

PLAN = "penstock.plan"
"""Where a request's extensions have its `Plan`."""
RAISES = "penstock.raises"
"""Where the extensions of a request without a plan have what makes the errors of its body, once
that has begun. httpx's errors do not say so, and clients send again what failed with them."""
STREAM = "penstock.stream"
"""Where a response's extensions have its open completion stream."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One chat completion: sent by penstock's own rules, retries included."""

    max_retries: int = 0
    """How often it is sent again, before the first byte of its body."""
    timeouts: Timeouts | None = None
    """Its deadlines; None takes those of the transport and of the request."""
    model: str | None = None
    """The model asked, for observers."""
    choices: int = 1
    """How many choices it asks for."""
    stream: bool = True
    """Whether its answer is streamed: then the response's extensions have it open."""
    renew: Callable[[int], Awaitable[Mapping[bytes, bytes]]] | None = None
    """Gives the headers that change when it is sent again, from how many attempts failed."""
    raises: Callable[[PenstockError], Exception] | None = None
    """Makes what the transport raises; None for the errors of httpx."""
