"""What a server says about an error, in any of the JSON shapes that servers use.

Known shapes (rules 3 and 11 of the wire):
OpenAI's `{"error": {"message", "type", "param", "code"}}`,
`{"error": "text"}`, vLLM's flat `{"object": "error", "message", "code"}`, FastAPI's
`{"detail": "text"}` and `{"detail": [{"loc", "msg"}]}`, Google's list of envelopes with
`status` as the type, Cloudflare's `{"errors": [...]}`, TGI's `{"error", "error_type"}`,
problem details (RFC 9457), and plain strings.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from penstock.types import decode_json

from .json_values import as_text, is_list, is_object, whole

__all__ = ["ErrorDetails", "error_details"]

_DEPTH = 6  # an envelope in a list in an envelope, and a few more
_ITEMS = 3  # errors of a list that go into the message

# In order of preference.
_MESSAGES = (
    "message",
    "msg",
    "detail",
    "error_message",
    "error_description",
    "description",
    "title",
)
_CODES = ("code", "error_code")
_TYPES = ("type", "error_type", "__type", "status")
_STATUSES = ("code", "status", "status_code", "http_status", "statusCode")
_JSON = ("{", "[")
_INNER = ("error", "errors", "detail", "message")


class ErrorDetails(NamedTuple):
    """An error in the server's words; None for what it does not say."""

    message: str | None = None
    """What a person should read."""
    code: str | int | None = None
    """For instance "model_not_found"."""
    type: str | None = None
    """For instance "invalid_request_error"."""
    param: str | None = None
    """The parameter of the request that the error is about."""
    status_code: int | None = None
    """The HTTP status that the error names, 400 to 599."""


def error_details(payload: Any) -> ErrorDetails:
    """Return the details of an error's parsed JSON, of an envelope around it, or of plain text."""
    return _details(payload, _DEPTH)


def _details(payload: Any, depth: int) -> ErrorDetails:
    if isinstance(payload, str):
        return _of_text(payload.strip(), depth)
    if depth and is_list(payload):
        return _of_several([_details(item, depth - 1) for item in payload[:_ITEMS]])
    if depth and is_object(payload):
        return _of_object(payload, depth - 1)
    return ErrorDetails()


def _of_text(text: str, depth: int) -> ErrorDetails:
    # Gateways put the error of the server behind them into their own, as JSON in a string.
    if depth and text.startswith(_JSON):
        try:
            inner = _details(decode_json(text.encode("utf-8", "replace")), depth - 1)
        except ValueError:
            pass
        else:
            if inner.message:
                return inner
    return ErrorDetails(message=text or None)


def _of_several(found: list[ErrorDetails]) -> ErrorDetails:
    if not found:
        return ErrorDetails()
    messages = [details.message for details in found if details.message]
    return found[0]._replace(message="; ".join(messages) or None)


def _of_object(payload: dict[str, Any], depth: int) -> ErrorDetails:
    message = _first_text(payload, _MESSAGES)
    param = as_text(payload.get("param"))
    place = payload.get("loc")
    if is_list(place):  # FastAPI: the place in the request
        steps = [text for step in place if (text := as_text(step)) and text.strip()]
        param = ".".join(steps) or None
        message = ": ".join(filter(None, (param, message))) or None
    own = ErrorDetails(
        message=message,
        code=_code(payload),
        type=_first_text(payload, _TYPES),
        param=param,
        status_code=_status_code(payload),
    )
    if message and message.lstrip().startswith(_JSON):
        quoted = _of_text(message.strip(), depth)
        own = _merged(own._replace(message=quoted.message), quoted)
    inner = next(
        (value for name in _INNER if is_object(value := payload.get(name)) or is_list(value)),
        payload.get("error"),
    )
    if isinstance(inner, str) and message:
        # Beside a message, it is the error's name: `{"error": "Not Found", "message": "..."}`.
        return own._replace(type=own.type or inner)
    return _merged(_details(inner, depth), own)


def _merged(inner: ErrorDetails, outer: ErrorDetails) -> ErrorDetails:
    missing = {
        name: getattr(outer, name) for name, value in inner._asdict().items() if value is None
    }
    return inner._replace(**missing)


def _first_text(payload: dict[str, Any], names: tuple[str, ...]) -> str | None:
    texts = (text for name in names if isinstance(text := payload.get(name), str) and text.strip())
    return next(texts, None)


def _code(payload: dict[str, Any]) -> str | int | None:
    for name in _CODES:
        code = payload.get(name)
        if (isinstance(code, str) and code) or (
            isinstance(code, int) and not isinstance(code, bool)
        ):
            return code
    return None


def _status_code(payload: dict[str, Any]) -> int | None:
    numbers = (whole(payload.get(name)) for name in _STATUSES)
    return next((number for number in numbers if number and 400 <= number <= 599), None)
