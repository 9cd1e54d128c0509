"""What else the JSON in an answer may be, if the whole of the text is none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from .decoding import decode_as

__all__ = ["decode_forgivingly"]

_THINKING = r"(?s)\s*<(think|thinking|reasoning)>.*?</\1>"
_FENCE = r"(?ms)^[ \t]*```[^\n`]*\n(.*?)^[ \t]*```[ \t]*$"


def decode_forgivingly(kind: Any, text: str) -> Any:
    """Decode as `decode_as`, also JSON behind `<think>`, in a code fence, or encoded twice.

    The text as it is goes first. If nothing in it is valid, ValueError is about the innermost
    JSON that was found.
    """
    failure: ValueError | None = None
    for candidate in _candidates(text):
        try:
            return decode_as(kind, candidate)
        except ValueError as error:
            failure = error
    assert failure is not None
    raise failure


def _candidates(text: str) -> Iterator[str]:
    yield text
    answer = re.sub(_THINKING, "", text, count=1) if re.match(_THINKING, text) else text
    if answer != text:
        yield answer
    fence = re.search(_FENCE, answer)
    if fence is not None:
        answer = fence[1]
        yield answer
    try:
        inner = msgspec.json.decode(answer, type=str)
    except (msgspec.MsgspecError, ValueError):
        return
    yield inner
