"""A refusal: a response with a status other than success, read as far as it helps, as an error."""

from __future__ import annotations

import contextlib
import time

import anyio

from .._http.exchange import Exchange
from .._http.network import ConnectionFailed
from .._policy.retry_after import asked_wait
from .._wire.status import status_error
from ..errors import APIStatusError
from .faults import UNREADABLE

__all__ = [
    "ERROR_BODY_BYTES",
    "ERROR_BODY_SECONDS",
    "ERROR_EXCERPT_BYTES",
    "read_refusal",
    "refusal_error",
]

ERROR_BODY_BYTES = 1024 * 1024
"""An error's body above this is cut to its excerpt: what a person can use stands at its start."""
ERROR_EXCERPT_BYTES = 64 * 1024
"""What is kept of an error's body that cannot be read to its end."""
ERROR_BODY_SECONDS = 10.0
"""Nor is the body waited for any longer: the status is known, and a slot is held."""


async def read_refusal(exchange: Exchange, until: float) -> APIStatusError:
    """Read the body until then, on the event loop's clock, and return the error.

    The status is what counts, whatever becomes of the body (rule 11 of the wire). A cancelled
    call loses nothing and may be repeated.
    """
    try:
        with (
            contextlib.suppress(ConnectionFailed, TimeoutError),
            anyio.CancelScope(deadline=until),
        ):
            await exchange.read_all(ERROR_BODY_BYTES)
        body = exchange.collected
    except UNREADABLE:
        body = exchange.collected[:ERROR_EXCERPT_BYTES]
    return refusal_error(exchange, body)


def refusal_error(exchange: Exchange, body: bytes) -> APIStatusError:
    """Return the error of a refusal with this body, or this beginning of one."""
    error = status_error(exchange.status, exchange.headers, body)
    error.retry_after = asked_wait(exchange.status, exchange.headers, error.body, time.time())
    return error
