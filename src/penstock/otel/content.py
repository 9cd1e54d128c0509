"""Messages as attributes of a span, in the form of the conventions; only where asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from .._typed.members import is_list, is_object
from ..types import ChatCompletion, TextCompletion

__all__ = ["input_attributes", "output_attributes"]

Part = dict[str, Any]


def input_attributes(body: object) -> dict[str, str]:
    """Return what the request asks: messages, or the prompt of a text completion."""
    if not is_object(body):
        return {}
    attributes: dict[str, str] = {}
    messages = body.get("messages")
    if is_list(messages):
        shown = [_message(each) for each in messages if is_object(each)]
        attributes["gen_ai.input.messages"] = _json(shown)
    elif "prompt" in body:
        message = {"role": "user", "parts": [{"type": "text", "content": body["prompt"]}]}
        attributes["gen_ai.input.messages"] = _json([message])
    if body.get("tools"):
        attributes["gen_ai.tool.definitions"] = _json(body["tools"])
    return attributes


def output_attributes(answer: ChatCompletion | TextCompletion | None) -> dict[str, str]:
    """Return what the model answered, as far as it was received."""
    if answer is None or not answer.choices:
        return {}
    shown: list[Part] = []
    for choice in answer.choices:
        if isinstance(answer, TextCompletion):
            text: Any = choice
            message: Part = {
                "role": "assistant",
                "parts": [{"type": "text", "content": text.text}],
            }
        else:
            chat: Any = choice
            message = _message(chat.message.to_dict())
        shown.append({**message, "finish_reason": choice.finish_reason or ""})
    return {"gen_ai.output.messages": _json(shown)}


def _message(message: Mapping[str, Any]) -> Part:
    role = message.get("role") or "assistant"
    content = message.get("content")
    parts: list[Part] = []
    for name in ("reasoning_content", "reasoning"):
        if isinstance(message.get(name), str):
            parts.append({"type": "reasoning", "content": message[name]})
            break
    if role == "tool":
        call = message.get("tool_call_id")
        parts.append({"type": "tool_call_response", "id": call, "response": content})
    elif isinstance(content, str):
        parts.append({"type": "text", "content": content})
    elif is_list(content):
        parts += [_content_part(part) for part in content]
    calls: Any = message.get("tool_calls")
    if is_list(calls):
        parts += [_tool_call(call) for call in calls if is_object(call)]
    return {"role": role, "parts": parts}


def _content_part(part: Any) -> Part:
    if is_object(part):
        text = part.get("text")
        return {"type": "text", "content": text} if isinstance(text, str) else part
    return {"type": "text", "content": part}


def _tool_call(call: Mapping[str, Any]) -> Part:
    function: Any = call.get("function") or call.get("custom")
    members = function if is_object(function) else {}
    return {
        "type": "tool_call",
        "id": call.get("id"),
        "name": members.get("name"),
        "arguments": members.get("arguments", members.get("input")),
    }


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
