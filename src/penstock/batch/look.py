"""The first pass: the whole input is looked at before anything is sent or written."""

from __future__ import annotations

from array import array
from typing import Literal

import anyio.lowlevel

from .journal import Journal
from .lines import InputFile, is_blank
from .rows import InvalidRow, Params, check_line, row_of_line
from .stops import NotStarted
from .words import WordSet, word_of

__all__ = ["ASK", "CHANGED", "DONE", "DUPLICATE", "INVALID", "Look", "Sorter", "look_at"]

ASK, DONE, INVALID, DUPLICATE, CHANGED = range(5)
"""What becomes of a row."""
_SHOWN = 10
_TURN = 256  # rows between turns for the other tasks


class Sorter:
    """Tells what becomes of each row, in the order of the input."""

    def __init__(self, journal: Journal, params: Params, changed: Literal["stop", "keep"]) -> None:
        self._journal = journal
        self._params = params
        self._changed = changed
        self._seen = WordSet()

    def fate(self, line: bytes) -> tuple[int, InvalidRow | None]:
        """Return what becomes of a line, and why it cannot be asked, if so."""
        try:
            custom_id, _, _ = check_line(line)
            if not self._journal.has(custom_id):
                if self._seen.add(word_of(custom_id)):
                    return ASK, None
                return DUPLICATE, _duplicate(custom_id)
            if not self._journal.see(custom_id):
                return DUPLICATE, _duplicate(custom_id)
            if self._changed == "keep":
                return DONE, None
            row = row_of_line(line, self._params)
        except InvalidRow as error:
            return INVALID, error
        if self._journal.answers_row(custom_id, row.id):
            return DONE, None
        return CHANGED, InvalidRow(
            "custom_id is answered already, for another request (--changed keep takes that answer)",
            custom_id=custom_id,
        )


class Look:
    """What the first pass found."""

    def __init__(self) -> None:
        self.fates: array[int] = array("B")
        """What becomes of each row, a byte each."""
        self.done: int = 0
        """Rows that have their answer."""
        self.matched: int = 0
        """Rows whose custom_id is answered, perhaps for another request."""
        self.bad: int = 0
        """Rows that cannot be asked."""
        self.details: list[str] = []
        """The first of them, by line number."""

    @property
    def rows(self) -> int:
        """Rows in all."""
        return len(self.fates)

    @property
    def to_ask(self) -> int:
        """Rows that are to be asked."""
        return len(self.fates) - self.done - self.bad

    def note(self, number: int, fate: int, error: InvalidRow | None) -> None:
        """Note what becomes of the row in line `number`."""
        self.fates.append(fate)
        self.done += fate == DONE
        self.matched += fate in (DONE, CHANGED)
        if error is not None:
            self.bad += 1
            if len(self.details) < _SHOWN:
                name = "" if error.custom_id is None else f" (custom_id {error.custom_id!r:.80})"
                self.details.append(f"line {number}{name}: {error}")


async def look_at(file: InputFile, sorter: Sorter) -> Look:
    """Look at every row of a file. NotStarted if it cannot be read."""
    look = Look()
    if file.is_pipe:
        number = 0
        async for line in file.pipe_lines():
            number += 1
            if not is_blank(line):
                look.note(number, *sorter.fate(line))
        return look
    for number, line in enumerate(file, 1):
        if not number % _TURN:
            await anyio.lowlevel.checkpoint()
        if not is_blank(line):
            look.note(number, *sorter.fate(line))
    return look


def check(look: Look, journal: Journal, path: str, output: str, *, skip_invalid: bool) -> None:
    """Raise NotStarted if the rows, or the output, are not as they must be."""
    if look.bad and not skip_invalid:
        rows = "row" if look.bad == 1 else "rows"
        raise NotStarted(
            f"{look.bad} {rows} of {path} cannot be asked; nothing was sent"
            " (--skip-invalid puts them among the errors)",
            details=(
                *look.details,
                *((f"and {look.bad - _SHOWN} more",) if look.bad > _SHOWN else ()),
            ),
        )
    if journal.answers and not look.matched:
        raise NotStarted(
            f"{output} has {journal.answers} answers, none of them to a row of {path}:"
            " use another name, or --overwrite"
        )


def _duplicate(custom_id: str) -> InvalidRow:
    return InvalidRow("the custom_id is that of an earlier row", custom_id=custom_id)
