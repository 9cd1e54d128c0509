"""A stream seen as its text, or as its tool calls.

No generators: a cancelled read ends nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..types import ToolCall

if TYPE_CHECKING:
    from .stream import CompletionStream

__all__ = ["TextView", "ToolCallView"]


class TextView:
    """The content deltas of choice 0."""

    __slots__ = ("_stream",)

    def __init__(self, stream: CompletionStream[Any]) -> None:
        self._stream = stream

    def __aiter__(self) -> TextView:
        return self

    async def __anext__(self) -> str:
        while True:
            chunk = await self._stream.__anext__()
            for choice in chunk.choices:
                if choice.index == 0 and choice.delta.content:
                    return choice.delta.content


class ToolCallView:
    """The tool calls of choice 0; what was announced is known to the stream."""

    __slots__ = ("_stream",)

    def __init__(self, stream: CompletionStream[Any]) -> None:
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
