"""The error of a response with a success status.

Rules 3 and 4 of the wire (docs/pages/internals/wire.md).
"""

from __future__ import annotations

from typing import Any

from penstock.errors import APIResponseError, IncompleteStreamError, StreamError
from penstock.types import decode_json

from .error_details import error_details
from .excerpt import excerpt, is_too_deep, one_line, words
from .json_values import is_object

__all__ = [
    "EVENT_STREAM",
    "MAX_BODY_EXCERPT",
    "body_excerpt",
    "is_event_stream",
    "reports_error",
    "stream_error",
    "unstreamed_error",
]

EVENT_STREAM = "text/event-stream"
"""The media type of an event stream (WHATWG HTML, 9.2.5)."""

_MESSAGE = 500  # characters of the server's message
_LABEL = 80
MAX_BODY_EXCERPT = 4096
"""Characters of a body that an error keeps as its excerpt."""


def is_event_stream(content_type: str | None) -> bool:
    """Return whether the content type is text/event-stream (WHATWG HTML, 9.2.5)."""
    essence = (content_type or "").partition(";")[0]
    return essence.strip().lower() == EVENT_STREAM


def reports_error(payload: Any) -> bool:
    """Return whether this JSON is an error: a truthy `error`, or vLLM's `object: "error"`."""
    return is_object(payload) and bool(payload.get("error") or payload.get("object") == "error")


def stream_error(payload: Any, data: bytes = b"") -> StreamError:
    """Return the error that this JSON, or this text, reports inside a success response.

    `data` is the text of the payload; an excerpt of it stands in for a missing message.
    """
    details = error_details(payload)
    label = one_line(str(details.code) if details.code is not None else details.type or "", _LABEL)
    said = (
        one_line(details.message, _MESSAGE)
        if details.message
        else excerpt(data) or "an error without a message"
    )
    return StreamError(
        f"{label}: {said}" if label else said,
        code=details.code,
        type=details.type,
        param=details.param,
        status_code=details.status_code,
        body=body_excerpt(data) if is_too_deep(payload) else payload,
    )


def unstreamed_error(
    body: bytes, content_type: str | None
) -> StreamError | APIResponseError | IncompleteStreamError:
    """Return the error for a body, or its beginning, that should have been an event stream.

    A JSON error with a success status becomes a StreamError, which has its code and type.
    """
    if not body.strip():
        if is_event_stream(content_type):
            return IncompleteStreamError("the event stream ended with an empty body")
        return APIResponseError(
            f"an empty body instead of an event stream{_declared(content_type)}"
        )
    text = body.decode("utf-8", "replace")
    try:
        payload = decode_json(body)
    except ValueError:
        said = words(text)
    else:
        if reports_error(payload):
            return stream_error(payload, body)
        said = error_details(payload).message or ""
        if not said and is_object(payload) and payload.get("choices"):
            return APIResponseError(
                "a whole completion instead of an event stream: the server ignores stream=true",
                body=body_excerpt(body),
            )
        said = said or text
    return APIResponseError(
        f"not an event stream{_declared(content_type)}: {one_line(said, _MESSAGE)}",
        body=body_excerpt(body),
    )


def body_excerpt(body: bytes) -> str:
    """Return as much of a body as an error keeps."""
    return body[: 4 * MAX_BODY_EXCERPT].decode("utf-8", "replace")[:MAX_BODY_EXCERPT]


def _declared(content_type: str | None) -> str:
    return f" (content type {one_line(content_type, _LABEL)})" if content_type else ""
