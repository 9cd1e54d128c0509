"""A streamed completion for callers that block."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Callable, Coroutine, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, final

import anyio

from .._call.lifecycle import StreamState
from .._call.stream import CompletionStream
from .._call.timings import StreamStatistics
from ..errors import StreamBusyError
from ..headers import Headers
from ..types import ChatCompletion, ChatCompletionChunk, ToolCall
from ._loop.loop_thread import LoopThread
from .views import TextView, ToolCallView

if TYPE_CHECKING:
    # Type checkers know it by themselves; nothing is installed for it.
    from typing_extensions import TypeVar

    C_co = TypeVar("C_co", bound=ChatCompletion, default=ChatCompletion, covariant=True)
else:
    from typing import TypeVar

    C_co = TypeVar("C_co", bound=ChatCompletion, covariant=True)

__all__ = ["Stream"]

R = TypeVar("R")
_UNDER_WAY = (StreamState.SENDING, StreamState.WAITING, StreamState.OPEN, StreamState.FLOWING)


@final
class Stream(Generic[C_co]):
    """A completion as it is generated: an iterator of `ChatCompletionChunk`.

    The blocking twin of `CompletionStream`, with the same rules: nothing is sent before
    `with` or the first read, iteration ends only when the server has finished, whatever
    else happens is an error that carries `partial`. Leaving `with`, for whatever reason,
    closes the connection at once. Without `with` call `close()`, or read to the end.

    One thread reads at a time (StreamBusyError otherwise). Any thread may close it, and look
    at `partial` and the rest. Ctrl-C ends a read at once and closes the stream: `partial`
    stays, and reading on is a StreamClosedError.
    """

    __slots__ = ("__weakref__", "_loop", "_mutex", "_reader", "_stream")

    def __init__(self, loop: LoopThread, stream: CompletionStream[C_co]) -> None:
        self._loop = loop
        self._stream = stream
        # Held by who looks into the stream from outside the loop, or closes it; never while
        # a read waits. Reentrant for signals' handlers.
        self._mutex = threading.RLock()
        # Put here by the read that waits. An object of its own, so that whatever exception
        # ends a read, and wherever, it takes back its own claim only.
        self._reader: object | None = None

    # --- opening and closing ---

    def __enter__(self) -> Stream[C_co]:
        """Send the request; returns when the head of a success response is in.

        Raises the errors of `PenstockError` that a request can meet, StreamClosedError
        when the stream or its client is closed, RuntimeError inside a running event loop.
        Whatever it raises, nothing stays open.
        """
        self._wait_for(self._stream.__aenter__)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection at once, unless the answer was complete. Idempotent.

        From any thread: one that is blocked in a read gets StreamClosedError.
        """
        with self._mutex:
            if self.state is not StreamState.CLOSED:
                self._loop.finish(self._stream.aclose)

    def __del__(self) -> None:
        stream = getattr(self, "_stream", None)
        if stream is None or stream.state not in _UNDER_WAY or not self._loop.is_running:
            return
        message = f"unclosed {self!r}: use `with`, or call close()"
        # On the loop, where what it took belongs.
        self._loop.post(stream.aclose)
        warnings.warn(message, ResourceWarning, source=self, stacklevel=2)

    # --- reading ---

    def __iter__(self) -> Iterator[ChatCompletionChunk]:
        return self

    def __next__(self) -> ChatCompletionChunk:
        """The next chunk; StopIteration means completed.

        Raises the failure of the stream, with `partial`, after the last chunk that came.
        StreamBusyError when another thread is reading, StreamClosedError when the stream is
        closed, also by another thread while this one waits.
        """
        while True:
            claim = None
            try:
                with self._mutex:
                    self._check_free()
                    # A read brings many chunks over from the loop's thread, for one crossing.
                    try:
                        return self._stream.receive_nowait()
                    except (anyio.WouldBlock, IndexError):
                        pass  # the latter: closed in the midst, by a signal's handler
                    if self.state is StreamState.COMPLETED:  # perhaps the loop is gone
                        raise StopIteration
                    claim = self._reader = object()
                self._loop.run(self._read)
            finally:
                if claim is not None and self._reader is claim:
                    self._reader = None

    def collect(self) -> C_co:
        """Read what is left and return the whole completion, from its first chunk on.

        With a type as `response_format`, `choices[0].message.parsed` is a value of it, or
        StructuredOutputError is raised. Raises as reading does.
        """
        if self.state is not StreamState.COMPLETED:
            self._wait_for(self._skip_all)
        with self._mutex:
            return _result_of(self._stream.collect())

    @property
    def text(self) -> Iterator[str]:
        """The text alone: content deltas of choice 0, never empty. Reads this very stream."""
        return TextView(self)

    @property
    def tool_calls(self) -> Iterator[ToolCall]:
        """The tool calls of choice 0, each one once, when it is complete. Reads this very stream.

        A call is complete when its arguments are whole and the next one was opened, or the
        answer finished. Whatever way the stream was read before, no call is left out, and
        none comes twice.
        """
        return ToolCallView(self)

    def take_tool_call(self) -> ToolCall | None:
        """A complete tool call that was not given before, if there is one by now."""
        return self._look(self._stream.take_tool_call)

    @property
    def partial(self) -> ChatCompletion:
        """The completion as far as it was handed out, at any time, also after a failure."""
        return self._look(lambda: self._stream.partial)

    # --- what is known about it ---

    @property
    def state(self) -> StreamState:
        """new, sending, waiting, open, flowing, completed, failed or closed."""
        return self._stream.state

    @property
    def status_code(self) -> int | None:
        """The response's HTTP status, once there is one."""
        return self._stream.status_code

    @property
    def headers(self) -> Headers:
        """The response's headers; empty until they are in."""
        return self._stream.headers

    @property
    def request_id(self) -> str | None:
        """The server's id of the request, when it gave one."""
        return self._stream.request_id

    def statistics(self) -> StreamStatistics:
        """Numbers of this moment."""
        return self._stream.statistics()

    def __repr__(self) -> str:
        return repr(self._stream).replace("CompletionStream", "Stream", 1)

    async def _read(self) -> bool:
        try:
            return await self._stream.fill()
        except asyncio.CancelledError as error:
            # Whoever waited for it was interrupted: the server is to stop now, not when
            # somebody leaves the block.
            await self._stream.__aexit__(type(error), error, None)  # noqa: ASYNC102 - closing shields what it has to
            raise

    async def _skip_all(self) -> None:
        more = True
        while more:
            try:
                while True:
                    self._stream.receive_nowait()
            except anyio.WouldBlock:
                more = await self._read()

    def _check_free(self) -> None:
        if self._reader is not None:
            raise StreamBusyError("another thread is reading this stream: one at a time")

    def _wait_for(self, step: Callable[[], Coroutine[Any, Any, R]]) -> R:
        claim = object()
        try:
            with self._mutex:
                self._check_free()
                self._reader = claim
            return self._loop.run(step)
        finally:
            if self._reader is claim:
                self._reader = None

    def _look(self, look: Callable[[], R]) -> R:
        """What `look` sees of the stream, between two steps of the loop if that is at it."""
        with self._mutex:
            if self._reader is None or not self._loop.is_running:
                return look()

            async def looked() -> R:
                return look()

            return self._loop.run(looked)


def _result_of(coroutine: Coroutine[Any, Any, R]) -> R:
    """The result of a coroutine that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: R = done.value
        return result
    raise AssertionError("it waits")
