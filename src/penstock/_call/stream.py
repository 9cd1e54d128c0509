"""One streamed chat completion, as its user sees it; `reader` is what reads it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Generic, final

from .._wire.status import with_headers
from ..types import ChatCompletion, ChatCompletionChunk, ToolCall
from .base_stream import BaseStream
from .call import Call, Service
from .reader import Reader, Sink
from .views import TextView, ToolCallView, content_of

if TYPE_CHECKING:
    from .._typed.partial_json import PartialJSON
    from ..structured import OutputType

if TYPE_CHECKING:
    # Type checkers know it by themselves; nothing is installed for it.
    from typing_extensions import TypeVar

    C_co = TypeVar("C_co", bound=ChatCompletion, default=ChatCompletion, covariant=True)
else:
    from typing import TypeVar

    C_co = TypeVar("C_co", bound=ChatCompletion, covariant=True)

__all__ = ["CompletionStream", "forward_tokens"]


@final
class CompletionStream(BaseStream[ChatCompletionChunk], Generic[C_co]):
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

    __slots__ = ("_output", "_so_far")

    _reader: Reader

    def __init__(self, service: Service, call: Call, output: OutputType[Any] | None = None) -> None:
        super().__init__(Reader(service, call))
        self._output = output
        self._so_far: PartialJSON | None = None

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
        whole: Any = with_headers(self.partial, self.headers)
        if self._output is not None:
            whole = self._output.completion(whole)
        completion: C_co = whole
        return completion

    @property
    def text(self) -> AsyncIterator[str]:
        """The text alone: content deltas of choice 0, never empty. Reads this very stream."""
        return TextView(self, content_of)

    @property
    def tool_calls(self) -> AsyncIterator[ToolCall]:
        """The tool calls of choice 0, each one once, when it is complete. Reads this very stream.

        A call is complete when its arguments are whole and the next one was opened, or the
        answer finished. Whatever way the stream was read before, no call is left out, and
        none comes twice.
        """
        return ToolCallView(self)

    def take_tool_call(self) -> ToolCall | None:
        """Return a complete tool call that was not given before, if there is one by now."""
        return self._reader.take_tool_call()

    @property
    def partial(self) -> ChatCompletion:
        """The completion as far as it was handed out, at any time, also after a failure."""
        return self._reader.partial

    def partial_value(self) -> Any:
        """Return the JSON value of the text of choice 0 as far as it was handed out.

            async for chunk in stream:
                show(stream.partial_value())    # {"name": "Oslo", "country": "Nor"}

        For answers that are JSON, with a type as `response_format` or without: dicts, lists,
        texts and numbers, however the type would have them. A text may still grow; a number, a
        literal or a member is there when it is whole. None before there is any value; after
        something that is not JSON the value of what came before it. It never raises and reads
        nothing: each call decodes once what is there, at any time, also after a failure.
        `collect()` gives the checked value of the type.
        """
        if self._so_far is None:
            from .._typed.partial_json import PartialJSON

            self._so_far = PartialJSON()
        choices = self.partial.choices
        text = (choices[0].message.content if choices else None) or ""
        value = self._so_far.value(text)
        return value if self._output is None else self._output.unwrapped(value)


def forward_tokens(stream: object, sink: Sink) -> None:
    """Give the sink a stream's tokens where they arrive, while a task waits in `read_batch`.

    `read_batch` returns all else. Streams that are not of chat completions give it nothing.
    """
    if isinstance(stream, CompletionStream):
        stream._reader.forward(sink)  # pyright: ignore[reportPrivateUsage] - of this module
