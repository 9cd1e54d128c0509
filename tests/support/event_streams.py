"""Whole event streams of each kind of endpoint, as servers send them."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["CHAT", "KINDS", "MESSAGES", "RESPONSES", "TEXT", "body_of"]


def body_of(*events: Any) -> bytes:
    """Return events as bytes: a dict with a `type` as a named event, other dicts as data."""
    return b"".join(_event(event) for event in events)


def _event(event: Any) -> bytes:
    if isinstance(event, str):
        return f"data: {event}\n\n".encode()
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {json.dumps(event)}\n\n".encode()


def _chat(delta: Any, index: int = 0, reason: str | None = None) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "finish_reason": reason}
    return {"id": "c", "object": "chat.completion.chunk", "choices": [choice]}


CHAT = (
    _chat({"role": "assistant", "content": ""}),
    _chat({"content": "Hel"}),
    _chat({"content": "lo \u2028"}, 1),
    _chat({}, 1, "stop"),
    _chat({"content": "."}),
    _chat({}, 0, "length"),
    {"id": "c", "object": "chat.completion.chunk", "choices": [], "usage": {"total_tokens": 3}},
    "[DONE]",
)
TEXT = (
    {"object": "text_completion", "choices": [{"index": 0, "text": "Hel", "finish_reason": None}]},
    {"object": "text_completion", "choices": [{"index": 0, "text": "lo", "finish_reason": "stop"}]},
    "[DONE]",
)
RESPONSES = (
    {"type": "response.created", "response": {"id": "r", "status": "in_progress", "error": None}},
    {"type": "response.output_text.delta", "delta": "Hel", "output_index": 0},
    {"type": "response.output_text.delta", "delta": "lo", "output_index": 0},
    {"type": "response.completed", "response": {"id": "r", "status": "completed"}},
)
MESSAGES = (
    {"type": "message_start", "message": {"id": "m", "role": "assistant", "content": []}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
)

KINDS: dict[str, tuple[bytes, int]] = {
    "/v1/chat/completions": (body_of(*CHAT), len(body_of(*CHAT[:6]))),
    "/v1/completions": (body_of(*TEXT), len(body_of(*TEXT[:2]))),
    "/v1/responses": (body_of(*RESPONSES), len(body_of(*RESPONSES))),
    "/v1/messages": (body_of(*MESSAGES), len(body_of(*MESSAGES))),
}
"""By path: a whole body, and how many of its bytes are a whole answer."""
