"""Whether a 2xx response is an answer, and its body as one line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from .._client.response import Response
from .._wire.json_values import as_object
from .._wire.stream_error import body_excerpt
from .._wire.whole_answer import reported_error
from ..errors import APIResponseError
from ..types import decode_json
from .lines import BOM

__all__ = ["Answer", "answer_of", "one_line_body", "tokens_of"]


class Answer(msgspec.Struct, frozen=True, gc=False):
    """An answer as it goes into an output line."""

    status_code: int
    """The HTTP status."""
    request_id: str | None
    """The server's id of the request, or None."""
    body: bytes
    """JSON text without line breaks."""
    tokens: Mapping[str, int]
    """Token counts by the server's names, for instance "prompt_tokens"."""


class _Seen(msgspec.Struct):
    usage: Any = None


def answer_of(response: Response) -> Answer:
    """Return the answer in a response.

    The body stays as the server sent it, without line breaks. Raises a StreamError if it reports
    an error, and an APIResponseError if it is not JSON, secrets masked.
    """
    sent = response.content.removeprefix(BOM)
    try:
        # With its line breaks: in a string they would make it no JSON.
        usage = _decode(sent).usage
        if not sent.isascii():
            sent.decode("utf-8")  # msgspec skips strings unread
    except (msgspec.MsgspecError, ValueError, RecursionError):
        sent, usage = _tolerant(response, sent)
    body = one_line_body(sent)
    error = reported_error(body)
    if error is not None:
        error.request_id = response.request_id
        raise response.masked(error)
    return Answer(response.status_code, response.request_id, body, tokens_of(usage))


def one_line_body(body: bytes) -> bytes:
    """Return JSON text without line breaks, which JSON has only between its tokens, and BOM."""
    if b"\n" in body or b"\r" in body:
        body = body.translate(None, b"\r\n")
    return body.removeprefix(BOM)


def tokens_of(usage: Any) -> Mapping[str, int]:
    """Return the token counts among the members of a `usage`."""
    return {
        name: count
        for name, count in as_object(usage).items()
        if type(count) is int and name.endswith("_tokens")
    }


def _tolerant(response: Response, body: bytes) -> tuple[bytes, Any]:
    """Return the body as JSON in UTF-8, and its `usage`: a list, or what msgspec refuses."""
    try:
        payload = decode_json(body)
        if payload is None:
            raise ValueError("it is null")
    except ValueError as error:
        raised = APIResponseError(
            f"the response is not JSON: {error}" if body.strip() else "the response is empty",
            body=body_excerpt(response.content),
            status_code=response.status_code,
            headers=response.headers,
            request_id=response.request_id,
        )
        raise response.masked(raised) from None
    text = body.decode("utf-8", "replace").encode()
    return _without_constants(text), as_object(payload).get("usage")


def _without_constants(text: bytes) -> bytes:
    """Return the text with null for NaN and infinity, which Python servers write and JSON lacks."""
    if b"NaN" not in text and b"Infinity" not in text:
        return text
    return _STRING_OR_CONSTANT.sub(lambda found: found[1] or b"null", text)


_STRING_OR_CONSTANT = re.compile(rb'("(?:[^"\\]|\\.)*")|NaN|-?Infinity', re.DOTALL)

_decode = msgspec.json.Decoder(_Seen).decode
