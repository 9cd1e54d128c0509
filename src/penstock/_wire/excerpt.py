"""Excerpts of a response for an error's message."""

from __future__ import annotations

import re
from typing import Any

from .json_values import is_list, is_object

__all__ = ["excerpt", "one_line", "words"]

_EXCERPT = 200  # characters: enough to recognise a body, short enough for a log line
_PAGE = 32 * 1024  # characters of a web page that are searched for text

_TITLE = r"(?i)<title[^<>]*>([^<]*)"
# Each pattern takes linear time, even if a page is cut off inside an element.
_HIDDEN = r"(?is)<(script|style|head)\b.*?(?:</\1\s*>|\Z)"
_TAG = r"<[^<>]*>"


def one_line(text: str, limit: int = _EXCERPT) -> str:
    """Return the beginning of the text as one line of printable characters."""
    # Cut first: a body may be megabytes of text, and start with blanks.
    line = " ".join(text.lstrip()[: 8 * limit].split())
    shown = "".join(char if char.isprintable() else "\ufffd" for char in line[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


def excerpt(data: bytes, limit: int = _EXCERPT) -> str:
    """Return the beginning of a body as one line of text."""
    return one_line(data[: 32 * limit].decode("utf-8", "replace"), limit)


def words(text: str) -> str:
    """Return the text of a body that is not JSON; of a web page the title, or else its text."""
    text = text.strip()
    if not text.startswith("<"):
        return text
    page = text[:_PAGE]
    title = re.search(_TITLE, page)
    title_words = title[1].strip() if title else ""
    shown = title_words or re.sub(_TAG, " ", re.sub(_HIDDEN, " ", page))
    try:
        from html import unescape  # a large table of names, which only web pages need
    except OSError:  # no file descriptor is left to load a module
        return shown.strip()
    return unescape(shown).strip()


# An error's envelope has 3 to 6 levels. deepcopy needs about four frames per level, and Python
# allows 1000 in total.
MAX_DEPTH = 64


def is_too_deep(payload: Any) -> bool:
    """Return whether parsed JSON nests more than MAX_DEPTH lists and objects."""
    level = [payload]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for value in level:
            if is_object(value):
                inner += value.values()
            elif is_list(value):
                inner += value
        if not inner:
            return False
        level = inner
    return any(is_object(value) or is_list(value) for value in level)
