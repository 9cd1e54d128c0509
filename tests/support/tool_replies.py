"""Streamed answers that call tools, in the pieces in which servers send them."""

from __future__ import annotations

from typing import Any

from penstock.testing.replies import sse_reply, tokens
from penstock.testing.script import Reply


def call_piece(
    index: int | None = 0,
    id: str | None = None,
    name: str | None = None,
    arguments: str | None = None,
    *,
    choice: int = 0,
    finish: str | None = None,
) -> dict[str, Any]:
    """Return one chunk with a piece of a call; what is None is left out."""
    function = {"name": name, "arguments": arguments}
    piece: dict[str, Any] = {"index": index, "id": id, "function": _given(function)}
    delta = {"tool_calls": [_given(piece)]}
    chunk = tokens(role_first=False)[0]
    return {**chunk, "choices": [{"index": choice, "delta": delta, "finish_reason": finish}]}


def _given(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def whole_call(id: str, name: str, arguments: str, index: int = 0) -> list[dict[str, Any]]:
    """Return the chunks of one call as OpenAI sends them: its name, then two halves of the rest."""
    middle = len(arguments) // 2
    return [
        call_piece(index, id, name, ""),
        call_piece(index, arguments=arguments[:middle]),
        call_piece(index, arguments=arguments[middle:]),
    ]


def calls_reply(*calls: tuple[str, str, str]) -> Reply:
    """Return an answer that calls these tools: (id, name, arguments)."""
    first, last = tokens(finish="tool_calls")
    pieces = [whole_call(*call, index=index) for index, call in enumerate(calls)]
    return sse_reply([first, *(piece for whole in pieces for piece in whole), last])
