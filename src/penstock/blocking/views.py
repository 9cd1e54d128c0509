"""Other ways to read a blocking stream.

No generators: an error or Ctrl-C in the midst of a read would end one, and reading on would
look like a clean end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from ..types import ChatCompletionChunk, ToolCall

__all__ = ["TextView", "ToolCallView"]


class _Readable(Protocol):
    def __next__(self) -> ChatCompletionChunk: ...
    def take_tool_call(self) -> ToolCall | None: ...


class TextView(Iterator[str]):
    """The content deltas of choice 0, never empty."""

    __slots__ = ("_stream",)

    def __init__(self, stream: _Readable) -> None:
        self._stream = stream

    def __next__(self) -> str:
        """The next piece of text. Raises as the stream does."""
        while True:
            for choice in self._stream.__next__().choices:
                if choice.index == 0 and choice.delta.content:
                    return choice.delta.content


class ToolCallView(Iterator[ToolCall]):
    """The complete tool calls of choice 0; what was announced is known to the stream."""

    __slots__ = ("_stream",)

    def __init__(self, stream: _Readable) -> None:
        self._stream = stream

    def __next__(self) -> ToolCall:
        """The next call. Raises as the stream does."""
        while (call := self._stream.take_tool_call()) is None:
            try:
                self._stream.__next__()
            except StopIteration:
                # The end completes what no finish_reason did.
                if (call := self._stream.take_tool_call()) is None:
                    raise
                break
        return call
