"""An open exchange, read as bytes until there is a verdict: complete, or an error.

`BodyReader` is what every answer is read by: completions, events, raw bytes, whole answers. A
decoder turns its bytes into items and says where the answer ends.

    exchange.read() ──bytes──> decoder.feed() ──items──> batch[pos:] ──> the stream that hands out
         │                        │ done, error
         │ b"" at a proper end    v
         └──────────────────> decoder.end() ──> verdict: COMPLETE, or an error after the batch

Between two calls nothing of it is alive: no task, no cancel scope, no generator. All it knows is
in its fields, which change only after an await has returned, so a cancelled read loses nothing.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

import anyio

from .._http.exchange import Exchange
from .._http.network import Taken
from .._policy.deadlines import AnswerEnded
from .._wire.labels import Labels
from ..errors import PenstockError, StreamBusyError, StreamClosedError
from ..headers import Headers, request_id
from ..observing.figures import StreamStatistics
from ..types import ChatCompletion, TextCompletion, Usage
from .attempts import Sender
from .call import Call, Service
from .lifecycle import StreamState
from .timings import Timings

if TYPE_CHECKING:
    from ..observing.events import Outcome
    from .reports import Summary

__all__ = ["BodyReader", "Decoder", "busy"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Decoder(Protocol[T_co]):
    """Bytes of one body to items. Never raises: `error` says what is wrong."""

    done: bool
    """The answer is complete, whatever follows in the body."""
    error: PenstockError | None
    """The answer failed, after the items given so far."""
    token_seen: bool
    """The last `feed` brought progress of the model."""
    finished_all: bool
    """Nothing but the end, and perhaps usage, is still to come."""
    events: int
    """Events so far."""

    def feed(self, data: bytes) -> Sequence[T_co]:
        """Take the next bytes; return the items they complete."""
        ...

    def end(self) -> Sequence[T_co]:
        """Take a proper end of the body; return the last items. Sets `error` or `done`."""
        ...


class _Complete:
    """The verdict on an answer that is complete."""


COMPLETE: Final = _Complete()


class BodyReader(ABC, Generic[T]):
    """The state of one answer, and the only one who reads its exchange."""

    __slots__ = (
        "_decoder",
        "_exchange",
        "_resting",
        "_verdict",
        "batch",
        "managed",
        "pos",
        "reading",
        "sender",
        "timings",
    )

    def __init__(self, service: Service, call: Call) -> None:
        self.sender: Sender = Sender(service, call)
        self.batch: list[T] = []
        """What the last read brought, behind what was unread before it."""
        self.pos: int = 0
        """How much of the batch has been handed out."""
        self.managed: bool = False
        """True inside `async with`: leaving the block may wait for the end of the body."""
        self.timings: Timings = Timings()
        self._decoder: Decoder[T] | None = None
        """None until a success head is in."""
        self._exchange: Exchange
        self._verdict: _Complete | PenstockError | None = None
        """How the answer ends once the batch is handed out; None while it goes on."""
        self.reading: bool = False
        """True while a task is in a read: a second one gets StreamBusyError."""
        self._resting: bool = False
        """True if the next read is for `take` first."""

    # --- what differs between answers ---

    @abstractmethod
    def new_decoder(self, exchange: Exchange) -> Decoder[T]:
        """Return the decoder for a body whose head is in."""

    def arrived(self, items: Sequence[T]) -> PenstockError | None:
        """Note items before they join the batch; return an error to end the answer."""
        return None

    def at_rest(self) -> bool:
        """Return True if the next read may be a usual one, which `take` takes."""
        return False

    def take(self, data: bytes, now: float) -> Taken:
        """Take a usual read at once, which arrived at `now`, while all items are handed out."""
        return Taken.NOTHING

    def begin_rest(self) -> None:
        """Have the next read given to `take` first."""
        self._resting = True

    def end_rest(self) -> None:
        """Have the next read made the general way."""
        self._resting = False

    def explain(self, error: PenstockError) -> None:
        """Add to the error what is known about the answer so far."""

    def answer(self) -> ChatCompletion | TextCompletion | None:
        """Return the completion so far, for observers; None for other answers."""
        return None

    def usage(self) -> Usage | None:
        """Return the tokens the answer has cost, as far as the server said."""
        answer = self.answer()
        return None if answer is None else answer.usage

    def labels(self) -> Labels:
        """Return what the body says of an answer that is not a completion."""
        return Labels()

    # --- reading ---

    async def enter(self, *, managed: bool = True) -> None:
        """Send the request; return when the head of a success response is in.

        `managed`: for a block, at whose end it is closed. When this raises, nothing stays open.
        """
        self._enter_read()
        try:
            self._check_readable()
            if self._decoder is None:
                await self._open(resumable=False)
        except Exception as error:
            self.report("abandoned" if isinstance(error, StreamClosedError) else "failed", error)
            raise
        except anyio.get_cancelled_exc_class():
            self.report("cancelled", None)
            raise
        finally:
            self.reading = False
        self.managed = managed

    async def fill(self) -> bool:
        """Read the network until further items can be received; False when completed.

        Cancelled, it loses nothing. Raises as reading does.
        """
        # Not by `_enter_read`, as this runs for each network read.
        if self.reading:
            raise busy()
        self.reading = True
        sender = self.sender
        try:
            while True:
                if sender.state is not StreamState.FLOWING:
                    self._check_readable()
                    if sender.state is StreamState.COMPLETED:
                        return False
                if self._verdict is not None:
                    # No variable of a frame that an error passes: the key may have come back.
                    data = b""
                    await self._conclude(self._verdict)
                elif self._decoder is None:
                    await self._open(resumable=True)
                else:
                    try:
                        if self._resting:
                            if await self._read_at_rest():
                                return True
                            if self._resting:
                                continue  # `take` has given it away
                        data = await self._exchange.read()
                    except Exception as error:  # noqa: BLE001 - told apart, or raised again
                        data = b""
                        if await self._broken(error):
                            return True
                    else:
                        if self._digest(self._decoder, data):
                            return True
        finally:
            self.reading = False

    def wait(self) -> Awaitable[object] | None:
        """Begin a wait in which `take` is called where the bytes arrive; None if it may not.

        A method, as anything bound to this object that it keeps would make a cycle.
        """
        return self._exchange.wait(self.sender.limits, self.take) if self._resting else None

    async def _read_at_rest(self) -> bool:
        """Read what may be usual; return True if there is an item, else look what is next."""
        if self.pos != len(self.batch):
            self.end_rest()
            return False
        waiter = self.wait()
        if waiter is not None:
            try:
                await waiter
            except BaseException:
                self._exchange.stop_waiting()
                raise
            if self.pos != len(self.batch):
                return True
            self.woken()
            if not self._resting:
                return False
        data = await self._exchange.receive()
        taken = self.take(data, self.sender.limits.now)
        if taken is Taken.NOTHING:
            self.end_rest()
            self._exchange.put_back(data)
        return taken is Taken.ENDS

    def cancelled(self) -> None:
        """End a read that was cancelled in a wait which `wait` began."""
        self.reading = False
        self._exchange.stop_waiting()

    def woken(self) -> None:
        """End a wait in which no item has come; what has arrived is for the general way."""
        self._exchange.stop_waiting()
        data = self._exchange.receive_nowait()
        if data:
            self.end_rest()
            self._exchange.put_back(data)

    def _enter_read(self) -> None:
        if self.reading:
            raise busy()
        self.reading = True

    def _check_readable(self) -> None:
        state = self.sender.state
        if state is StreamState.CLOSED:
            closed = StreamClosedError("the stream is closed")
            self.explain(closed)
            raise closed
        if state is StreamState.FAILED and isinstance(self._verdict, PenstockError):
            # Never a clean end: who reads on after a failure meets it again.
            raise copy.copy(self._verdict)

    async def _open(self, failed: PenstockError | None = None, *, resumable: bool) -> None:
        try:
            exchange = await self.sender.open(failed, resumable=resumable)
        except PenstockError as error:
            if not isinstance(error, StreamClosedError):
                self._verdict = copy.copy(error)  # as in `_failed`
                self.report("failed", error)
            raise
        self._exchange = exchange
        self._decoder = self.new_decoder(exchange)
        self.timings.waited_for_head = self.sender.limits.waited

    def _digest(self, decoder: Decoder[T], data: bytes) -> bool:
        """Make items of what a read brought; whether there are any."""
        sender, timings = self.sender, self.timings
        limits = sender.limits
        timings.last_read = now = limits.now
        timings.waited = limits.waited
        if sender.state is not StreamState.FLOWING:
            self._check_readable()
            sender.body_began()
            if data:
                timings.first_byte = now
        items = decoder.feed(data) if data else decoder.end()
        if decoder.token_seen:
            limits.token_arrived()
            again = self._exchange.goes_on
            if timings.token_arrived(now, again=again) and sender.reports is not None:
                sender.reports.first_token(now)
        if decoder.finished_all:
            limits.answer_finished(progress=decoder.token_seen)
        if decoder.error is not None:
            self._verdict = copy.copy(decoder.error)  # as in `_failed`: the decoder keeps its own
        elif decoder.done:
            self._verdict = COMPLETE
        if self._verdict is None and self.at_rest():
            self.begin_rest()
        if not items:
            return False
        error = self.arrived(items)
        if error is not None and not isinstance(self._verdict, PenstockError):
            self._verdict = error
        # What is unread stays in front: `first_token` reads ahead.
        del self.batch[: self.pos]
        self.pos = 0
        if self.batch or type(items) is not list:
            self.batch += items
        else:
            self.batch = items
        return True

    async def _broken(self, error: Exception) -> bool:
        """Take a failed read: an end, another attempt, or a failure; whether it brought items."""
        if isinstance(error, AnswerEnded):  # silence after every finish_reason
            assert self._decoder is not None
            if self._decoder.finished_all:
                self._exchange.expect_no_end()
                return self._digest(self._decoder, b"")
            # A choice has begun since, without a token.
            self.sender.limits.answer_goes_on()
            return False
        try:
            failure = await self.sender.read_failed(error)
        except StreamClosedError as closed:
            self.explain(closed)
            raise
        if self.sender.state is StreamState.FLOWING:
            self._verdict = failure
        else:
            self._decoder = None
            await self._open(failure, resumable=True)
        return False

    async def _conclude(self, verdict: _Complete | PenstockError) -> None:
        """Everything received has been handed out: complete the call, or raise its failure."""
        sender = self.sender
        if isinstance(verdict, PenstockError):
            try:
                await sender.fail(self._failed(verdict), self.usage)
            finally:
                del verdict  # its traceback holds this frame
        sender.finish(self.usage)
        self.report("completed", None)
        self._exchange.settle_nowait()
        # The end of the body may be a segment behind [DONE]: leaving the block has a moment for it.
        if not self.managed:
            await sender.settle(drain=True)

    def _failed(self, error: PenstockError) -> PenstockError:
        """Return the error to be raised, and tell of it. A copy is kept for later reads.

        The frames of one that was raised lead back to this object: keeping it would make a cycle.
        """
        # What was read ahead comes with the error only.
        self.pos = len(self.batch)
        self.explain(error)
        if error.request_id is None:
            error.request_id = request_id(self.headers)
        error = self.sender.describe(error)
        self._verdict = copy.copy(error)
        self.report("failed", error)
        return error

    async def aclose(self, outcome: Outcome) -> None:
        """Settle everything, and tell the observer what became of it. Idempotent."""
        if self.sender.state not in (StreamState.COMPLETED, StreamState.FAILED):
            self.forget()
        try:
            await self.sender.close(self.usage)
        finally:
            self.report(outcome, None)

    def forget(self) -> None:
        """Drop what was read and not handed out, as it is not asked for any more."""
        self.end_rest()
        self.batch = []
        self.pos = 0

    # --- what is known about it ---

    @property
    def headers(self) -> Headers:
        """The response's headers; empty until they are in."""
        exchange = self.sender.exchange
        return Headers() if exchange is None else exchange.headers

    def statistics(self, until: float | None = None) -> StreamStatistics:
        """Numbers of this moment; the waits count until the last read, or `until`."""
        sender = self.sender
        exchange = sender.exchange
        decoder = self._decoder
        return self.timings.statistics(
            attempts=sender.attempts,
            events=0 if decoder is None else decoder.events,
            bytes=0 if exchange is None else exchange.body_bytes,
            started=sender.started,
            headers_at=sender.headers_at,
            phases=sender.phases,
            until=until,
        )

    def report(self, outcome: Outcome, error: Exception | None) -> None:
        """Tell the observer, if there is one, how it ended; only the first time counts."""
        self.sender.report_finished(outcome, error, self._summary)

    def _summary(self, now: float) -> Summary:
        from .reports import Summary  # loaded already, as there is an observer

        self.timings.waited = max(self.timings.waited, self.sender.limits.waited)
        answer = self.answer()
        if answer is None:
            return Summary(self.statistics(now), self.usage(), labels=self.labels())
        # Of a stream, the method would add it up anew.
        return Summary(self.statistics(now), answer.usage, answer, Labels.of(answer))


def busy() -> StreamBusyError:
    """Return the error for a second reader."""
    return StreamBusyError("another task is reading this stream: one reader at a time")
