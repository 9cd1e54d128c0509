"""One streamed completion, as its user sees it; `reader` is what reads it.

It may be opened, read and closed from different tasks, and a cancelled read loses nothing.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, final

import anyio

from .._wire.status import request_id
from ..headers import Headers
from ..types import ChatCompletion, ChatCompletionChunk, ToolCall
from .call import Call, Service
from .lifecycle import StreamState
from .reader import Reader
from .timings import StreamStatistics
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

    __slots__ = ("__weakref__", "_finish_with", "_reader")

    def __init__(self, service: Service, call: Call, finish: Finish | None = None) -> None:
        self._reader = Reader(service, call)
        self._finish_with = finish

    # --- opening and closing ---

    async def __aenter__(self) -> CompletionStream[C_co]:
        """Send the request; returns when the head of a success response is in.

        Raises the errors of `PenstockError` that a request can meet. Raised or cancelled,
        nothing stays open.
        """
        await self._reader.enter()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        cancelled = exc is not None and isinstance(exc, anyio.get_cancelled_exc_class())
        await self._reader.close("cancelled" if cancelled else "abandoned")  # noqa: ASYNC102 - closing shields what it has to

    async def aclose(self) -> None:
        """Close the connection at once, unless the answer was complete. Idempotent.

        From any task: one that is blocked in a read gets StreamClosedError.
        """
        await self._reader.close("abandoned")

    def __del__(self) -> None:
        reader = getattr(self, "_reader", None)
        if reader is None:
            return
        sender = reader.sender
        if sender.exchange is None or sender.exchange.settled:
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
        reader = self._reader
        pos = reader.pos
        if pos < len(reader.batch):
            reader.pos = pos + 1
            return reader.batch[pos]
        if await reader.fill():
            reader.pos = 1
            return reader.batch[0]
        raise StopAsyncIteration

    async def read_batch(self) -> list[ChatCompletionChunk]:
        """All chunks that the next network read brings, or that wait already; [] at the end.

        For those who pass chunks on in bulk. Cancelled, it loses nothing.
        """
        reader = self._reader
        if reader.pos == len(reader.batch) and not await reader.fill():
            return []
        chunks = reader.batch[reader.pos :]
        reader.pos = len(reader.batch)
        return chunks

    async def first_token(self) -> bool:
        """Read ahead until a token has come; False when the answer ends without one.

        What was read is still handed out by the reads that follow. Cancelled, it loses
        nothing. Raises as reading does.
        """
        while math.isnan(self._reader.timings.first_token):
            if not await self._reader.fill():
                return False
        return True

    async def collect(self) -> C_co:
        """Read what is left and return the whole completion, from its first chunk on.

        With a type as `response_format`, `choices[0].message.parsed` is a value of it, or
        StructuredOutputError is raised. Cancelled, it loses nothing and may be called again.
        Raises as reading does.
        """
        reader = self._reader
        reader.pos = len(reader.batch)
        while await reader.fill():
            reader.pos = len(reader.batch)
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
        reader = self._reader
        reader.fold()
        ended = reader.sender.lifecycle.state is StreamState.COMPLETED
        return reader.accumulator.take_complete_call(ended=ended)

    @property
    def partial(self) -> ChatCompletion:
        """The completion as far as it was handed out, at any time, also after a failure."""
        return self._reader.partial

    def receive_nowait(self) -> ChatCompletionChunk:
        """The next chunk if it has been read already; raises anyio.WouldBlock if not."""
        reader = self._reader
        pos = reader.pos
        if pos == len(reader.batch):
            raise anyio.WouldBlock
        reader.pos = pos + 1
        return reader.batch[pos]

    async def fill(self) -> bool:
        """Read the network until further chunks can be received; False when completed.

        Cancelled, it loses nothing. Raises as reading does.
        """
        return await self._reader.fill()

    # --- what is known about it ---

    @property
    def state(self) -> StreamState:
        """new, sending, waiting, open, flowing, completed, failed or closed."""
        return self._reader.sender.lifecycle.state

    @property
    def status_code(self) -> int | None:
        """The response's HTTP status, once there is one."""
        exchange = self._reader.sender.exchange
        return None if exchange is None or not exchange.status else exchange.status

    @property
    def headers(self) -> Headers:
        """The response's headers; empty until they are in."""
        return self._reader.headers

    @property
    def request_id(self) -> str | None:
        """The server's id of the request, when it gave one."""
        return request_id(self.headers)

    def statistics(self) -> StreamStatistics:
        """Numbers of this moment."""
        return self._reader.statistics()

    def __repr__(self) -> str:
        return f"<CompletionStream {self._reader.sender.call.model!r} {self.state.value}>"
