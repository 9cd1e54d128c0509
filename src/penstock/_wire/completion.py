"""A streamed response's body, from bytes to chunks: the one object that composes the wire.

`feed(bytes)` gives the chunks they complete, `end()` says whether the body may end there.
It keeps the rules 1 to 4 of the wire: where an answer is complete, what is an error inside
of it, and what is no event stream at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import length_hint
from typing import Any

from penstock.errors import APIResponseError, IncompleteStreamError, PenstockError
from penstock.types import ChatCompletionChunk, decode_json

from .decode import ChunkDecodeError, decode_chunk
from .sse import MAX_EVENT_BYTES, EventStreamDecoder, EventTooLargeError, NamedEvent
from .stream_error import body_excerpt, is_event_stream, stream_error, unstreamed_error
from .token import has_token

__all__ = ["MAX_CHOICES", "CompletionDecoder"]

MAX_CHOICES = 4096
"""Bound of the choices of one answer; OpenAI's `n` goes up to 128."""

_DONE = b"[DONE]"
_OBJECT = ord("{")

_BOM = b"\xef\xbb\xbf"
_FIELDS = (b":", b"data:", b"event:", b"id:", b"retry:")
_SNIFFED = 1024  # bytes within which the first field must begin
_HEAD = 64 * 1024  # bytes of another kind of body that are kept for the error
_NAMED = 8  # choices that an error names


