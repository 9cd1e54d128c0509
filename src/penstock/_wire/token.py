"""Tells tokens, which show that the model makes progress, from other chunks."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from penstock.types import ChatCompletionChunk, TextCompletion, ToolCallDelta

from .noise import says_something

__all__ = ["has_prompt_progress", "has_token"]


def has_token(chunk: ChatCompletionChunk) -> bool:
    """Return whether anything in a delta is not empty, except for its role.

    So audio, images and members that no type knows count, and token ids; roles, types,
    indexes, empty text and lists, and padding do not, nor does anything outside the choices.
    """
    for choice in chunk.choices:
        delta = choice.delta
        if (
            delta.content
            or delta.reasoning_content_field
            or delta.reasoning_field
            or delta.refusal
            or (delta.tool_calls and any(map(_says_something, delta.tool_calls)))
            or choice.token_ids
            or (delta.annotations and says_something({"annotations": delta.annotations}))
        ):
            return True
    # It is set if any part of the chunk has members without a field.
    return chunk.extra is not UNSET and any(
        choice.delta.extra and says_something(choice.delta.extra) for choice in chunk.choices
    )


def has_prompt_progress(chunk: ChatCompletionChunk | TextCompletion) -> bool:
    """Return whether a chunk tells how much of the prompt was read (llama.cpp's `return_progress`).

    It comes before the first token: `Timeouts.first_token` starts anew with each.
    """
    extra = chunk.extra
    progress: Any = extra.get("prompt_progress") if extra else None
    return isinstance(progress, dict)


def _says_something(piece: ToolCallDelta) -> bool:
    function = piece.function
    return bool(
        piece.id
        or (function is not None and (function.name or function.arguments))
        or (piece.extra and says_something(piece.extra))
    )
