"""A streamed completion's body, from bytes to chunks: the one object that composes the wire.

`feed(bytes)` returns the chunks they complete, `end()` takes a proper end of the body. It keeps
the rules 1 to 4 of the wire: where an answer is complete, what is an error inside of it, and what
is not an event stream at all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from operator import length_hint
from typing import Any, Generic, Protocol, TypeVar

from penstock.errors import APIResponseError, IncompleteStreamError, PenstockError
from penstock.types import ChatCompletionChunk

from .decode import MAX_CHOICES, REFUSED, ChunkDecodeError, check_objects, chunk_decoder
from .habits import ChunkDecoder
from .odd_answers import OddAnswer, parsed
from .single import LARGEST
from .sse import LARGE_EVENT, MAX_EVENT_BYTES, EventStreamDecoder, EventTooLargeError, NamedEvent
from .stream_error import body_excerpt, is_event_stream, stream_error, unstreamed_error
from .token import has_token
from .unstreamed import (
    MAX_BODY_BYTES,
    encoded,
    ends_with_sentinel,
    looks_like_events,
    looks_like_json,
    whole_completion,
    without_sentinel,
)

__all__ = ["MAX_CHOICES", "CompletionDecoder", "CompletionStreamDecoder"]

_DONE = b"[DONE]"
_OBJECT = ord("{")

_HEAD = 64 * 1024  # bytes of another kind of body that are kept for the error
_NAMED = 8  # choices that an error names


class _ChunkChoice(Protocol):
    @property
    def index(self) -> int: ...
    @property
    def finish_reason(self) -> str | None: ...
    @property
    def error(self) -> Any: ...


class _Chunk(Protocol):
    """What chunks of every completion API have."""

    @property
    def raw(self) -> bytes | None: ...
    @property
    def object(self) -> str | None: ...
    @property
    def choices(self) -> Sequence[_ChunkChoice]: ...
    @property
    def usage(self) -> Any: ...
    @property
    def error(self) -> Any: ...
    @property
    def x_groq(self) -> Any: ...


C = TypeVar("C", bound=_Chunk)


class CompletionStreamDecoder(ABC, Generic[C]):
    """Takes the body of one streamed response, its transfer coding removed.

    Subclasses say how the chunks of one API are decoded. `choices`: how many choices the
    request asked for.
    """

    __slots__ = (
        "_content_type",
        "_expected",
        "_first_finished",
        "_head",
        "_odd",
        "_others_finished",
        "_seen",
        "_sse",
        "_unfinished",
        "done",
        "error",
        "events",
        "finished_all",
        "token_seen",
    )

    def __init__(
        self,
        content_type: str | None,
        *,
        choices: int = 1,
        max_event_bytes: int = MAX_EVENT_BYTES,
    ) -> None:
        self._content_type = content_type
        self._expected = choices
        self._sse = EventStreamDecoder(max_event_bytes, objects=True)
        # What has come while it is open whether it is an event stream; None once it is one.
        self._head: bytearray | None = bytearray()
        # How many choices were seen, and how many of them had no finish_reason.
        self._seen = self._unfinished = 0
        # Whether choice 0 had its own, None until it is seen; and each of the others. Most answers
        # have no others, and a dict takes as much memory as all else in here.
        self._first_finished: bool | None = None
        self._others_finished: dict[int, bool] | None = None
        # None while nothing is odd, from the first token on.
        self._odd: OddAnswer | None = OddAnswer(self.whole)
        self.done = False
        """The answer is complete; whatever follows is ignored."""
        self.error: PenstockError | None = None
        """The answer failed, after the chunks given so far; whatever follows is ignored."""
        self.token_seen = False
        """The last `feed` gave a token."""
        self.finished_all = False
        """As many choices were seen as were asked for, and each one had its finish_reason."""
        self.events = 0
        """Events so far, `[DONE]` not counted."""

    # --- what differs between the APIs ---

    @abstractmethod
    def decode(self, data: bytes, /) -> C:
        """Return the chunk of one event's data. Raises ChunkDecodeError."""

    @staticmethod
    @abstractmethod
    def is_token(chunk: Any, /) -> bool:
        """Return whether the chunk is progress of the model."""

    @staticmethod
    @abstractmethod
    def whole(body: bytes, /) -> dict[str, Any] | None:
        """Return JSON that holds a whole answer as the payload of a chunk; None if it is none."""

    def reported(self, chunk: C) -> PenstockError | None:
        """Return the error that a chunk reports."""
        data = chunk.raw or b""
        if chunk.error or chunk.object == "error":
            return stream_error(parsed(data), data)
        for choice in chunk.choices:
            if choice.error or choice.finish_reason == "error":
                return stream_error({"error": choice.error or "the choice ended in an error"}, data)
        return None

    # --- the body ---

    def feed(self, data: bytes) -> list[C]:
        """Take the next bytes and return the chunks they complete. Never raises; see `error`."""
        self.token_seen = False
        if self.done or self.error is not None:
            return []
        head = self._head
        if head is not None:
            data = self._examine(head, data)
            if self._head is not None and looks_like_json(head) and ends_with_sentinel(head):
                return self._unstreamed(bytes(head))
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

    def end(self) -> list[C]:
        """Take a proper end of the body; return the last chunks. Sets `done` or `error`."""
        self.token_seen = False
        if self._over():
            return []
        head = self._head
        if head is not None and (
            not is_event_stream(self._content_type)
            or not head.strip()
            or looks_like_events(head) is False
        ):
            return self._unstreamed(bytes(head))
        # What no empty line ends is discarded, as WHATWG says; but the sentinel is as clear
        # without one.
        if self._has_finished() or (self._odd is not None and self._odd.says_something):
            return self._complete()
        rest = self._sse.feed(b"\n\n")
        if _DONE in map(_data, rest):
            return self._complete()
        # Nor is the last one of those that only line ends separate any less clear.
        last = self._chunks(rest) if self._sse.careless and self._decodes(rest) else []
        if self._over():
            return last
        if self._has_finished():
            return [*last, *self._complete()]
        seen = {0: self._first_finished, **(self._others_finished or {})}
        unfinished = sorted(index for index, finished in seen.items() if finished is False)
        lacking = "any choice"
        if unfinished:
            others = " and others" if len(unfinished) > _NAMED else ""
            lacking = (
                f"a finish_reason of choice {', '.join(map(str, unfinished[:_NAMED]))}{others}"
            )
        self.error = IncompleteStreamError(
            f"the body ended after {self.events} events, without [DONE] and without {lacking}"
        )
        return last

    def _decodes(self, events: Sequence[bytes | NamedEvent]) -> bool:
        try:
            return bool([self.decode(_data(event)) for event in events])
        except ChunkDecodeError:
            return False

    def _over(self) -> bool:
        return self.done or self.error is not None

    def _has_finished(self) -> bool:
        """Return whether a choice was seen, and each one had its finish_reason."""
        return self._seen > 0 and not self._unfinished

    def _note(self, index: int, *, finished: bool) -> None:
        """Note that a choice was seen; one that had its finish_reason has finished for good."""
        if index == 0:
            before = self._first_finished
            self._first_finished = finished = finished or before is True
        else:
            others = self._others_finished
            if others is None:
                others = self._others_finished = {}
            before = others.get(index)
            others[index] = finished = finished or before is True
        self._seen += before is None
        self._unfinished += (not finished) - (before is False)

    def _examine(self, head: bytearray, data: bytes) -> bytes:
        """Keep what comes until it is known to be events; return the bytes to be read as such."""
        declared = is_event_stream(self._content_type)
        if declared and not head and data.startswith(b"data:"):
            self._head = None
            return data
        head += data
        looks = looks_like_events(head)
        if looks:
            self._head = None
            return data if declared else bytes(head)
        is_json = looks_like_json(head)
        bound = MAX_BODY_BYTES if is_json else _HEAD
        over = len(head) >= bound
        del head[bound:]
        if declared and not is_json:
            return data
        if over:
            self.error = unstreamed_error(bytes(head[:_HEAD]), self._content_type)
        return b""

    def _unstreamed(self, body: bytes) -> list[C]:
        """Take a body that is not an event stream: a whole completion, or an error."""
        body = without_sentinel(body)
        whole = self.whole(body)
        if whole is not None:
            return self._whole(encoded(whole))
        self.error = unstreamed_error(body, self._content_type)
        return []

    def _whole(self, data: bytes) -> list[C]:
        """Take a whole answer as one chunk."""
        try:
            chunk = self._decode_large(data)
        except ChunkDecodeError as error:
            self.error = APIResponseError(f"the answer is {error}", body=body_excerpt(data))
            return []
        self.error = self.reported(chunk)
        self.done = self.error is None
        self.token_seen = self.is_token(chunk)
        return [chunk]

    def _complete(self) -> list[C]:
        """The answer has ended; a message that came whole is its last chunk."""
        if self._odd is not None:
            self.error = self._odd.error(finished=self._has_finished())
            if self.error is not None:
                return []
            message = self._odd.message()
            if message is not None:
                return self._whole(message)
        self.done = True
        return []

    def _chunks(self, events: Sequence[bytes | NamedEvent]) -> list[C]:
        self._head = None
        chunks: list[C] = []
        decode = self._decode_large if self._sse.dispatched > LARGE_EVENT else self.decode
        ending = failed = False
        rest = iter(events)
        for event in rest:
            try:
                if type(event) is bytes and event[0] == _OBJECT:
                    chunk = decode(event)
                else:
                    if _data(event) == _DONE:
                        ending = True
                        break
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
                self.error = self.reported(chunk)
                if self.error is not None:
                    if self.is_token(chunk):
                        chunks.append(chunk)
                    break
            chunks.append(chunk)
            choices = chunk.choices
            if not choices and chunk.usage is None:
                if self._odd is None:
                    self._odd = OddAnswer(self.whole, after_token=True)
                self.error = self._odd.without_choices(chunk.raw or b"")
                failed = self.error is not None
            for choice in choices:
                if choice.finish_reason or choice.error:
                    self._note(choice.index, finished=True)
                    if choice.error or choice.finish_reason == "error":
                        self.error = self.reported(chunk)
                        failed = self.error is not None
                elif choice.index or self._first_finished is None:
                    self._note(choice.index, finished=False)
            if failed:
                if not self.is_token(chunk):
                    chunks.pop()
                break
        self.finished_all = not self._unfinished and self._seen >= self._expected
        # Looked at once for each read, so that what is kept stays bounded.
        if self._seen > MAX_CHOICES and self.error is None:
            self.error = APIResponseError(f"the answer has more than {MAX_CHOICES} choices")
        self.events += len(events) - length_hint(rest) - ending
        self.token_seen = any(map(self.is_token, chunks))
        if self._odd is not None and not self._odd.look(chunks, token_seen=self.token_seen):
            self._odd = None
        if ending and self.error is None:
            chunks += self._complete()
        return chunks

    def _decode_large(self, data: bytes) -> C:
        """Decode events of which some may be large."""
        if len(data) > LARGE_EVENT:
            check_objects(data)
        return self.decode(data)

    def _unusual(self, event: bytes | NamedEvent) -> C | None:
        """The chunk of an event that has a name or does not begin as an object, if any.

        A name other than "error" says nothing by itself: some servers name their chunks. A
        named event is passed over if it is not a JSON object, or has nothing of a chunk
        (a ping, a tool's result); an event without a name must be a chunk.
        """
        data = _data(event)
        if not isinstance(event, NamedEvent):
            # llama.cpp begins an answer to several prompts with null.
            begins = data == b"null" and not self._seen
            return self.decode(data) if data and not begins else None
        if event.event == "error":
            self.error = stream_error(parsed(data), data)
            return None
        if not data.startswith(b"{"):
            return None
        chunk = self.decode(data)
        if chunk.choices or chunk.usage or chunk.x_groq:
            return chunk
        if chunk.object in ("error", "chat.completion.chunk"):
            return chunk
        # Of a foreign event, an error is its own; unless nothing else ever comes.
        if chunk.error and self._odd is not None:
            self._odd.note_stray(data, speaks=True)
        return None


