"""Tells tokens, which show that the model makes progress, from other chunks."""

from __future__ import annotations

from penstock.types import ChatCompletionChunk, ToolCallDelta

__all__ = ["has_token"]


def has_token(chunk: ChatCompletionChunk) -> bool:
    """Return whether a delta has content, reasoning, refusal or a piece of a tool call."""
    for choice in chunk.choices:
        delta = choice.delta
        if (
            delta.content
            or delta.reasoning_content_field
            or delta.reasoning_field
            or delta.refusal
            or (delta.tool_calls and any(map(_says_something, delta.tool_calls)))
        ):
            return True
    return False


def _says_something(piece: ToolCallDelta) -> bool:
    function = piece.function
    return bool(piece.id or (function is not None and (function.name or function.arguments)))
