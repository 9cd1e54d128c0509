"""What a row gets, whatever happens: a dict with the same members, each of one type."""

from __future__ import annotations

from typing import TypedDict

from .._wire.whole_answer import completion_of
from ..batch.outcomes import Failure, Outcome, json_bytes
from ..errors import PenstockError

__all__ = ["Answer", "answer_of", "failed"]


class Answer(TypedDict):
    """One row's answer, or why it has none. Every member is always there."""

    text: str | None
    """The answer's text; None for a failure, or for an answer without text (a tool call)."""
    error: str | None
    """What kind of failure, as `penstock.batch.Failure.code`; None for an answer."""
    message: str | None
    """What a person should read about the failure; None for an answer."""
    status_code: int | None
    """The HTTP status; None if there was no response."""
    finish_reason: str | None
    """Why the model stopped, for instance "stop" or "length"."""
    prompt_tokens: int | None
    """Tokens of the prompt, as the server counted them."""
    completion_tokens: int | None
    """Tokens of the answer, as the server counted them."""
    requests: int
    """Requests that were sent for this row."""
    body: str | None
    """The JSON text of the answer, or of the server's error, with `raw`; else None."""


def answer_of(outcome: Outcome, *, raw: bool) -> Answer:
    """Return the answer that an outcome stands for."""
    failure = outcome.error
    if failure is not None:
        partial = b"" if failure.partial is None else json_bytes(failure.partial)
        return failed(
            failure,
            status_code=outcome.status_code,
            requests=outcome.requests,
            body=_text(outcome.body or partial) if raw else None,
        )
    try:
        completion = completion_of(outcome.body)
    except (PenstockError, ValueError) as error:
        return failed(
            Failure("bad_response", " ".join(str(error).split())),
            status_code=outcome.status_code,
            requests=outcome.requests,
            body=_text(outcome.body) if raw else None,
        )
    choice = completion.choices[0] if completion.choices else None
    usage = completion.usage
    return {
        "text": None if choice is None else _valid(choice.message.content),
        "error": None,
        "message": None,
        "status_code": outcome.status_code,
        "finish_reason": None if choice is None else _valid(choice.finish_reason),
        "prompt_tokens": None if usage is None else _count(usage.prompt_tokens),
        "completion_tokens": None if usage is None else _count(usage.completion_tokens),
        "requests": outcome.requests,
        "body": _text(outcome.body) if raw else None,
    }


def failed(
    failure: Failure, *, status_code: int | None = None, requests: int = 0, body: str | None = None
) -> Answer:
    """Return the answer of a row that has none."""
    return {
        "text": None,
        "error": failure.code,
        "message": _valid(failure.message),
        "status_code": failure.status_code if status_code is None else status_code,
        "finish_reason": None,
        "prompt_tokens": None,
        "completion_tokens": None,
        "requests": requests,
        "body": body,
    }


def _text(body: bytes) -> str | None:
    return body.decode("utf-8", "replace") if body else None


def _valid(text: object) -> str | None:
    """Return a text that a column can have: no lone surrogates, which are not Unicode."""
    if not isinstance(text, str):
        return None
    if text.isascii():
        return text
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _count(number: object) -> int | None:
    """Return a number that fits a column of 64 bits."""
    return number if type(number) is int and 0 <= number < 2**63 else None
