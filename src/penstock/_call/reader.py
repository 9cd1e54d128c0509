"""What reads one stream: an open exchange's bytes become chunks, and its end a verdict.

Between two calls nothing of it is alive: no task, no cancel scope, no generator. All it
knows is in its fields, which change only after an await has returned, so a cancelled read
loses nothing. `CompletionStream` hands out what it has read.
"""

from __future__ import annotations

import math

import anyio

from .._wire.accumulate import MAX_TOOL_CALLS, Accumulator
from .._wire.completion import CompletionDecoder
from .._wire.status import request_id
from ..errors import APIResponseError, PenstockError, StreamBusyError, StreamClosedError
from ..headers import Headers
from ..observing import Outcome
from ..types import ChatCompletion, ChatCompletionChunk, Usage
from .attempts import Sender
from .call import Call, Service
from .lifecycle import Event, StreamState
from .timings import StreamStatistics, Timings

__all__ = ["MAX_BYTES_AHEAD", "MAX_CHUNKS_AHEAD", "Reader"]

# A race reads ahead to the first token. Before it servers send a role, and some the log
# probabilities of the prompt.
MAX_CHUNKS_AHEAD = 4096
MAX_BYTES_AHEAD = 16 * 1024 * 1024


class Reader:
    """The state of one stream, and the only one who reads its exchange."""

    __slots__ = (
        "_decoder",
        "_ending",
        "_failure",
        "_folded",
        "_reading",
        "accumulator",
        "batch",
        "managed",
        "pos",
        "sender",
        "timings",
    )

    def __init__(self, service: Service, call: Call) -> None:
        self.sender = Sender(service, call)
        self.accumulator = Accumulator()
        """What was handed out, as far as it is folded."""
        self.batch: list[ChatCompletionChunk] = []
        """What the last read brought, with what was unread before it."""
        self.pos = 0
        """How much of the batch has been handed out."""
        self.managed = False
        """Whether there is a block that will be left."""
        self.timings = Timings()
        self._decoder: CompletionDecoder | None = None
        self._folded = 0
        self._ending = False
        self._failure: PenstockError | None = None
        self._reading = False

    async def enter(self) -> None:
        """Open it for a block, which will not be entered when this raises: nothing stays open."""
        self._enter_read()
        try:
            self._check_readable()
            if self._decoder is None:
                await self._open(resumable=False)
        except anyio.get_cancelled_exc_class():
            self.report("cancelled", None)
            raise
        except Exception as error:
            self.report("abandoned" if isinstance(error, StreamClosedError) else "failed", error)
            raise
        finally:
            self._reading = False
        self.managed = True

    async def fill(self) -> bool:
        """Read the network until further chunks can be received; False when completed.

        Cancelled, it loses nothing. Raises as reading does.
        """
        self._enter_read()
        sender = self.sender
        try:
            while True:
                if sender.lifecycle.state is not StreamState.FLOWING:
                    self._check_readable()
                    if sender.lifecycle.state is StreamState.COMPLETED:
                        return False
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
        state = self.sender.lifecycle.state
        if state is StreamState.CLOSED:
            raise StreamClosedError("the stream is closed")
        if state is StreamState.FAILED and self._failure is not None:
            # Never a clean end: who reads on after a failure meets it again.
            raise self._failure

    async def _open(self, failed: PenstockError | None = None, *, resumable: bool) -> None:
        try:
            exchange = await self.sender.open(failed, resumable=resumable)
        except PenstockError as error:
            if not isinstance(error, StreamClosedError):
                self._failure = error
                self.report("failed", error)
            raise
        self._decoder = CompletionDecoder(exchange.headers.get("content-type"))
        self.timings.waited_for_head = self.sender.limits.waited

    def _digest(self, decoder: CompletionDecoder, data: bytes) -> bool:
        """Make chunks of what a read brought; whether there are any."""
        sender, timings = self.sender, self.timings
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
        self.fold()
        if self.accumulator.tool_calls > MAX_TOOL_CALLS and self._failure is None:
            self._failure = APIResponseError(
                f"the answer has more than {MAX_TOOL_CALLS} tool calls"
            )
        # What is unread stays in front: `first_token` reads ahead.
        del self.batch[: self.pos]
        ahead = len(self.batch)
        if ahead:
            self.batch += chunks
            if math.isnan(timings.first_token):
                self._check_ahead(ahead)
        else:
            self.batch = chunks
        self.pos = self._folded = 0
        return True

    def _check_ahead(self, chunks: int) -> None:
        """Bound what is kept for the reads that follow, while a token is waited for."""
        exchange = self.sender.exchange
        size = 0 if exchange is None else exchange.body_bytes
        if self._failure is None and (chunks > MAX_CHUNKS_AHEAD or size > MAX_BYTES_AHEAD):
            self._failure = APIResponseError(
                f"{chunks} chunks and {size} bytes of an answer without a token"
            )

    async def _broken(self, error: Exception) -> None:
        """The read failed: raise, or, when the body had not begun, send again."""
        sender = self.sender
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
        sender = self.sender
        error = sender.redacted(error)
        # What was read ahead comes with the error only.
        self.pos = len(self.batch)
        error.partial = self.partial
        if error.request_id is None:
            error.request_id = request_id(self.headers)
        sender.lifecycle.advance(Event.FAIL)
        self.report("failed", error)
        await sender.settle()
        raise error

    async def _finish(self) -> None:
        sender = self.sender
        sender.lifecycle.advance(Event.FINISH)
        sender.succeeded()
        sender.release_slot()
        self.report("completed", None)
        exchange = sender.exchange
        assert exchange is not None
        if self.managed:
            # Without waiting: the end of the body may be a segment behind [DONE], and
            # leaving the block has a moment for that.
            exchange.settle_nowait()
        else:
            await sender.settle(drain=True)

    async def close(self, outcome: Outcome) -> None:
        """Settle everything, and tell the observer what became of it. Idempotent."""
        sender = self.sender
        completed = sender.lifecycle.state is StreamState.COMPLETED
        sender.lifecycle.advance(Event.CLOSE)
        if sender.lifecycle.state is StreamState.CLOSED:
            self.fold()
            self.batch = []
            self.pos = self._folded = 0
        sender.interrupt()
        try:
            await sender.settle(drain=completed)
        finally:
            self.report(outcome, None)

    # --- what is known about it ---

    def fold(self) -> None:
        """Add what has been handed out since to the accumulated answer."""
        if self._folded < self.pos:
            self.accumulator.extend(self.batch[self._folded : self.pos])
            self._folded = self.pos

    @property
    def partial(self) -> ChatCompletion:
        """The completion as far as it was handed out."""
        self.fold()
        return self.accumulator.completion()

    @property
    def headers(self) -> Headers:
        """The response's headers; empty until they are in."""
        exchange = self.sender.exchange
        return Headers() if exchange is None else exchange.headers

    def statistics(self) -> StreamStatistics:
        """Numbers of this moment."""
        sender = self.sender
        exchange = sender.exchange
        decoder = self._decoder
        return self.timings.statistics(
            attempts=sender.attempts,
            events=0 if decoder is None else decoder.events - decoder.done,
            bytes=0 if exchange is None else exchange.body_bytes,
            started=sender.started,
            headers_at=sender.headers_at,
        )

    def report(self, outcome: Outcome, error: Exception | None) -> None:
        """Tell the observer, if there is one, how it ended; only the first time counts."""
        self.sender.report_finished(outcome, error, self._usage)

    def _usage(self) -> Usage | None:
        return self.partial.usage
