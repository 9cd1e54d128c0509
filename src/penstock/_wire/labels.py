"""What a JSON body says of its answer, whatever the interface.

completions                {"id", "model", "choices": [{"finish_reason"}]}
responses, embeddings      {"id", "model"}
messages                   {"id", "model", "stop_reason"}
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


class _Choice(msgspec.Struct, gc=False):
    finish_reason: Any = None


class _Body(msgspec.Struct, gc=False):
    id: Any = None
    model: Any = None
    choices: list[_Choice] = []
    stop_reason: Any = None


_decode = msgspec.json.Decoder(_Body).decode


def labels_in(data: bytes) -> Labels:
    """Return what a body says; nothing where it is not JSON, or has other types."""
    try:
        body = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Labels()
    reasons = [choice.finish_reason for choice in body.choices] or [body.stop_reason]
    return Labels(
        _text(body.id), _text(body.model), tuple(reason for reason in reasons if _text(reason))
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
