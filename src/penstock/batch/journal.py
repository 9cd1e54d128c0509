"""What an output file already has: its answers, and a tail that a crash left.

The output is its own journal. A line is an answer if its status is 2xx and it has no error; `id`
says what was asked. Lines of other makers (`vllm-...`, `batch_req_...`) have no such digest: they
answer a row of the same custom_id.
"""

from __future__ import annotations

from typing import IO, Any

import anyio.lowlevel
import msgspec

from .._wire.json_values import as_object
from ..types import decode_json
from .lines import is_blank
from .stops import NotStarted
from .words import WordMap, word_of

__all__ = ["Journal", "custom_id_of", "read_journal"]

_OWN = "penstock-"  # what the ids of this library's lines begin with
_ANY = 2  # the digest of a line of another maker
_SEEN = 1
_TURN = 256  # lines between turns for the other tasks


class Journal:
    """The answers in an output file, by custom_id and digest."""

    def __init__(self) -> None:
        self.answers: int = 0
        """Lines with an answer."""
        self.cut_at: int | None = None
        """Where a tail begins that is no line; None if there is none."""
        self._table = WordMap()
        self._others: set[tuple[int, int]] = set()
        """Further digests of a custom_id that was answered for several."""

    def add(self, custom_id: str, id: str) -> None:
        """Note an answer."""
        self.answers += 1
        key, value = word_of(custom_id), _value(custom_id, id)
        known = self._table.get(key)
        if known is None or value == _ANY:
            self._table.put(key, value)
        elif known not in (value, _ANY):
            self._others.add((key, value))

    def has(self, custom_id: str) -> bool:
        """Return whether there is an answer for this custom_id, whatever was asked."""
        return word_of(custom_id) in self._table

    def answers_row(self, custom_id: str, id: str) -> bool:
        """Return whether there is an answer for what this row asks."""
        key, value = word_of(custom_id), _value(custom_id, id)
        known = self._table.get(key)
        if known is None:
            return False
        return known | _SEEN in (value | _SEEN, _ANY | _SEEN) or (key, value) in self._others

    def see(self, custom_id: str) -> bool:
        """Note that the input has a row of an answered custom_id; return False if it was noted."""
        key = word_of(custom_id)
        known = self._table.get(key)
        if known is None or known & _SEEN:
            return False
        self._table.put(key, known | _SEEN)
        return True


class _Response(msgspec.Struct):
    status_code: Any = None


class _Line(msgspec.Struct):
    custom_id: Any = None
    id: Any = None
    response: _Response | msgspec.UnsetType | None = msgspec.UNSET
    error: Any = msgspec.UNSET


async def read_journal(file: IO[bytes], path: str) -> Journal:
    """Read an output file from its beginning.

    NotStarted if a line in its middle is damaged, or if it is a file of another kind.
    """
    journal = Journal()
    offset = 0
    bad: int | None = None
    """Number of the first damaged line since the last whole one."""
    whole = damaged = 0
    for number, line in enumerate(file, 1):
        if not number % _TURN:
            await anyio.lowlevel.checkpoint()
        found = _parsed(line, number, path) if line.endswith(b"\n") else None
        if found is not None:
            if bad is not None:
                raise NotStarted(
                    f"line {bad} of {path} is damaged, and whole ones follow it: repair the file,"
                    " or use --overwrite"
                )
            whole += 1
            _note(journal, found)
        elif not is_blank(line) or not line.endswith(b"\n"):
            if number == 1:
                _parsed(line, number, path)  # whole JSON of another kind is no tail to cut
            damaged += line.endswith(b"\n")
            if bad is None:
                bad, journal.cut_at = number, offset
        offset += len(line)
    if not whole and damaged > 1:
        raise NotStarted(f"{path} is not the output of a batch: use another name, or --overwrite")
    return journal


def _parsed(line: bytes, number: int, path: str) -> _Line | None:
    """Return a whole line of an output file; None if it is damaged, or blank."""
    try:
        found = _decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        if is_blank(line):
            return None
        try:
            value = decode_json(line)
        except ValueError:
            return None
        found = _line_of(as_object(value))
    is_output = found.response is not msgspec.UNSET or found.error is not msgspec.UNSET
    # Failures may be of lines without a custom_id.
    if not is_output or not isinstance(found.custom_id, (str, type(None))):
        raise NotStarted(
            f"{path} is not the output of a batch: line {number} has neither response nor error"
            if not is_output
            else f"{path} is not the output of a batch: the custom_id of line {number} is no string"
        )
    return found


def custom_id_of(line: bytes) -> str | None:
    """Return the custom_id of a line of an output file; None if it has none."""
    try:
        custom_id = _decode(line).custom_id
    except (msgspec.MsgspecError, ValueError, RecursionError):
        try:
            custom_id = as_object(decode_json(line)).get("custom_id")
        except ValueError:
            return None
    return custom_id if isinstance(custom_id, str) else None


def _line_of(value: dict[str, Any]) -> _Line:
    """Return a line that is JSON, but not as msgspec wants it."""
    response: Any = value.get("response", msgspec.UNSET)
    if response is not msgspec.UNSET and response is not None:
        response = _Response(as_object(response).get("status_code"))
    return _Line(
        value.get("custom_id"), value.get("id"), response, value.get("error", msgspec.UNSET)
    )


def _note(journal: Journal, line: _Line) -> None:
    response = line.response
    if not isinstance(response, _Response) or line.error not in (None, msgspec.UNSET):
        return
    status = response.status_code
    if type(status) is int and 200 <= status < 300 and isinstance(line.custom_id, str):
        journal.add(line.custom_id, str(line.id))


def _value(custom_id: str, id: str) -> int:
    """Return the word for what was asked under this custom_id, with room for a mark."""
    return (word_of(custom_id + id) | 4) & ~_SEEN if id.startswith(_OWN) else _ANY


_decode = msgspec.json.Decoder(_Line).decode
