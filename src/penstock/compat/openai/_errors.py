"""Errors of penstock as those of the SDK.

The SDK makes the errors of a status itself, from the response. These are the others.
"""

from __future__ import annotations

import weakref
from typing import Any, cast

import openai

from ...errors import (
    APIConnectionError,
    APIResponseError,
    APITimeoutError,
    PenstockError,
    StreamClosedError,
    StreamError,
)

__all__ = ["Raises", "sdk_error"]


def sdk_error(error: PenstockError, request: Any, response: Any = None) -> openai.APIError:
    """Return the SDK's error for one of penstock. The caller raises it from `error`.

    `request` and `response` are those of httpx, for the attributes of the SDK's error.
    """
    said = str(error)
    if isinstance(error, APITimeoutError):
        timeout = openai.APITimeoutError(request)
        # Which limit it was; the SDK's own class has only one text.
        timeout.message = said
        timeout.args = (said,)
        return timeout
    if isinstance(error, StreamError):
        return _reported(error, request)
    if isinstance(error, APIResponseError) and response is not None:
        return openai.APIResponseValidationError(response, error.body, message=said)
    if isinstance(error, (APIConnectionError, StreamClosedError)):
        return openai.APIConnectionError(message=said, request=request)
    return openai.APIError(said, request, body=getattr(error, "body", None))


def _reported(error: StreamError, request: Any) -> openai.APIError:
    """Return the error that a server reported inside a stream."""
    # Body and words as the SDK has them: those of what the event's `error` holds.
    body: Any = _member(error.body, "error") or error.body
    said = _member(body, "message")
    words = said if said and isinstance(said, str) else str(error)
    reported = openai.APIError(words, request, body=body)
    reported.code = reported.code or (None if error.code is None else str(error.code))
    reported.type = reported.type or error.type
    reported.param = reported.param or error.param
    return reported


def _member(value: object, name: str) -> Any:
    return cast("dict[str, Any]", value).get(name) if isinstance(value, dict) else None


class Raises:
    """Makes the errors of one request, for the transport, which has no response yet.

    The request has it among its extensions; a strong reference back would be a cycle.
    """

    __slots__ = ("_request",)

    def __init__(self, request: Any) -> None:
        self._request = weakref.ref(request)

    def __call__(self, error: PenstockError) -> Exception:
        return sdk_error(error, self._request())
