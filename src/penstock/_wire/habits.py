"""Decodes the chunks of one stream whose server adds members of its own to each of them.

The fast decoder refuses a chunk with a member that no type knows, and the tolerant one then looks
at every part of it. A server that adds `provider` to one chunk adds it to all of them, though. So
the names of such members are remembered for the stream, and set aside first:

    parse to a dict ──> move the names known by habit to `extra` ──> convert to the type
                                                                        │ refused: another name,
                                                                        v or an odd value
                                                                  the tolerant decoder

That costs half of the tolerant way, and the result is the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from penstock._typed.members import EXTRA
from penstock.types import ChatCompletionChunk

from .decode import REFUSED, chunk_decoder, tolerant_chunk
from .excerpt import MAX_DEPTH
from .sse import LARGE_EVENT

__all__ = ["ChunkDecoder"]

_parse = msgspec.json.Decoder().decode

# Names that are remembered for each part; a server has a handful.
_MOST = 16
_OWN = EXTRA.encode()


class ChunkDecoder:
    """Decodes the chunks of one stream."""

    __slots__ = ("_choice", "_chunk", "_decode", "_delta")

    def __init__(self) -> None:
        self._decode = chunk_decoder()
        # Names of members without a field, as they have come so far; None until one has.
        self._chunk: tuple[str, ...] | None = None
        self._choice: tuple[str, ...] = ()
        self._delta: tuple[str, ...] = ()

    @property
    def has_habits(self) -> bool:
        """True if the server adds members of its own."""
        return self._chunk is not None

    def decode(self, data: bytes) -> ChatCompletionChunk:
        """Decode one event's data, as `decode_chunk` does."""
        if self._chunk is not None and (chunk := self._by_habit(data)) is not None:
            chunk.raw = data
            return chunk
        # As in decode_chunk, but without a further call for each chunk (3 %).
        try:
            chunk = self._decode(data)
        except REFUSED:
            chunk = tolerant_chunk(data)
            if chunk.extra is not msgspec.UNSET:
                self._remember(chunk)
        chunk.raw = data
        return chunk

    def _by_habit(self, data: bytes) -> ChatCompletionChunk | None:
        """The chunk, if setting aside the names known by now is enough."""
        if (
            len(data) > LARGE_EVENT
            or data.count(b"{") + data.count(b"[") > MAX_DEPTH
            or _OWN in data
        ):
            return None  # its size or depth must be checked, or a name that is ours
        try:
            payload: Any = _parse(data)
            found = _set_aside(payload, self._chunk or ())
            for choice in payload.get("choices") or ():
                found |= _set_aside(choice, self._choice)
                if delta := choice.get("delta"):
                    found |= _set_aside(delta, self._delta)
            if found:
                payload.setdefault(EXTRA, {})
            return msgspec.convert(payload, ChatCompletionChunk)
        except (*REFUSED, TypeError, AttributeError):
            return None

    def _remember(self, chunk: ChatCompletionChunk) -> None:
        self._chunk = _joined(self._chunk or (), chunk.extra)
        for choice in chunk.choices:
            self._choice = _joined(self._choice, choice.extra)
            self._delta = _joined(self._delta, choice.delta.extra)


def _set_aside(part: dict[str, Any], names: Iterable[str]) -> bool:
    extra = {name: part.pop(name) for name in names if name in part}
    if extra:
        part[EXTRA] = extra
    return bool(extra)


def _joined(names: tuple[str, ...], extra: Any) -> tuple[str, ...]:
    if not extra:
        return names
    return tuple(dict.fromkeys([*names, *extra]))[:_MOST]
