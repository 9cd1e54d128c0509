"""One streamed completion.

Between two calls of a stream nothing of it is alive: no task, no cancel scope, no
generator. All it knows is in its fields, which change only after an await has returned,
so it may be opened, read and closed from different tasks, and a cancelled read loses
nothing.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, final

import anyio

from .._wire.accumulate import Accumulator
from .._wire.completion import CompletionDecoder
from .._wire.lifecycle import Event, StreamState
from .._wire.status import request_id
from ..errors import PenstockError, StreamBusyError, StreamClosedError
from ..headers import Headers
from ..observing import Outcome
from ..types import ChatCompletion, ChatCompletionChunk, ToolCall, Usage
from .call import Call, Service
from .send import Sender
from .timings import StreamStatistics, Timings
from .views import TextView, ToolCallView

if TYPE_CHECKING:
    # Type checkers know it by themselves; nothing is installed for it.
    from typing_extensions import TypeVar

    C_co = TypeVar("C_co", bound=ChatCompletion, default=ChatCompletion, covariant=True)
else:
    from typing import TypeVar

    C_co = TypeVar("C_co", bound=ChatCompletion, covariant=True)

__all__ = ["CompletionStream"]

Finish = Callable[[ChatCompletion, str | None], Any]
"""Makes of the whole completion, and the request's id, what `collect` returns."""