class CompletionDecoder:
    """Takes the body of one streamed response, its transfer coding removed."""

    __slots__ = (
        "_content_type",
        "_declared",
        "_finished",
        "_head",
        "_sse",
        "done",
        "error",
        "events",
        "token_seen",
    )

    def __init__(self, content_type: str | None, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._content_type = content_type
        self._declared = is_event_stream(content_type)
        self._sse = EventStreamDecoder(max_event_bytes)
        # What has come while it is open whether it is an event stream; None once it is one.
        self._head: bytearray | None = bytearray()
        # Whether each choice seen had its finish_reason.
        self._finished: dict[int, bool] = {}
        self.done = False
        """`[DONE]` has come; whatever follows is ignored."""
        self.error: PenstockError | None = None
        """The answer failed, after the chunks given so far; whatever follows is ignored."""
        self.token_seen = False
        """The last `feed` gave a token."""
        self.events = 0
        """Events so far, `[DONE]` included."""

    @property
    def finished_all(self) -> bool:
        """Whether a choice was seen, and each one had its finish_reason."""
        return bool(self._finished) and all(self._finished.values())

    def feed(self, data: bytes) -> list[ChatCompletionChunk]:
        """Take the next bytes and give the chunks they complete. Never raises; see `error`."""
        self.token_seen = False
        if self._over():
            return []
        if self._head is not None:
            data = self._examine(self._head, data)
        too_large: APIResponseError | None = None
        try:
            events = self._sse.feed(data)
        except EventTooLargeError as error:
            events = error.events
            too_large = APIResponseError(str(error))
        chunks = self._chunks(events) if events else []
        if too_large is not None and not self._over():
            self.error = too_large
        return chunks

    def end(self) -> PenstockError | None:
        """The body has ended properly: None if the answer is complete, else the error."""
        if self._over():
            return self.error
        head = self._head
        if head is not None and (
            not self._declared or not head.strip() or _looks_like_events(head) is False
        ):
            return unstreamed_error(bytes(head), self._content_type)
        # What no empty line ends is discarded, as WHATWG says; but the sentinel is as clear
        # without one.
        if _DONE in map(_data, self._sse.feed(b"\n\n")):
            self.done = True
        if self.done or self.finished_all:
            return None
        unfinished = sorted(index for index, finished in self._finished.items() if not finished)
        lacking = "any choice"
        if unfinished:
            others = " and others" if len(unfinished) > _NAMED else ""
            lacking = (
                f"a finish_reason of choice {', '.join(map(str, unfinished[:_NAMED]))}{others}"
            )
        return IncompleteStreamError(
            f"the body ended after {self.events} events, without [DONE] and without {lacking}"
        )

    def _over(self) -> bool:
        return self.done or self.error is not None

    def _examine(self, head: bytearray, data: bytes) -> bytes:
        """Keep what comes until it is known to be events; gives the bytes to be read as such."""
        head += data
        looks = _looks_like_events(head)
        if looks:
            self._head = None
            return data if self._declared else bytes(head)
        del head[_HEAD:]
        if self._declared:
            return data
        if len(head) == _HEAD:
            self.error = unstreamed_error(bytes(head), self._content_type)
        return b""

    def _chunks(self, events: Sequence[bytes | NamedEvent]) -> list[ChatCompletionChunk]:
        self._head = None
        chunks: list[ChatCompletionChunk] = []
        finished = self._finished
        rest = iter(events)
        for event in rest:
            try:
                if type(event) is bytes and event[0] == _OBJECT:
                    chunk = decode_chunk(event)
                else:
                    unusual = self._unusual(event)
                    if unusual is None:
                        if self._over():
                            break
                        continue
                    chunk = unusual
            except ChunkDecodeError as error:
                data = _data(event)
                self.error = APIResponseError(f"an event is {error}", body=body_excerpt(data))
                break
            if chunk.error or chunk.object == "error" or chunk.x_groq is not None:
                self.error = _reported(chunk)
                if self.error is not None:
                    if has_token(chunk):
                        chunks.append(chunk)
                    break
            chunks.append(chunk)
            for choice in chunk.choices:
                if choice.finish_reason:
                    finished[choice.index] = True
                elif choice.index not in finished:
                    finished[choice.index] = False
        # Looked at once for each read, so that what is kept stays bounded.
        if len(finished) > MAX_CHOICES and self.error is None:
            self.error = APIResponseError(f"the answer has more than {MAX_CHOICES} choices")
        self.events += len(events) - length_hint(rest)
        self.token_seen = any(map(has_token, chunks))
        return chunks

    def _unusual(self, event: bytes | NamedEvent) -> ChatCompletionChunk | None:
        """The chunk of an event that has a name or does not begin as an object, if any.

        A name other than "error" says nothing by itself: some servers name their chunks. A
        named event is passed over when it is no JSON object, or one with nothing of a chunk
        (a ping, say); one without a name has to be a chunk.
        """
        data = _data(event)
        if data == _DONE:
            self.done = True
            return None
        if not isinstance(event, NamedEvent):
            return decode_chunk(data) if data else None
        if event.event == "error":
            self.error = stream_error(_parsed(data), data)
            return None
        if not data.startswith(b"{"):
            return None
        chunk = decode_chunk(data)
        if chunk.choices or chunk.usage or chunk.error or chunk.object == "error" or chunk.x_groq:
            return chunk
        return None


def _data(event: bytes | NamedEvent) -> bytes:
    return (event.data if isinstance(event, NamedEvent) else event).strip()


def _parsed(data: bytes) -> Any:
    try:
        return decode_json(data)
    except ValueError:
        return data.decode("utf-8", "replace")


def _reported(chunk: ChatCompletionChunk) -> PenstockError | None:
    """The error that a chunk reports, by itself or in Groq's member."""
    data = chunk.raw or b""
    if chunk.error or chunk.object == "error":
        return stream_error(_parsed(data), data)
    if chunk.x_groq is not None and chunk.x_groq.error:
        return stream_error({"error": chunk.x_groq.error}, data)
    return None


def _looks_like_events(head: bytes | bytearray) -> bool | None:
    """Whether a body that begins like this is an event stream; None while it may be either."""
    start = bytes(head[:_SNIFFED])
    if _BOM.startswith(start):
        return None
    start = start.removeprefix(_BOM).lstrip(b"\r\n")
    if start.startswith(_FIELDS):
        return True
    if len(head) < _SNIFFED and any(field.startswith(start) for field in _FIELDS):
        return None
    return False
