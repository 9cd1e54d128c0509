"""The value of JSON text that is not whole yet."""

from __future__ import annotations

import re
from typing import Any, Literal, TypeAlias

import msgspec

__all__ = ["PartialJSON"]

_SPACE = " \t\r\n"
_TOKEN = re.compile(r'("(?:[^"\\]|\\.)*+")|([{}\[\],:])|([-+.\w]++)', re.DOTALL | re.ASCII)
_SCALAR = re.compile(r"(?:true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)\Z")
# As much of a string as stands on its own: no half escape, no half of a surrogate pair.
_OPEN_STRING = re.compile(
    r'"(?:[^"\\]|\\[^u]'
    r"|\\u(?![dD][89abAB])[0-9a-fA-F]{4}"
    r"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})*+",
    re.DOTALL,
)
_CLOSERS = {"{": "}", "[": "]"}

Expected: TypeAlias = Literal["value", "value or ]", "key", "key or }", ":", ", or end", "nothing"]


class PartialJSON:
    """Reads text that grows, and knows the value of what is there.

    Each token is read once, whatever the number of calls. A value is one decode of the text with
    what is open closed; a number, a literal or a member's name counts when it is whole.
    """

    __slots__ = ("_at", "_expected", "_good", "_open", "_value")

    def __init__(self) -> None:
        self._at = 0
        self._expected: Expected = "value"
        # The end of the last token after which the text only needs its brackets closed. No
        # bracket is opened or closed without moving it, so these are those that are open there.
        self._good = 0
        self._open: list[str] = []
        self._value: Any = None

    def value(self, text: str) -> Any:
        """Return the value of a text that begins with the one before; None before there is any.

        After something that is not JSON it stays the value of what was before it.
        """
        self._read(text)
        end, quote = self._good, ""
        if self._expected in ("value", "value or ]"):
            string = _OPEN_STRING.match(text, self._at)
            if string is not None:
                end, quote = string.end(), '"'
        closed = f"{text[:end]}{quote}{''.join(reversed(self._open))}"
        if end:
            try:
                self._value = msgspec.json.decode(closed)
            except (ValueError, RecursionError):
                pass
        return self._value

    def _read(self, text: str) -> None:
        while True:
            while self._at < len(text) and text[self._at] in _SPACE:
                self._at += 1
            token = _TOKEN.match(text, self._at)
            if token is None:
                return  # the end, an open string, or not JSON
            string, mark, scalar = token.groups()
            if scalar and token.end() == len(text):
                return  # it may go on
            if not (
                self._takes_value(string or scalar, is_string=bool(string))
                if mark is None
                else self._takes_mark(mark)
            ):
                return
            self._at = token.end()
            if self._expected in (", or end", "nothing", "value or ]", "key or }"):
                self._good = self._at

    def _takes_value(self, token: str, *, is_string: bool) -> bool:
        if self._expected in ("value", "value or ]"):
            self._expected = ", or end" if self._open else "nothing"
            return is_string or _SCALAR.match(token) is not None
        if is_string and self._expected in ("key", "key or }"):
            self._expected = ":"
            return True
        return False

    def _takes_mark(self, mark: str) -> bool:
        expected = self._expected
        if mark in _CLOSERS and expected in ("value", "value or ]"):
            self._open.append(_CLOSERS[mark])
            self._expected = "key or }" if mark == "{" else "value or ]"
        elif self._open and mark == self._open[-1] and expected in (", or end", _empty(mark)):
            self._open.pop()
            self._expected = ", or end" if self._open else "nothing"
        elif mark == "," and expected == ", or end":
            self._expected = "key" if self._open[-1] == "}" else "value"
        elif mark == ":" and expected == ":":
            self._expected = "value"
        else:
            return False
        return True


def _empty(closer: str) -> Expected:
    """Return what is expected directly after the bracket that this one closes."""
    return "key or }" if closer == "}" else "value or ]"
