"""Tells whether text that arrives in pieces is a whole JSON object by now.

Asking after each piece takes time linear in the text. Decoding each time would be quadratic.
"""

from __future__ import annotations

import re

import msgspec

__all__ = ["WholeObject"]

# Brackets and quotes that are looked at, of which no arguments have so many. Each takes longer
# than the rest of a byte's way.
_MOST_SIGNS = 262_144

# JSON's own (RFC 8259, 2); str.strip() removes more.
_BLANKS = " \t\n\r"
_IN_STRING = re.compile(r'["\\]')
_BESIDE_STRINGS = re.compile(r'["{}\[\]]')


class WholeObject:
    """Follows brackets and strings, and decodes once, when the brackets are closed."""

    __slots__ = ("_begun", "_depth", "_escaped", "_in_string", "_pieces", "_signs", "_valid")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._begun = False
        self._depth = 0
        self._signs = 0
        self._in_string = False
        self._escaped = False
        # Set once the brackets are closed, or once the text cannot become an object.
        self._valid: bool | None = None

    def feed(self, piece: str) -> None:
        """Take the next piece of the text."""
        position = 0
        if self._valid is None and not self._begun:
            start = piece.lstrip(_BLANKS)
            if not start:
                return
            self._begun = True
            if start[0] != "{":
                self._end(False)
            position = len(piece) - len(start)
        if self._valid is None:
            self._pieces.append(piece)
            position = self._follow(piece, position)
        if self._valid and piece[position:].strip(_BLANKS):
            self._valid = False

    def __bool__(self) -> bool:
        return self._valid is True

    def _follow(self, piece: str, position: int) -> int:
        """Read brackets and strings; return where the outermost bracket closes, or the end."""
        while position < len(piece):
            if self._escaped:
                self._escaped = False
                position += 1
                continue
            pattern = _IN_STRING if self._in_string else _BESIDE_STRINGS
            found = pattern.search(piece, position)
            if found is None:
                break
            position = found.end()
            self._signs += 1
            if self._signs > _MOST_SIGNS:
                self._end(False)
                return position
            sign = found[0]
            if sign == "\\":
                self._escaped = True
            elif sign == '"':
                self._in_string = not self._in_string
            elif sign in "{[":
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth == 0:
                    *before, last = self._pieces
                    self._end(_is_object("".join(before) + last[:position]))
                    return position
        return len(piece)

    def _end(self, valid: bool) -> None:
        self._valid = valid
        self._pieces.clear()


def _is_object(text: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