class CompletionDecoder(CompletionStreamDecoder[ChatCompletionChunk]):
    """Takes the body of one streamed chat completion."""

    __slots__ = ("_decode", "_tolerant")

    def __init__(
        self,
        content_type: str | None,
        *,
        choices: int = 1,
        max_event_bytes: int = MAX_EVENT_BYTES,
    ) -> None:
        super().__init__(content_type, choices=choices, max_event_bytes=max_event_bytes)
        self._decode = chunk_decoder()
        # Made for the first chunk that the fast decoder refuses.
        self._tolerant: ChunkDecoder | None = None

    def decode(self, data: bytes, /) -> ChatCompletionChunk:
        """Return the chunk of one event's data. Raises ChunkDecodeError."""
        if self._tolerant is None:
            try:
                chunk = self._decode(data)
            except REFUSED:
                self._tolerant = ChunkDecoder()
            else:
                chunk.raw = data
                return chunk
        return self._tolerant.decode(data)

    is_token = staticmethod(has_token)
    whole = staticmethod(partial(whole_completion, chat=True))

    @property
    def at_rest(self) -> bool:
        """True between two events of an answer whose only choice, 0, goes on.

        A token may then be taken by `single_token`: it would change nothing but `events`.
        """
        return (
            self._head is None
            and self._seen == 1
            and self._first_finished is False
            and not (self.done or self.error is not None)
            and self._odd is None
            and (self._tolerant is None or not self._tolerant.has_habits)
            and self._sse.at_rest
            and self._sse.max_event_bytes >= LARGEST
        )

    def reported(self, chunk: ChatCompletionChunk) -> PenstockError | None:
        """Return the error that a chunk reports, by itself, in a choice or in Groq's member."""
        error = super().reported(chunk)
        if error is None and chunk.x_groq is not None and chunk.x_groq.error:
            return stream_error({"error": chunk.x_groq.error}, chunk.raw or b"")
        return error


def _data(event: bytes | NamedEvent) -> bytes:
    return (event.data if isinstance(event, NamedEvent) else event).strip()
