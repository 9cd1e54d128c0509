"""Answers that are not streamed although a stream was asked for, and the other way round."""

from __future__ import annotations

import json
from typing import Any

from penstock.types import decode_json

from .json_values import as_object, is_list, is_object

__all__ = [
    "MAX_BODY_BYTES",
    "chunk_of_whole",
    "looks_like_events",
    "looks_like_json",
    "without_sentinel",
]

MAX_BODY_BYTES = 256 * 1024 * 1024
"""Bound of a body that is read as a whole; embeddings of a large batch are tens of MiB."""

_BOM = b"\xef\xbb\xbf"
_FIELDS = (b":", b"data:", b"event:", b"id:", b"retry:")
_SNIFFED = 1024  # bytes within which the first field must begin
_SENTINEL = b"data: [DONE]"


def looks_like_events(head: bytes | bytearray) -> bool | None:
    """Return whether a body that begins like this is an event stream; None while it may be."""
    start = bytes(head[:_SNIFFED])
    if _BOM.startswith(start):
        return None
    start = start.removeprefix(_BOM).lstrip(b"\r\n")
    if start.startswith(_FIELDS):
        return True
    if len(head) < _SNIFFED and any(field.startswith(start) for field in _FIELDS):
        return None
    return False


def looks_like_json(head: bytes | bytearray) -> bool:
    """Return whether a body that begins like this may be a JSON object."""
    return bytes(head[:_SNIFFED]).removeprefix(_BOM).lstrip().startswith(b"{")


def without_sentinel(body: bytes) -> bytes:
    """Return JSON without the `data: [DONE]` that some servers put behind it."""
    return body.rstrip().removesuffix(_SENTINEL)


def chunk_of_whole(body: bytes) -> bytes | None:
    """Return a whole completion as the JSON of one chunk; None if it is none.

    Each choice's `message` becomes its `delta`, and its tool calls get the index of their
    position, so that it is read as a stream of one event is.
    """
    try:
        payload = decode_json(without_sentinel(body))
    except ValueError:
        return None
    if not is_object(payload) or not is_list(payload.get("choices")):
        return None
    choices = [as_object(choice) for choice in payload["choices"]]
    if not any("message" in choice or "text" in choice for choice in choices):
        return None
    whole = {**payload, "choices": [_streamed(choice) for choice in choices]}
    if payload.get("object") == "chat.completion":
        whole["object"] = "chat.completion.chunk"
    # The standard library's encoder: it writes back what msgspec refuses.
    return json.dumps(whole, separators=(",", ":")).encode("ascii")


def _streamed(choice: dict[str, Any]) -> dict[str, Any]:
    if "message" not in choice:
        return choice
    delta = dict(as_object(choice["message"]))
    calls = delta.get("tool_calls")
    if is_list(calls):
        delta["tool_calls"] = [
            {"index": index, **as_object(call)} for index, call in enumerate(calls)
        ]
    streamed = {name: value for name, value in choice.items() if name != "message"}
    return {**streamed, "delta": delta}
