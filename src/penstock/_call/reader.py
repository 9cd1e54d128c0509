"""What reads one completion: `BodyReader` with an accumulated answer and bounds of its own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Generic, Protocol, TypeVar, cast

from .._http.exchange import Exchange
from .._http.network import Taken
from .._wire.accumulate import Accumulator
from .._wire.completion import CompletionDecoder
from .._wire.single import single_token
from .._wire.token import has_prompt_progress
from ..errors import APIResponseError, PenstockError
from ..types import ChatCompletion, ChatCompletionChunk, TextCompletion, ToolCall
from .body import BodyReader
from .call import Call, Service
from .lifecycle import StreamState

__all__ = ["MAX_BYTES_AHEAD", "MAX_CHUNKS_AHEAD", "AnswerReader", "Reader", "Sink"]

# A race reads ahead to the first token. Before it servers send a role, and some the log
# probabilities of the prompt.
MAX_CHUNKS_AHEAD = 4096
MAX_BYTES_AHEAD = 16 * 1024 * 1024

C = TypeVar("C", ChatCompletionChunk, TextCompletion)
W = TypeVar("W", ChatCompletion, TextCompletion)
C_contra = TypeVar("C_contra", contravariant=True)
W_co = TypeVar("W_co", covariant=True)


class AnswerSoFar(Protocol[C_contra, W_co]):
    """Chunks added up to a completion."""

    excess: str | None
    """Which bound the answer exceeds; None if it is within all of them."""

    def extend(self, chunks: Iterable[C_contra], /) -> None:
        """Add these chunks."""
        ...

    def completion(self) -> W_co:
        """Return the answer so far."""
        ...


class AnswerReader(BodyReader[C], Generic[C, W]):
    """Reads the chunks of one completion, and adds up those that were handed out."""

    __slots__ = ("_folded", "accumulator")

    def __init__(self, service: Service, call: Call, accumulator: AnswerSoFar[C, W]) -> None:
        super().__init__(service, call)
        self.accumulator: AnswerSoFar[C, W] = accumulator
        """What was handed out, as far as it is folded."""
        self._folded = 0
        """How much of the batch is in the accumulator."""

    def arrived(self, items: Sequence[C]) -> PenstockError | None:
        """Add what was handed out to the answer, and check what is kept for later reads."""
        if self._folded < self.pos:
            self.fold()
        self._folded = 0
        if self.accumulator.excess is not None:
            return APIResponseError(self.accumulator.excess)
        if not math.isnan(self.timings.first_token):
            return None
        if any(map(has_prompt_progress, items)):
            self.sender.limits.prompt_progressed()
        ahead = len(self.batch) - self.pos
        if ahead:
            size = self._exchange.body_bytes
            if ahead > MAX_CHUNKS_AHEAD or size > MAX_BYTES_AHEAD:
                return APIResponseError(
                    f"{ahead} chunks and {size} bytes of an answer without a token"
                )
        return None

    def fold(self) -> None:
        """Add what has been handed out since to the accumulated answer."""
        if self._folded < self.pos:
            self.accumulator.extend(self.batch[self._folded : self.pos])
            self._folded = self.pos

    @property
    def partial(self) -> W:
        """The completion as far as it was handed out."""
        self.fold()
        completion: W = self.accumulator.completion()
        return completion

    def explain(self, error: PenstockError) -> None:
        """Attach the answer so far."""
        error.partial = cast("Any", self.partial)  # its type is the chat's

    def answer(self) -> ChatCompletion | TextCompletion | None:
        """Return the completion so far, for observers; None before the response's head."""
        return None if self._decoder is None else self.partial

    def forget(self) -> None:
        """Drop what was read and not handed out; what was handed out stays in `partial`."""
        self.fold()
        super().forget()
        self._folded = self.pos


class Sink(Protocol):
    """Takes tokens where they arrive."""

    def has_room(self) -> bool:
        """Return True if another one may be put."""
        ...

    def put(self, chunk: ChatCompletionChunk, /) -> None:
        """Take one."""
        ...


class Reader(AnswerReader[ChatCompletionChunk, ChatCompletion]):
    """Reads the chunks of one chat completion."""

    __slots__ = ("_chat", "_sink")

    def __init__(self, service: Service, call: Call) -> None:
        self._chat = Accumulator()
        self._sink: Sink | None = None
        super().__init__(service, call, self._chat)

    def new_decoder(self, exchange: Exchange) -> CompletionDecoder:
        """Return the decoder for a body whose head is in."""
        return CompletionDecoder(exchange.content_type, choices=self.sender.call.choices)

    def at_rest(self) -> bool:
        """Return True if the next read may be one for `take`."""
        return (
            not math.isnan(self.timings.first_token)
            and self._exchange.at_rest
            and isinstance(self._decoder, CompletionDecoder)
            and self._decoder.at_rest
        )

    def forward(self, sink: Sink) -> None:
        """Give the sink tokens where they arrive, while a task waits for them in `fill`.

        So no task is woken for a usual read. `fill` returns with all others.
        """
        self._sink = sink

    def take(self, data: bytes, now: float) -> Taken:
        """Take a read that is one token, into the batch or for the sink; leave any other.

        Live streams are hardly anything else. One function in place of the dozen that other
        reads pass, and called where the bytes arrive.
        """
        sink = self._sink
        if sink is not None and not sink.has_room():
            return Taken.NOTHING
        decoder = self._decoder if self._resting else None
        chunk = single_token(data)
        if chunk is None or decoder is None:
            return Taken.NOTHING
        # At each token. Chunks kept to be added together would be garbage of a thousand streams
        # at once, for which Python's collector stops them all (by 50 ms at 1 200 streams).
        batch = self.batch
        if self._folded:
            self.fold()
        else:
            self._chat.extend(batch)
        self.pos = self._folded = 0
        batch.clear()
        if self._chat.excess is not None:
            return Taken.NOTHING
        batch.append(chunk)
        limits = self.sender.limits
        limits.token_taken(now)
        self.timings.token_taken(now, limits.waited)
        self._exchange.body_bytes += len(data)
        decoder.events += 1
        if sink is None:
            return Taken.ENDS
        self.pos = 1
        sink.put(chunk)
        return Taken.GOES_ON

    def take_tool_call(self) -> ToolCall | None:
        """Return a complete tool call that was not given before, if there is one by now."""
        self.fold()
        ended = self.sender.state is StreamState.COMPLETED
        return self._chat.take_complete_call(ended=ended)
