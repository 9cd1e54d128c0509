"""Where a stream of events ends, for each kind of endpoint: watched, without changing a byte.

For those who pass bytes on to another reader, which takes any proper end of a body for the end of
the answer. What an answer must have before its body may end:

| endpoint | its end |
| --- | --- |
| `/chat/completions`, `/completions` | `[DONE]`, or a finish_reason of every choice seen |
| `/responses` | `response.completed`, `.failed`, `.incomplete` or `.cancelled`; or `[DONE]` |
| `/messages` | `message_stop`; or `[DONE]` |

An event that reports an error is an end everywhere, as is anything that is not understood: what
it means is for the reader to say.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from penstock._typed.members import RAW
from penstock.errors import IncompleteStreamError
from penstock.types import decode_json

from .completion import CompletionStreamDecoder
from .decode import REFUSED, ChunkDecodeError
from .encoding import ContentDecoder, EncodingError, content_decoder
from .json_values import as_object, as_text, count, objects
from .sse import EventStreamDecoder, EventTooLargeError, NamedEvent
from .stream_error import is_event_stream

if TYPE_CHECKING:
    from ..headers import Headers

__all__ = ["Ending", "ending_of"]

_RESPONSE_ENDS = frozenset(
    f"response.{word}" for word in ("completed", "failed", "incomplete", "cancelled", "done")
)
_MESSAGE_ENDS = frozenset({"message_stop"})
_DONE = b"[DONE]"


class Ending(Protocol):
    """Watches one body."""

    done: bool
    """The answer has ended; what follows is not looked at."""

    def feed(self, data: bytes) -> None:
        """Look at the next bytes."""
        ...

    def end(self) -> IncompleteStreamError | None:
        """Return what is wrong with a proper end of the body here, if anything is."""
        ...


def ending_of(method: str, target: str, headers: Headers) -> Ending | None:
    """Return what watches the body of this response to a request; None if nothing has to."""
    if method != "POST" or not is_event_stream(headers.get("content-type")):
        return None
    path = target.partition("?")[0].rstrip("/")
    ending: Ending
    if path.endswith("/completions"):
        ending = _Choices(headers.get("content-type"))
    elif path.endswith("/responses"):
        ending = _Names(_RESPONSE_ENDS)
    elif path.endswith("/messages"):
        ending = _Names(_MESSAGE_ENDS)
    else:
        return None
    try:
        decoder = content_decoder(headers)
    except EncodingError:
        return None
    return ending if decoder is None else _Encoded(ending, decoder)


class _Encoded:
    """Looks into a body with a content coding."""

    __slots__ = ("_decoder", "_ending", "done")

    def __init__(self, ending: Ending, decoder: ContentDecoder) -> None:
        self._ending = ending
        self._decoder = decoder
        self.done = False

    def feed(self, data: bytes) -> None:
        try:
            self._ending.feed(self._decoder.feed(data))
        except EncodingError:
            self.done = True
        self.done = self.done or self._ending.done

    def end(self) -> IncompleteStreamError | None:
        return None if self.done else self._ending.end()


# --- events with names ---


class _Typed(msgspec.Struct, gc=False):
    """What an event of a named kind says about itself."""

    type: Any = None
    error: Any = None


class _Names:
    """The end is an event of a certain name, or with that name as its `type`."""

    __slots__ = ("_events", "_names", "_sse", "done")

    def __init__(self, names: Collection[str]) -> None:
        self._names = names
        self._sse = EventStreamDecoder()
        self._events = 0
        self.done = False

    def feed(self, data: bytes) -> None:
        if self.done:
            return
        try:
            events = self._sse.feed(data)
        except EventTooLargeError:
            self.done = True
            return
        self._events += len(events)
        self.done = any(map(self._ends, events))

    def end(self) -> IncompleteStreamError | None:
        # What no empty line ends the reader will not see, but the sentinel is clear without one.
        if self.done or any(map(_is_done, self._sse.feed(b"\n\n"))):
            return None
        names = " or ".join(sorted(self._names))
        return IncompleteStreamError(f"the body ended after {self._events} events, without {names}")

    def _ends(self, event: bytes | NamedEvent) -> bool:
        if isinstance(event, NamedEvent):
            if event.event in self._names or event.event == "error":
                return True
            data = event.data
        else:
            data = event
        try:
            said = msgspec.json.decode(data, type=_Typed)
            kind, error = said.type, said.error
        except REFUSED:
            if _is_done(data):
                return True
            try:
                payload = as_object(decode_json(data))
            except ValueError:
                return False
            kind, error = payload.get("type"), payload.get("error")
        return kind == "error" or bool(error) or (isinstance(kind, str) and kind in self._names)


def _is_done(event: bytes | NamedEvent) -> bool:
    return (event.data if isinstance(event, NamedEvent) else event).strip() == _DONE


# --- chunks with choices ---


class _Choice(msgspec.Struct, gc=False):
    index: int = 0
    finish_reason: str | None = None
    error: Any = None


class _Groq(msgspec.Struct, gc=False):
    error: Any = None


class _Chunk(msgspec.Struct):
    """What a chunk says about the end."""

    raw: bytes | None = msgspec.field(default=None, name=RAW)
    object: str | None = None
    choices: list[_Choice] = []
    usage: Any = None
    error: Any = None
    x_groq: _Groq | None = None


def _decode(data: bytes) -> _Chunk:
    try:
        chunk = msgspec.json.decode(data, type=_Chunk)
    except REFUSED:
        try:
            payload = decode_json(data)
        except ValueError as error:
            raise ChunkDecodeError("not JSON") from error
        chunk = _built(as_object(payload))
    chunk.raw = data
    return chunk


def _built(payload: dict[str, Any]) -> _Chunk:
    groq = payload.get("x_groq")
    return _Chunk(
        object=as_text(payload.get("object")),
        choices=[
            _Choice(
                index=count(choice.get("index")),
                finish_reason=as_text(choice.get("finish_reason")),
                error=choice.get("error"),
            )
            for choice in objects(payload.get("choices"))
        ],
        usage=payload.get("usage"),
        error=payload.get("error"),
        x_groq=_Groq(as_object(groq).get("error")) if groq else None,
    )


class _Chunks(CompletionStreamDecoder[_Chunk]):
    """The rules of a completion, on the least of each chunk."""

    __slots__ = ()

    def decode(self, data: bytes, /) -> _Chunk:
        return _decode(data)

    @staticmethod
    def is_token(chunk: _Chunk, /) -> bool:
        return bool(chunk.choices)

    @staticmethod
    def whole(body: bytes, /) -> dict[str, Any] | None:
        return None


class _Choices:
    """The end of a chat or a text completion."""

    __slots__ = ("_chunks", "done")

    def __init__(self, content_type: str | None) -> None:
        self._chunks = _Chunks(content_type)
        self.done = False

    def feed(self, data: bytes) -> None:
        chunks = self._chunks
        chunks.feed(data)
        self.done = chunks.done or chunks.error is not None

    def end(self) -> IncompleteStreamError | None:
        chunks = self._chunks
        chunks.end()
        error = chunks.error
        return error if isinstance(error, IncompleteStreamError) else None
