"""Bodies that are read as a whole: collected, then decoded, or raised as the error they report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, Protocol, TypeVar, cast

from penstock.errors import APIResponseError, PenstockError
from penstock.types import (
    ChatCompletion,
    ChatCompletionChunk,
    ModelList,
    Payload,
    TextCompletion,
    decode_json,
)

from .accumulate import Accumulator
from .completion import CompletionDecoder, CompletionStreamDecoder
from .decode import ChunkDecodeError, decode_completion, decode_models
from .error_details import error_details
from .excerpt import excerpt
from .json_values import as_object, is_list, is_object, objects
from .stream_error import EVENT_STREAM, body_excerpt, reports_error, stream_error
from .text_completion import TextAccumulator, TextCompletionDecoder, decode_text_completion
from .unstreamed import (
    MAX_BODY_BYTES,
    ends_with_sentinel,
    looks_like_events,
    without_sentinel,
)

__all__ = ["WholeAnswer", "completion_of", "models_of", "reported_error", "text_completion_of"]

R = TypeVar("R")
D = TypeVar("D", ChatCompletionChunk, TextCompletion)
A = TypeVar("A", ChatCompletion, TextCompletion)
A_co = TypeVar("A_co", covariant=True)
D_contra = TypeVar("D_contra", contravariant=True)
P = TypeVar("P", bound=Payload)


class WholeAnswer(Generic[R]):
    """Collects a body; its end makes the one item there is."""

    __slots__ = (
        "_body",
        "_choices",
        "_decode",
        "_events",
        "_sentinel",
        "done",
        "error",
        "events",
        "finished_all",
        "token_seen",
    )

    def __init__(
        self, decode: Callable[[bytes], R], *, sentinel: bool = False, choices: int = 1
    ) -> None:
        self._decode = decode
        self._sentinel = sentinel  # whether a line `data: [DONE]` ends the body
        self._choices = choices  # how many are asked for
        # Follows the events of a server that streams all the same, to know when all have come.
        self._events: CompletionDecoder | None = None
        self._body = bytearray()
        self.done = False
        """The body is whole and was understood."""
        self.error: PenstockError | None = None
        """Why the body is not an answer."""
        self.token_seen = False
        """A whole answer has no tokens that come one by one."""
        self.finished_all = False
        """Every choice of a streamed answer has its finish_reason; no other one knows."""
        self.events = 0
        """A whole answer has no events."""

    def feed(self, data: bytes) -> Sequence[R]:
        """Take the next bytes; there is no item before the end or the sentinel."""
        self._body += data
        if len(self._body) > MAX_BODY_BYTES:
            self.error = APIResponseError(f"the body is larger than {MAX_BODY_BYTES} bytes")
            self._body.clear()
        elif self._sentinel and ends_with_sentinel(self._body):
            return self.end()  # the connection may be held open behind it
        elif self._sentinel:
            self._follow(data)
        return ()

    def _follow(self, data: bytes) -> None:
        if self._events is None:
            if not looks_like_events(self._body):
                return
            self._events = CompletionDecoder(EVENT_STREAM, choices=self._choices)
            data = bytes(self._body)
        self._events.feed(data)
        self.finished_all = self._events.finished_all

    def end(self) -> Sequence[R]:
        """Take the end of the body; return the answer, or set `error`."""
        try:
            answer = self._decode(bytes(self._body))
        except PenstockError as error:
            # Its frames lead back to this object.
            self.error = error.with_traceback(None)
            return ()
        self.done = True
        return (answer,)


def completion_of(body: bytes) -> ChatCompletion:
    """Return the completion that a whole body spells, or raise the error that it reports.

    A server that streams unless told otherwise sends events: they are put together.
    """
    if looks_like_events(body):
        return _assembled(body, CompletionDecoder(EVENT_STREAM), Accumulator())
    return _with_choices(body, decode_completion)


def text_completion_of(body: bytes) -> TextCompletion:
    """Return the text completion that a whole body spells, or raise the error that it reports."""
    if looks_like_events(body):
        return _assembled(body, TextCompletionDecoder(EVENT_STREAM), TextAccumulator())
    return _with_choices(body, decode_text_completion)


def models_of(body: bytes) -> ModelList:
    """Return the list of models that a whole body spells, or raise the error that it reports."""
    models = _decoded(body, decode_models)
    if not models.data:
        _raise_words(models, body)
    return models


C = TypeVar("C", ChatCompletion, TextCompletion)


class _Answer(Protocol[D_contra, A_co]):
    def extend(self, chunks: Iterable[D_contra], /) -> None: ...
    def completion(self) -> A_co: ...


def _assembled(body: bytes, decoder: CompletionStreamDecoder[D], answer: _Answer[D, A]) -> A:
    """Return the answer that events make, or raise their error with what came before it."""
    answer.extend(decoder.feed(body))
    answer.extend(decoder.end())
    completion = answer.completion()
    if decoder.error is not None:
        decoder.error.partial = cast("Any", completion)  # its type is the chat's
        raise decoder.error
    return completion


def _with_choices(body: bytes, decode: Callable[[bytes], C]) -> C:
    completion = _decoded(body, decode)
    if not completion.choices:
        # A success without an answer is none, unless it says that there are no choices.
        said = _raise_words(completion, body)
        if completion.usage is None and not is_list(said.get("choices")):
            raise APIResponseError(
                f"the response has no choices: {excerpt(body)}", body=body_excerpt(body)
            )
    return completion


def _raise_words(answer: Payload, body: bytes) -> dict[str, Any]:
    """Raise what the server says in place of an answer; return its payload if it says nothing."""
    payload = answer.to_dict()
    if error_details(payload).message:
        raise stream_error(payload, body)
    return payload


def _decoded(body: bytes, decode: Callable[[bytes], P]) -> P:
    error = reported_error(body)
    if error is not None:
        raise error
    body = without_sentinel(body)
    try:
        return decode(body)
    except ChunkDecodeError as cause:
        raise APIResponseError(f"the response is {cause}", body=body_excerpt(body)) from cause


def reported_error(body: bytes) -> PenstockError | None:
    """Return the error that a whole body with a success status reports, or None."""
    # Looked for only where it can be: the body is not parsed twice for nothing.
    if b'"error"' not in body:
        return None
    try:
        payload: Any = decode_json(without_sentinel(body))
    except ValueError:
        return None
    if reports_error(payload):
        return stream_error(payload, body)
    if is_object(payload) and is_list(payload.get("choices")):
        for choice in objects(payload["choices"]):
            said = choice.get("error")
            if said or choice.get("finish_reason") == "error":
                return stream_error({"error": said or "the choice ended in an error"}, body)
    if as_object(payload).get("type") == "error":
        return stream_error(payload, body)
    return None
