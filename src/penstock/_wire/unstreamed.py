"""Answers that are not streamed although a stream was asked for, and the other way round."""

from __future__ import annotations

import json
import re
from typing import Any

from penstock.types import decode_json

from .json_values import as_object, is_list, is_object

__all__ = [
    "MAX_BODY_BYTES",
    "encoded",
    "ends_with_sentinel",
    "looks_like_events",
    "looks_like_json",
    "whole_completion",
    "without_sentinel",
]

MAX_BODY_BYTES = 256 * 1024 * 1024
"""Bound of a body that is read as a whole; embeddings of a large batch are tens of MiB."""

_BOM = b"\xef\xbb\xbf"
_FIELDS = (b":", b"data:", b"event:", b"id:", b"retry:")
_BEGINNINGS = frozenset(field[:size] for field in _FIELDS for size in range(len(field)))
_SNIFFED = 1024  # bytes within which the first field must begin
_SENTINEL = re.compile(rb"\s*data: ?\[DONE\]\s*\Z")
_SENTINEL_LINE = re.compile(rb"[\r\n]data: ?\[DONE\]\s*\Z")
_SENTINEL_BYTES = 64  # its line, and some empty ones


def looks_like_events(head: bytes | bytearray) -> bool | None:
    """Return whether a body that begins like this is an event stream; None while it may be."""
    if head[:1] == b"{":
        return False
    start = bytes(head[:_SNIFFED])
    if _BOM.startswith(start):
        return None
    start = start.removeprefix(_BOM).lstrip(b"\r\n")
    if start.startswith(_FIELDS):
        return True
    return None if start in _BEGINNINGS and len(head) < _SNIFFED else False


def looks_like_json(head: bytes | bytearray) -> bool:
    """Return whether a body that begins like this may be a JSON object."""
    return bytes(head[:_SNIFFED]).removeprefix(_BOM).lstrip().startswith(b"{")


def ends_with_sentinel(body: bytes | bytearray) -> bool:
    """Return whether a line of JSON that may go on is `data: [DONE]`, which no JSON has."""
    tail = body[-_SENTINEL_BYTES:]
    return _ends_as_sentinel(tail) and _SENTINEL_LINE.search(tail) is not None


def without_sentinel(body: bytes) -> bytes:
    """Return JSON without the `data: [DONE]` that some servers put behind it."""
    tail = body[-_SENTINEL_BYTES:]
    found = _SENTINEL.search(tail) if _ends_as_sentinel(tail) else None
    return body if found is None else body[: -len(found[0])]


def _ends_as_sentinel(tail: bytes | bytearray) -> bool:
    # Searching is for the few that do (4 % of a whole answer).
    return tail.rstrip().endswith(b"[DONE]")


def whole_completion(body: bytes, *, chat: bool) -> dict[str, Any] | None:
    """Return a whole completion as the payload of one chunk; None if it is none.

    Each choice's `message` becomes its `delta`, and its tool calls get the index of their
    position, so that it is read as a stream of one event is. In a chat a choice's `text` is
    content.
    """
    try:
        payload = decode_json(body)
    except ValueError:
        return None
    if not is_object(payload) or not is_list(payload.get("choices")):
        return None
    choices = [as_object(choice) for choice in payload["choices"]]
    if not any("message" in choice or "text" in choice for choice in choices):
        return None
    if chat:
        choices = [_streamed(choice) for choice in choices]
    whole = {**payload, "choices": choices}
    if payload.get("object") == "chat.completion":
        whole["object"] = "chat.completion.chunk"
    return whole


def encoded(payload: dict[str, Any]) -> bytes:
    """Return parsed JSON as text."""
    # The standard library's encoder: it writes back what msgspec refuses.
    return json.dumps(payload, separators=(",", ":")).encode("ascii")


def _streamed(choice: dict[str, Any]) -> dict[str, Any]:
    if "message" not in choice:
        return {**choice, "delta": {"content": choice["text"]}} if "text" in choice else choice
    delta = dict(as_object(choice["message"]))
    calls = delta.get("tool_calls")
    if is_list(calls):
        delta["tool_calls"] = [
            {**as_object(call), "index": index} for index, call in enumerate(calls)
        ]
    streamed = {name: value for name, value in choice.items() if name != "message"}
    return {**streamed, "delta": delta}
