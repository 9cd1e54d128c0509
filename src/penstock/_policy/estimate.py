"""How many tokens a request will cost, before anybody has counted.

A quarter of a token for each byte of text (English has four letters to a token, Chinese one
character of three bytes), and as many for the answer as the request allows. Images, audio and
files count for a fixed number: their bytes say nothing. Rather too many than too few: what was
not used is given back when the answer is over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

__all__ = ["estimated_tokens", "used_tokens"]

BYTES_PER_TOKEN = 4
ATTACHMENT = 1000
"""Tokens of an image, a recording or a file."""
ANSWER = 512
"""Tokens of an answer where the request sets no bound."""
_OPAQUE = 2048  # characters without a blank: data and not text
_BOUNDS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


def estimated_tokens(request: Mapping[str, Any]) -> int:
    """Return an estimate of the tokens that a request with this JSON body costs, answer included.

    The answer counts `max_completion_tokens`, `max_tokens` or `max_output_tokens`, or 512 where
    a chat or a text completion has none of them, times `n`.
    """
    asks = "messages" in request or "prompt" in request
    bounds = [number for name in _BOUNDS if (number := _count(request.get(name))) is not None]
    answer = max(bounds, default=ANSWER if asks else 0)
    return _text_tokens(request) + answer * (_count(request.get("n")) or 1)


def used_tokens(usage: Any) -> int | None:
    """Return the tokens that a usage says were used, all in all; None if it says nothing.

    It is a `Usage`, or a mapping with the names of chat completions (`total_tokens`,
    `prompt_tokens`, `completion_tokens`) or of other interfaces (`input_tokens`,
    `output_tokens`).
    """
    if usage is None:
        return None
    named = usage if _is_mapping(usage) else _Attributes(usage)
    total = _count(named.get("total_tokens"))
    if not total:
        names = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens")
        total = sum(_count(named.get(name)) or 0 for name in names)
    return total or None


class _Attributes:
    def __init__(self, value: object) -> None:
        self._value = value

    def get(self, name: str) -> Any:
        return getattr(self._value, name, None)


def _text_tokens(request: Mapping[str, Any]) -> int:
    """Return the tokens of all text in the body, and of what is attached to it."""
    size = tokens = 0
    waiting: list[Any] = [request]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            if value.startswith("data:") or _is_opaque(value):
                tokens += ATTACHMENT
            else:
                size += len(value.encode("utf-8", "replace"))
        elif _is_mapping(value):
            waiting += value.values()
        elif _is_list(value):
            if value and isinstance(value[0], int):  # token ids
                tokens += len(value)
            else:
                waiting += value
    return tokens - (-size // BYTES_PER_TOKEN)


def _is_opaque(text: str) -> bool:
    # Base64, for instance. Chinese has no blanks, either.
    return len(text) > _OPAQUE and text.isascii() and " " not in text[:_OPAQUE]


def _count(value: Any) -> int | None:
    """Return a whole number above 0; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if 0 < value < 1e15 else None


def _is_mapping(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)
