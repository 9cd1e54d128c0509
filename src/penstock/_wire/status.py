"""The error of a response with an error status.

Rule 11 of the wire (docs/pages/internals/wire.md): the status decides, whatever the body
is. A body that cannot be read changes nothing.
"""

from __future__ import annotations

from typing import Any, TypeVar
from urllib.parse import urlsplit

from penstock.errors import APIStatusError, status_error_class
from penstock.headers import Headers, request_id
from penstock.types import Answer, decode_json

from .error_details import ErrorDetails, error_details
from .excerpt import is_too_deep, one_line, words

__all__ = ["status_error", "with_headers"]

_MESSAGE = 500  # characters of the server's message
_LABEL = 80

A = TypeVar("A", bound=Answer)


def with_headers(answer: A, headers: Headers) -> A:
    """Return the answer, which from now on knows the headers it came with."""
    vars(answer)["headers"] = headers
    return answer


def status_error(status: int, headers: Headers, body: bytes) -> APIStatusError:
    """Return the error for a response whose status is not 2xx."""
    payload, details = _read(body)
    if 300 <= status < 400:
        message = _redirect(status, headers.get("location"))
    else:
        message = _headline(status, details)
        if status in (404, 405) and not _names_a_model(details):
            message += "; check base_url"
    return status_error_class(status)(
        message,
        status_code=status,
        body=payload,
        code=details.code,
        type=details.type,
        param=details.param,
        request_id=request_id(headers),
        headers=headers,
    )


def _read(body: bytes) -> tuple[Any, ErrorDetails]:
    """Return the body, parsed if it is JSON of a moderate depth, and its details."""
    text = body.decode("utf-8", "replace")
    try:
        payload = decode_json(body)
    except ValueError:
        return text, ErrorDetails(message=words(text) or None)
    details = error_details(payload)
    if payload and details.message is None:
        details = details._replace(message=text.strip())
    return text if is_too_deep(payload) else payload, details


def _headline(status: int, details: ErrorDetails) -> str:
    label = details.type if details.code in (None, status, str(status)) else str(details.code)
    label = one_line(label, _LABEL) if label else ""
    # The title of a proxy's error page repeats the status.
    said = one_line(details.message or "", _MESSAGE).removeprefix(str(status)).lstrip(" :-")
    if not said:
        return f"{status} {label or _phrase(status)}"
    return f"{status} {label}: {said}" if label else f"{status}: {said}"


def _phrase(status: int) -> str:
    try:
        from http import HTTPStatus  # a large import, only for refusals without a word

        return HTTPStatus(status).phrase
    except (ValueError, OSError):  # or no file descriptor is left to load a module
        return "(unknown status)"


def _redirect(status: int, location: str | None) -> str:
    try:
        target = urlsplit(location or "")
        # Only origin and path: a query or user info may contain a secret.
        host = target.netloc.rpartition("@")[2]
    except ValueError:
        place = ""
    else:
        place = one_line(f"{target.scheme}://{host}{target.path}" if host else target.path)
    pointer = f", and the server points to {place}" if place else ""
    return f"{status} {_phrase(status)}: redirects are not followed{pointer}; check base_url"


def _names_a_model(details: ErrorDetails) -> bool:
    # A 404 may mean an unknown model at the right URL.
    said = (details.message, details.code, details.type, details.param)
    return any("model" in str(part).lower() for part in said)