@final
class CompletionStream(Generic[C_co]):
    """A completion as it is generated: an async iterator of `ChatCompletionChunk`.

    Made by `client.chat.completions.stream(...)` without any I/O. The request is sent by
    `async with`, or by the first read when used without it. Iteration ends only when the
    server has finished; whatever else happens is an error that carries `partial`.

    Leaving `async with`, for whatever reason, closes the connection at once (unless the
    answer was complete: then it is kept for the next request), and the server stops
    generating. Without `async with` call `aclose()`, or read to the end.

    A cancelled read loses nothing and can be repeated. One task reads at a time; any task
    may close.
    """

    __slots__ = (
        "__weakref__",
        "_accumulator",
        "_batch",
        "_decoder",
        "_ending",
        "_failure",
        "_finish_with",
        "_folded",
        "_managed",
        "_pos",
        "_reading",
        "_sender",
        "_timings",
    )

    def __init__(self, service: Service, call: Call, finish: Finish | None = None) -> None:
        self._sender = Sender(service, call)
        self._finish_with = finish
        self._accumulator = Accumulator()
        self._decoder: CompletionDecoder | None = None
        self._batch: list[ChatCompletionChunk] = []
        self._pos = 0
        self._folded = 0
        self._ending = False
        self._failure: PenstockError | None = None
        self._reading = False
        self._managed = False
        self._timings = Timings()

    # --- opening and closing ---

    async def __aenter__(self) -> CompletionStream[C_co]:
        """Send the request; returns when the head of a success response is in.

        Raises the errors of `PenstockError` that a request can meet. Raised or cancelled,
        nothing stays open.
        """
        self._enter_read()
        try:
            self._check_readable()
            if self._decoder is None:
                await self._open(resumable=False)
        except anyio.get_cancelled_exc_class():
            # `__aexit__` will not run.
            self._report("cancelled", None)
            raise
        except Exception as error:
            self._report("abandoned" if isinstance(error, StreamClosedError) else "failed", error)
            raise
        finally:
            self._reading = False
        self._managed = True
        return self  # noqa: ASYNC910 - a read may have opened it

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        cancelled = exc is not None and isinstance(exc, anyio.get_cancelled_exc_class())
        await self._close("cancelled" if cancelled else "abandoned")  # noqa: ASYNC102 - closing shields what it has to

    async def aclose(self) -> None:
        """Close the connection at once, unless the answer was complete. Idempotent.

        From any task: one that is blocked in a read gets StreamClosedError.
        """
        await self._close("abandoned")

    async def _close(self, outcome: Outcome) -> None:
        sender = self._sender
        completed = sender.lifecycle.state is StreamState.COMPLETED
        sender.lifecycle.advance(Event.CLOSE)
        if sender.lifecycle.state is StreamState.CLOSED:
            self._fold()
            self._batch = []
            self._pos = self._folded = 0
        sender.interrupt()
        try:
            await sender.settle(drain=completed)
        finally:
            self._report(outcome, None)

    def __del__(self) -> None:
        sender = getattr(self, "_sender", None)
        if sender is None or sender.exchange is None or sender.exchange.settled:
            return
        completed = sender.lifecycle.state is StreamState.COMPLETED
        sender.abort()
        if not completed:
            warnings.warn(
                f"unclosed {self!r}: use `async with`, or call aclose()",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )

    # --- reading ---

    def __aiter__(self) -> CompletionStream[C_co]:
        return self

    async def __anext__(self) -> ChatCompletionChunk:
        """The next chunk. Cancelled, it loses nothing; StopAsyncIteration means completed."""
        # The usual case first, without another coroutine: a read brings many chunks.
        pos = self._pos
        if pos < len(self._batch):
            self._pos = pos + 1
            return self._batch[pos]  # noqa: ASYNC910 - one wait brings many chunks
        if await self.fill():
            self._pos = 1
            return self._batch[0]
        raise StopAsyncIteration

    async def read_batch(self) -> list[ChatCompletionChunk]:
        """All chunks that the next network read brings, or that wait already; [] at the end.

        For those who pass chunks on in bulk. Cancelled, it loses nothing.
        """
        if self._pos == len(self._batch) and not await self.fill():
            return []  # noqa: ASYNC910 - the end is known
        chunks = self._batch[self._pos :]
        self._pos = len(self._batch)
        return chunks  # noqa: ASYNC910 - one wait brings many chunks

    async def first_token(self) -> bool:
        """Read ahead until a token has come; False when the answer ends without one.

        What was read is still handed out by the reads that follow. Cancelled, it loses
        nothing. Raises as reading does.
        """
        while math.isnan(self._timings.first_token):
            if not await self.fill():
                return False
        return True  # noqa: ASYNC910 - it may have come before

    async def collect(self) -> C_co:
        """Read what is left and return the whole completion, from its first chunk on.

        With a type as `response_format`, `choices[0].message.parsed` is a value of it, or
        StructuredOutputError is raised. Cancelled, it loses nothing and may be called again.
        Raises as reading does.
        """
        self._pos = len(self._batch)
        while await self.fill():
            self._pos = len(self._batch)
        whole: Any = self.partial
        if self._finish_with is not None:
            whole = self._finish_with(whole, self.request_id)
        completion: C_co = whole
        return completion

    @property
    def text(self) -> AsyncIterator[str]:
        """The text alone: content deltas of choice 0, never empty. Reads this very stream."""
        return TextView(self)

    @property
    def tool_calls(self) -> AsyncIterator[ToolCall]:
        """The tool calls of choice 0, each one once, when it is complete. Reads this very stream.

        A call is complete when its arguments are whole and the next one was opened, or the
        answer finished. Whatever way the stream was read before, no call is left out, and
        none comes twice.
        """
        return ToolCallView(self)

    def take_tool_call(self) -> ToolCall | None:
        """A complete tool call that was not given before, if there is one by now."""
        self._fold()
        ended = self._sender.lifecycle.state is StreamState.COMPLETED
        return self._accumulator.take_complete_call(ended=ended)

    @property
    def partial(self) -> ChatCompletion:
        """The completion as far as it was handed out, at any time, also after a failure."""
        self._fold()
        return self._accumulator.completion()

    def _fold(self) -> None:
        if self._folded < self._pos:
            self._accumulator.extend(self._batch[self._folded : self._pos])
            self._folded = self._pos

    def receive_nowait(self) -> ChatCompletionChunk:
        """The next chunk if it has been read already; raises anyio.WouldBlock if not."""
        pos = self._pos
        if pos == len(self._batch):
            raise anyio.WouldBlock
        self._pos = pos + 1
        return self._batch[pos]

    async def fill(self) -> bool:
        """Read the network until further chunks can be received; False when completed.

        Cancelled, it loses nothing. Raises as reading does.
        """
        self._enter_read()
        sender = self._sender
        try:
            while True:
                if sender.lifecycle.state is not StreamState.FLOWING:
                    self._check_readable()
                    if sender.lifecycle.state is StreamState.COMPLETED:
                        return False  # noqa: ASYNC910 - the end is known
                if self._failure is not None:
                    await self._fail(self._failure)
                if self._ending:
                    await self._finish()
                elif self._decoder is None:
                    await self._open(resumable=True)
                else:
                    # Not in a coroutine of its own: once for each network read (3 %).
                    exchange = sender.exchange
                    assert exchange is not None
                    try:
                        data = await exchange.read()
                    except Exception as error:  # noqa: BLE001 - told apart, or raised again
                        await self._broken(error)
                    else:
                        if self._digest(self._decoder, data):
                            return True
        finally:
            self._reading = False

    def _enter_read(self) -> None:
        if self._reading:
            raise StreamBusyError("another task is reading this stream: one reader at a time")
        self._reading = True

    def _check_readable(self) -> None:
        state = self._sender.lifecycle.state
        if state is StreamState.CLOSED:
            raise StreamClosedError("the stream is closed")
        if state is StreamState.FAILED and self._failure is not None:
            # Never a clean end: who reads on after a failure meets it again.
            raise self._failure

    async def _open(self, failed: PenstockError | None = None, *, resumable: bool) -> None:
        try:
            exchange = await self._sender.open(failed, resumable=resumable)
        except PenstockError as error:
            if not isinstance(error, StreamClosedError):
                self._failure = error
                self._report("failed", error)
            raise
        self._decoder = CompletionDecoder(exchange.headers.get("content-type"))
        self._timings.waited_for_head = self._sender.limits.waited

    def _digest(self, decoder: CompletionDecoder, data: bytes) -> bool:
        """Make chunks of what a read brought; whether there are any."""
        sender, timings = self._sender, self._timings
        limits = sender.limits
        timings.last_read = now = limits.now
        timings.waited = limits.waited
        if sender.lifecycle.state is not StreamState.FLOWING:
            self._check_readable()
            sender.lifecycle.advance(Event.FIRST_BYTE)
            if data:
                timings.first_byte = now
        if not data:
            self._failure = decoder.end()
            self._ending = True
            return False
        chunks = decoder.feed(data)
        if decoder.token_seen:
            limits.token_arrived()
            if math.isnan(timings.first_token):
                timings.first_token = now
                if sender.reports is not None:
                    sender.reports.first_token(now)
        self._failure = decoder.error
        self._ending = decoder.done
        if not chunks:
            return False
        self._fold()
        # What is unread stays in front: `first_token` reads ahead.
        unread = self._batch[self._pos :]
        self._batch = unread + chunks if unread else chunks
        self._pos = self._folded = 0
        return True

    async def _broken(self, error: Exception) -> None:  # noqa: ASYNC910 - a failure is noted without a wait
        """The read failed: raise, or, when the body had not begun, send again."""
        sender = self._sender
        public = sender.translate(error)
        if sender.lifecycle.state is StreamState.CLOSED:
            raise StreamClosedError("the stream was closed while it was being read") from None
        if not isinstance(public, PenstockError):
            raise error
        if sender.service.closed or isinstance(public, StreamClosedError):
            sender.lifecycle.advance(Event.CLOSE)
            await sender.settle()
            raise StreamClosedError("the client was closed while the stream was being read")
        if public is not error:
            public.__cause__ = error
        exchange = sender.exchange
        if exchange is not None and exchange.body_bytes == 0:
            self._decoder = None
            await self._open(public, resumable=True)
            return
        if sender.lifecycle.state is StreamState.OPEN:
            sender.lifecycle.advance(Event.FIRST_BYTE)
        self._failure = public

    async def _fail(self, error: PenstockError) -> None:
        """Everything received has been handed out: now the failure is raised."""
        sender = self._sender
        error = sender.redacted(error)
        # What was read ahead comes with the error only.
        self._pos = len(self._batch)
        error.partial = self.partial
        if error.request_id is None:
            error.request_id = self.request_id
        sender.lifecycle.advance(Event.FAIL)
        self._report("failed", error)
        await sender.settle()
        raise error

    async def _finish(self) -> None:  # noqa: ASYNC910 - within a block, leaving that waits
        sender = self._sender
        sender.lifecycle.advance(Event.FINISH)
        sender.succeeded()
        sender.release_slot()
        self._report("completed", None)
        exchange = sender.exchange
        assert exchange is not None
        if self._managed:
            # Without waiting: the end of the body may be a segment behind [DONE], and
            # leaving the block has a moment for that.
            exchange.settle_nowait()
        else:
            await sender.settle(drain=True)

    # --- what is known about it ---

    @property
    def state(self) -> StreamState:
        """new, sending, waiting, open, flowing, completed, failed or closed."""
        return self._sender.lifecycle.state

    @property
    def status_code(self) -> int | None:
        """The response's HTTP status, once there is one."""
        exchange = self._sender.exchange
        return None if exchange is None or not exchange.status else exchange.status

    @property
    def headers(self) -> Headers:
        """The response's headers; empty until they are in."""
        exchange = self._sender.exchange
        return Headers() if exchange is None else exchange.headers

    @property
    def request_id(self) -> str | None:
        """The server's id of the request, when it gave one."""
        return request_id(self.headers)

    def statistics(self) -> StreamStatistics:
        """Numbers of this moment."""
        sender = self._sender
        exchange = sender.exchange

        decoder = self._decoder
        return self._timings.statistics(
            attempts=sender.attempts,
            events=0 if decoder is None else decoder.events - decoder.done,
            bytes=0 if exchange is None else exchange.body_bytes,
            started=sender.started,
            headers_at=sender.headers_at,
        )

    def _report(self, outcome: Outcome, error: Exception | None) -> None:
        self._sender.report_finished(outcome, error, self._usage)

    def _usage(self) -> Usage | None:
        return self.partial.usage

    def __repr__(self) -> str:
        return f"<CompletionStream {self._sender.call.model!r} {self.state.value}>"
