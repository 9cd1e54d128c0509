"""Streamed answers that say nothing in the usual way: what they may be instead.

An answer of events that no delta came in is one of three things, and never an empty success:

- whole messages (`choices[].message`), once or growing with each event: the last of each choice;
- words for an error (`{"detail": ...}`, `{"code", "message"}`) in events without choices;
- events that nothing is understood of: an error that shows the first of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from penstock.errors import StreamError
from penstock.types import decode_json

from .error_details import error_details
from .json_values import as_object, count, is_list
from .stream_error import stream_error
from .unstreamed import encoded

__all__ = ["OddAnswer", "parsed"]


class _Chunk(Protocol):
    @property
    def raw(self) -> bytes | None: ...
    @property
    def choices(self) -> Sequence[Any]: ...
    @property
    def usage(self) -> Any: ...


class OddAnswer:
    """Keeps what may be all the answer there is.

    `whole` returns JSON that holds a whole answer as the payload of a chunk, or None. After a
    token only words for an error are odd.
    """

    __slots__ = ("_messages", "_stray", "_stray_speaks", "_whole", "words")

    def __init__(
        self, whole: Callable[[bytes], dict[str, Any] | None], *, after_token: bool = False
    ) -> None:
        self._whole = whole
        # While no token has come: the choices that came with a whole message, by index, in the
        # payload they were in.
        self._messages: dict[str, Any] | None = None if after_token else {}
        # The first event that nothing was understood of, while nothing else has come, and whether
        # it has words for an error.
        self._stray: bytes | None = None if after_token else b""
        self._stray_speaks = False
        self.words = b""
        """The last event, if it has nothing but words for an error."""

    @property
    def says_something(self) -> bool:
        """True if there are words for an error, or an event that was not understood."""
        return bool(self._stray or self.words)

    def look(self, chunks: Sequence[_Chunk], *, token_seen: bool) -> bool:
        """Look at what a read brought; return False if nothing is odd any more."""
        if chunks and chunks[-1].raw is not self.words:
            self.words = b""
        if token_seen:
            self._messages = self._stray = None
        if self._messages is None:
            return bool(self.words)
        for chunk in chunks:
            if chunk.choices or chunk.usage is not None:
                self._stray = None
            if (
                chunk.choices
                and chunk.raw
                and (b'"message"' in chunk.raw or b'"text"' in chunk.raw)
            ):
                self._keep_messages(chunk.raw)
        return True

    def without_choices(self, data: bytes) -> StreamError | None:
        """Take an event without choices; return the error if its `type` is one."""
        payload = parsed(data)
        if as_object(payload).get("type") == "error":
            return stream_error(payload, data)
        speaks = bool(error_details(payload).message)
        self.words = data if speaks else b""
        # No choices are an answer as well, which says nothing.
        if speaks or not is_list(as_object(payload).get("choices")):
            self.note_stray(data, speaks=speaks)
        return None

    def note_stray(self, data: bytes, *, speaks: bool) -> None:
        """Keep the first event that nothing is understood of; one with words rather than none."""
        if self._stray is not None and not self._stray_speaks:
            self._stray = data if speaks else self._stray or data
            self._stray_speaks = speaks

    def error(self, *, finished: bool) -> StreamError | None:
        """Return the error that the answer is, now that it has ended.

        `finished`: each choice had its finish_reason, so that later words are no part of it.
        """
        words = self._stray or (b"" if finished else self.words)
        return stream_error(parsed(words), words) if words else None

    def message(self) -> bytes | None:
        """Return the whole messages as the JSON of one chunk; None if there are none."""
        if not self._messages:
            return None
        choices = list(self._messages["choices"].values())
        return encoded({**self._messages, "choices": choices})

    def _keep_messages(self, data: bytes) -> None:
        """Keep what each choice said last, as a server may repeat it with each event."""
        whole = self._whole(data)
        if whole is None or self._messages is None:
            return
        kept: dict[int, dict[str, Any]] = self._messages.get("choices", {})
        for choice in whole["choices"]:
            index = count(choice.get("index"))
            before = kept.get(index, {})
            reason = choice.get("finish_reason") or before.get("finish_reason")
            says = as_object(choice.get("delta")).items()
            if any(value for name, value in says if name != "role"):
                kept[index] = {**choice, "finish_reason": reason}
            elif before:
                before["finish_reason"] = reason
        if kept:
            self._messages = {**whole, "choices": kept}


def parsed(data: bytes) -> Any:
    """Return JSON parsed, or the text if it is not JSON."""
    try:
        return decode_json(data)
    except ValueError:
        return data.decode("utf-8", "replace")
