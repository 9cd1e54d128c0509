"""Converts JSON values of other types to the nearest text or number."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Literal

from penstock._typed.members import is_list, is_object

__all__ = [
    "any_text",
    "as_number",
    "as_object",
    "as_text",
    "content_text",
    "count",
    "is_list",
    "is_object",
    "objects",
    "scrub",
    "whole",
]

_LONE_SURROGATE = "[\ud800-\udfff]"
_TWO_63 = 2**63
_TEXT_MEMBERS = ("text", "thinking", "reasoning", "refusal", "content")


def as_object(value: Any) -> dict[str, Any]:
    """Return the value if it is an object, else an empty one."""
    return value if is_object(value) else {}


def objects(value: Any) -> list[dict[str, Any]]:
    """Return the objects of a list; none if it is not a list."""
    return [item for item in value if is_object(item)] if is_list(value) else []


def scrub(value: Any) -> Any:
    """Return the value with U+FFFD for every lone surrogate, so that its text can be encoded.

    Servers that cut text between UTF-16 units send them as JSON escapes; UTF-8 has no form for
    them. The JSON parser has already joined proper pairs. By way of text, because looking at
    each value takes ten times as long. RecursionError if it is nested too deeply.
    """
    text = json.dumps(value, ensure_ascii=False)
    return json.loads(re.sub(_LONE_SURROGATE, "\ufffd", text))


def as_text(value: Any) -> str | None:
    """Return text as it is, a number as its JSON text, None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return json.dumps(value)


def as_number(value: Any) -> int | float | None:
    """Return a finite number of up to 64 bits; None for anything else."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if -_TWO_63 <= value < _TWO_63 else None


def whole(value: Any) -> int | None:
    """Return an integer, also from a float or from digits in a string; else None."""
    if isinstance(value, str):
        value = int(value) if value.isascii() and value.isdecimal() and len(value) < 20 else None
    elif isinstance(value, float) and math.isfinite(value):
        value = int(value)
    number = as_number(value)
    return None if number is None else int(number)


def count(value: Any) -> int:
    """Return a non-negative integer; 0 if there is none."""
    return max(whole(value) or 0, 0)


def content_text(content: Any, kind: Literal["text", "thinking", "refusal"]) -> str | None:
    """Return the text of one kind in a message's content; None if it has none of that kind.

    Content is a string, or a list of parts: strings, or objects such as
    `{"type": "text", "text": "..."}` and Mistral's
    `{"type": "thinking", "thinking": [{"type": "text", "text": "..."}]}`.
    """
    if is_list(content):
        texts = [text for part in content if (text := content_text(part, kind))]
        return "".join(texts) if texts else None
    found = "text"
    if is_object(content):
        named = content.get("type")
        if named in ("thinking", "reasoning") or "thinking" in content:
            found = "thinking"
        elif named == "refusal":
            found = "refusal"
    return any_text(content) if found == kind else None


def any_text(value: Any) -> str | None:
    """Return all text of a string or of parts, whatever their kind; None if there is none."""
    if is_list(value):
        texts = [text for part in value if (text := any_text(part))]
        return "".join(texts) if texts else None
    if is_object(value):
        members = (any_text(value[name]) for name in _TEXT_MEMBERS if name in value)
        return next((text for text in members if text is not None), None)
    return as_text(value)
