"""What a JSON body, or the events of a stream, say of an answer, whatever the interface.

completions                {"id", "model", "choices": [{"finish_reason"}]}
embeddings                 {"model"}
responses                  {"id", "model"}; in events {"response": {"id", "model"}}
messages                   {"id", "model", "stop_reason"}; in events
{"message": {"id", "model"}}, {"delta": {"stop_reason"}}
"""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.types import ChatCompletion, TextCompletion

__all__ = ["Labels", "labels_in"]


class Labels(msgspec.Struct, frozen=True):
    """Who answered, and why the answer ended."""

    id: str | None = None
    """The id of the answer."""
    model: str | None = None
    """The model that answered."""
    finish_reasons: tuple[str, ...] = ()
    """The reason of each choice that had one, in order."""

    @classmethod
    def of(cls, answer: ChatCompletion | TextCompletion) -> Labels:
        """Return those of a completion."""
        reasons = tuple(each.finish_reason for each in answer.choices if each.finish_reason)
        return cls(answer.id or None, answer.model or None, reasons)


_NONE = Labels()


class _Choice(msgspec.Struct, gc=False):
    finish_reason: Any = None


class _Inner(msgspec.Struct, gc=False):
    id: Any = None
    model: Any = None
    stop_reason: Any = None


class _Body(msgspec.Struct, gc=False):
    id: Any = None
    model: Any = None
    choices: list[_Choice] = []
    stop_reason: Any = None
    # The last three are text in other events.
    response: _Inner | str | None = None
    message: _Inner | str | None = None
    delta: _Inner | str | None = None


def labels_in(data: bytes, before: Labels = _NONE) -> Labels:
    """Return what a body says, or the next event of a stream after those that said `before`.

    What is not JSON, or has other types, says nothing.
    """
    try:
        body = msgspec.json.decode(data, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return before
    inner = [each for each in (body.response, body.message, body.delta) if isinstance(each, _Inner)]
    reasons = [choice.finish_reason for choice in body.choices]
    reasons += [body.stop_reason, *(each.stop_reason for each in inner)]
    return Labels(
        before.id or _text(body, *inner, name="id"),
        before.model or _text(body, *inner, name="model"),
        before.finish_reasons + tuple(each for each in reasons if each and isinstance(each, str)),
    )


def _text(*members: _Body | _Inner, name: str) -> str | None:
    for each in members:
        value = getattr(each, name)
        if value and isinstance(value, str):
            return value
    return None
