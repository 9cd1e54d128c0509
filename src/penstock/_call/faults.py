"""Errors of the layers below, mapped to the public errors that callers see."""

from __future__ import annotations

from .._http.exchange import BodyTooLarge, Exchange, MalformedResponse
from .._http.network import ClosedLocally, ConnectionFailed
from .._wire.encoding import EncodingError
from .._wire.framing import FramingError
from ..errors import APIConnectionError, APIResponseError, StreamClosedError, StreamInterruptedError
from ..headers import request_id

__all__ = ["UNREADABLE", "public_error"]

UNREADABLE = (BodyTooLarge, FramingError, EncodingError)
"""What makes a body impossible to read, whatever the connection does."""


def public_error(error: Exception, exchange: Exchange | None) -> Exception:
    """Return the error a caller sees for `error` in this exchange; anything unknown as it is.

    A failed connection is an interrupted stream once the first byte of the body has come:
    that decides whether the request may be sent again.
    """
    rid = None if exchange is None else request_id(exchange.headers)
    if isinstance(error, ClosedLocally):
        return StreamClosedError("the stream was closed while it was being read")
    if isinstance(error, ConnectionFailed):
        begun = exchange is not None and exchange.body_bytes > 0
        kind = StreamInterruptedError if begun else APIConnectionError
        return kind(str(error), request_id=rid)
    if isinstance(error, (MalformedResponse, *UNREADABLE)):
        return APIResponseError(str(error), request_id=rid)
    return error
