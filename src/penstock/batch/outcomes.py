"""What becomes of a row: an answer or a failure, and the line that says so."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from .._wire.json_values import as_object, objects
from .._wire.whole_answer import completion_of, text_completion_of
from ..types import ChatCompletion, TextChoice, TextCompletion, Usage, decode_json
from ..types.base import part_of

__all__ = ["Failure", "Outcome", "json_bytes"]


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a row has no answer."""

    code: str
    """What kind: "invalid_row", "duplicate_custom_id", "bad_request" (400), "permission_denied"
    (403), "not_found" (404), "too_large" (413), "unprocessable" (422), "status_NNN", "rate_limit",
    "server_error", "timeout", "connection", "interrupted" or "bad_response"."""
    message: str
    """One line for a person, without secrets."""
    status_code: int | None = None
    """The HTTP status, or the one that an error inside a 200 names; None without either."""
    type: str | None = None
    """The error's type in the server's answer, or None."""
    param: str | None = None
    """The parameter that the server complains about, or None."""
    partial: dict[str, Any] | None = None
    """The answer so far, where it was cut off while it was streamed; else None."""


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """One row's answer, or its failure."""

    index: int
    """Position of the row in the source, from 0."""
    custom_id: str | None
    """The row's own id; None for a line that has none."""
    id: str
    """Digest of what was asked: "penstock-" and 24 hexadecimal digits."""
    status_code: int | None
    """The HTTP status of the last response; None if there was none."""
    request_id: str | None
    """The server's id of the request, else `id`; None if there was no response."""
    body: bytes
    """The JSON text of the server's answer, or of its error; empty if there was no response."""
    error: Failure | None
    """Why there is no answer; None if there is one."""
    requests: int
    """Requests that were sent for this row."""
    started: float
    """When work on the row began, in seconds on the event loop's clock."""
    ended: float
    """When it ended, on the same clock."""

    @property
    def completion(self) -> ChatCompletion | TextCompletion | None:
        """The answer as a completion; None for a failure, and for what is not one."""
        payload = self._payload()
        if "choices" not in payload:
            return None
        choices = objects(payload["choices"])
        if any("text" in choice and "message" not in choice for choice in choices):
            return text_completion_of(self.body)
        return completion_of(self.body)

    @property
    def text(self) -> str | None:
        """The text of the first choice; None for a failure, or where there is none."""
        completion = self.completion
        if completion is None or not completion.choices:
            return None
        choice = completion.choices[0]
        return choice.text if isinstance(choice, TextChoice) else choice.message.content

    @property
    def usage(self) -> Usage | None:
        """The tokens that the server counted; None for a failure, or if it does not say."""
        return part_of(Usage, self._payload(), "usage")

    def _payload(self) -> dict[str, Any]:
        return {} if self.error is not None else as_object(decode_json(self.body))

    def to_line(self) -> bytes:
        """Return the whole line of an output or errors file, with its line break."""
        if self.status_code is None:
            response = b"null"
        else:
            response = b'{"status_code":%d,"request_id":%b,"body":%b}' % (
                self.status_code,
                json_bytes(self.request_id),
                self.body or b"null",
            )
        return b'{"id":"%b","custom_id":%b,"response":%b,"error":%b}\n' % (
            self.id.encode("ascii"),
            json_bytes(self.custom_id),
            response,
            b"null" if self.error is None else json_bytes(self.error),
        )


def json_bytes(value: object) -> bytes:
    """Return a value as JSON text on one line, whatever characters it has."""
    try:
        return _encode(value)
    except UnicodeEncodeError:  # a lone surrogate
        plain = msgspec.to_builtins(value)
        return json.dumps(plain, separators=(",", ":")).encode("ascii")


_encode = msgspec.json.Encoder().encode
