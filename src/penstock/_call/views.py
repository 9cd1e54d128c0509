"""A stream seen as its text, or as its tool calls.

No generators: a cancelled read ends nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, Protocol, TypeVar

from ..types import ChatCompletionChunk, TextCompletion, ToolCall

__all__ = ["TextView", "ToolCallView", "content_of", "text_of"]


C = TypeVar("C")


class TextView(Generic[C]):
    """The text of choice 0, in the pieces it comes in, never empty."""

    __slots__ = ("_stream", "_text_of")

    def __init__(self, stream: AsyncIterator[C], text_of: Callable[[C], str | None]) -> None:
        self._stream = stream
        self._text_of = text_of

    def __aiter__(self) -> TextView[C]:
        return self

    async def __anext__(self) -> str:
        """Return the next piece. Cancelled, it loses nothing. Raises as the stream does."""
        while True:
            chunk = await self._stream.__anext__()
            if text := self._text_of(chunk):
                return text


def content_of(chunk: ChatCompletionChunk) -> str | None:
    """Return the content that a chunk adds to choice 0."""
    for choice in chunk.choices:
        if choice.index == 0 and choice.delta.content:
            return choice.delta.content
    return None


def text_of(piece: TextCompletion) -> str | None:
    """Return the text that a piece adds to choice 0."""
    for choice in piece.choices:
        if choice.index == 0 and choice.text:
            return choice.text
    return None


class _Announcing(Protocol):
    """A stream that knows which tool calls are complete."""

    async def __anext__(self) -> Any: ...
    def take_tool_call(self) -> ToolCall | None: ...


class ToolCallView:
    """The tool calls of choice 0; what was announced is known to the stream."""

    __slots__ = ("_stream",)

    def __init__(self, stream: _Announcing) -> None:
        self._stream = stream

    def __aiter__(self) -> ToolCallView:
        return self

    async def __anext__(self) -> ToolCall:
        while (call := self._stream.take_tool_call()) is None:
            try:
                await self._stream.__anext__()
            except StopAsyncIteration:
                # The end completes what no finish_reason did.
                if (call := self._stream.take_tool_call()) is None:
                    raise
                break
        return call
