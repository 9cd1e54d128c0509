"""What an error means for a row: it fails, it is asked again, or the account is refused.

    a  400, 403, 404, 413, 422, other 4xx      the row fails at once
    b  401, 402, insufficient_quota            the run stops
    c  408, 409, 5xx, timeouts, an error inside a 200, no JSON, an answer cut off
                                               asked again, whole
    d  429, 503, 529                           asked again, more often
    e  no connection                           asked again

Whether a retry of d and e counts is decided in `outage`.
"""

from __future__ import annotations

import re
from typing import Any, Literal, TypeAlias

import msgspec

from .._policy.retry import is_overload
from ..errors import (
    APIConnectionError,
    APIResponseError,
    APIStatusError,
    APITimeoutError,
    ConnectTimeout,
    PenstockError,
    StreamError,
    StreamInterruptedError,
)
from .outcomes import Failure, json_bytes

__all__ = ["Kind", "Verdict", "verdict_of"]

Kind: TypeAlias = Literal["fails", "refused", "again", "overload", "connection"]
"""The letters of the module's table, in words."""

_CODES = {
    400: "bad_request",
    403: "permission_denied",
    404: "not_found",
    413: "too_large",
    422: "unprocessable",
    429: "rate_limit",
}


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What an error means for the row that met it."""

    kind: Kind
    """What is done about it."""
    failure: Failure
    """What is said about it, if the row fails."""
    cut: bool = False
    """True if an answer had begun, which may have to be paid for."""
    wait: float | None = None
    """Seconds that the server asks to wait, or None."""
    status_code: int | None = None
    """The HTTP status of the response; None without one."""
    request_id: str | None = None
    """The server's id of the request, or None."""
    body: bytes = b""
    """The server's error as JSON text; empty without a response."""


def verdict_of(error: PenstockError) -> Verdict:
    """Return what an error of a request means for its row."""
    if isinstance(error, APIStatusError):
        return _of_status(error)
    message = _message(error)
    if isinstance(error, StreamError):
        status = error.status_code
        refused = status in (401, 402) or _is_quota(error)
        code = "rate_limit" if status == 429 else "server_error"
        partial = _partial(error)
        return Verdict(
            "refused" if refused else "again",
            Failure(code, message, status_code=status, type=error.type, param=error.param,
                    partial=partial),
            cut=partial is not None,
            status_code=200,
            request_id=error.request_id,
            body=json_bytes(error.body),
        )  # fmt: skip
    if isinstance(error, APIResponseError):
        return Verdict(
            "again",
            Failure("bad_response", message, status_code=error.status_code),
            status_code=error.status_code or 200,
            request_id=error.request_id,
            body=json_bytes(error.body),
        )
    if isinstance(error, StreamInterruptedError):
        partial = _partial(error)
        return Verdict("again", Failure("interrupted", message, partial=partial), cut=True)
    if isinstance(error, ConnectTimeout):
        return Verdict("connection", Failure("connection", message))
    if isinstance(error, APITimeoutError):
        partial = _partial(error)
        return Verdict("again", Failure("timeout", message, partial=partial), cut=bool(partial))
    if isinstance(error, APIConnectionError):
        return Verdict("connection", Failure("connection", message))
    return Verdict("fails", Failure("bad_response", message))


def _of_status(error: APIStatusError) -> Verdict:
    status = error.status_code
    if status in (401, 402) or _is_quota(error):
        kind: Kind = "refused"
    elif is_overload(error):
        kind = "overload"
    elif status in (408, 409) or status >= 500:
        kind = "again"
    else:
        kind = "fails"
    code = _CODES.get(status) or ("server_error" if status >= 500 else f"status_{status}")
    return Verdict(
        kind,
        Failure(code, _message(error), status_code=status, type=error.type, param=error.param),
        wait=error.retry_after,
        status_code=status,
        request_id=error.request_id,
        body=json_bytes(error.body),
    )


def _is_quota(error: APIStatusError | StreamError) -> bool:
    return "insufficient_quota" in (error.code, error.type)


def _partial(error: PenstockError) -> dict[str, Any] | None:
    """Return the answer so far; None if it had not begun."""
    partial = error.partial
    return None if partial is None or not partial.choices else partial.to_dict()


def _message(error: PenstockError) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return _UNPRINTABLE.sub("\ufffd", text)


_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]")
