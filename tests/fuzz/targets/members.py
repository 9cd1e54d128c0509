"""Members without a field, through a whole stream: decoded, assembled, sent back.

- A chunk decoded by the habits of its stream is the chunk decoded alone.
- `to_dict` of the assembled answer is JSON, can be copied as an error that carries it must be,
  and does not change when more comes.
- A request carries the message as its dict says.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import msgspec

from penstock._wire.accumulate import Accumulator
from penstock._wire.decode import ChunkDecodeError, decode_chunk
from penstock._wire.habits import ChunkDecoder
from penstock._wire.request import completion_body
from penstock.types import ChatCompletionChunk

from ..compose import USAGE, Shape, json_text
from ..reader import Reader
from ..same import same
from ..target import Target

ITEM: Shape = {"index": "whole", "type": "text", "id": "text", "text": "text", "data": "any"}
DELTA: Shape = {
    "content": "text",
    "audio": {"id": "text", "data": "text", "transcript": "text"},
    "reasoning_details": [ITEM],
    "images": [{"index": "whole", "image_url": {"url": "text"}}],
    "function_call": {"name": "text", "arguments": "text"},
    "tool_calls": [
        {
            "index": "whole",
            "id": "text",
            "function": {"name": "text", "arguments": "text", "x": "any"},
            "custom": {"name": "text", "input": "text"},
            "extra_content": {"google": {"thought_signature": "text"}},
        }
    ],
    "obfuscation": "text",
    "x": "any",
}
CHUNK: Shape = {
    "choices": [
        {
            "index": "whole",
            "delta": DELTA,
            "content_filter_results": {"hate": {"filtered": "any", "severity": "text"}},
            "token_ids": ["whole"],
            "stop_reason": "any",
            "message": "any",
            "logprobs": {"content": [{"token": "text", "x": "any"}], "tokens": ["text"]},
        }
    ],
    "usage": {"cost": "number", "cost_details": {"x": "number"}, "prompt_tokens": "whole"},
    "x_groq": {"id": "text", "usage": USAGE, "x": "any"},
    "provider": "text",
    "citations": ["text"],
    "penstock.extra": {"x": "any"},
}


def check(data: bytes) -> None:
    reader = Reader(data)
    decoder = ChunkDecoder()
    chunks: list[ChatCompletionChunk] = []
    while reader.left and len(chunks) < 16:
        text = json_text(reader, CHUNK)
        try:
            chunk = decode_chunk(text)
        except ChunkDecodeError:
            continue
        assert in_any_order(decoder.decode(text)) == in_any_order(chunk), text
        chunks.append(chunk)
    at_once, one_by_one = Accumulator(), Accumulator()
    at_once.extend(chunks)
    snapshots = [one_by_one.completion()]
    shown = [json.dumps(snapshots[0].to_dict())]
    for chunk in chunks:
        one_by_one.extend([chunk])
        snapshots.append(one_by_one.completion())
        shown.append(json.dumps(snapshots[-1].to_dict()))
    answer = at_once.completion()
    assert [json.dumps(snapshot.to_dict()) for snapshot in snapshots] == shown
    assert same(without_made_ids(answer.to_dict()), without_made_ids(snapshots[-1].to_dict()))
    copy.deepcopy(answer)
    for choice in answer.choices:
        [sent] = json.loads(completion_body("m", [choice.message], {}, stream=False))["messages"]
        assert same(sent, json.loads(msgspec.json.encode(choice.message.to_dict())))


def in_any_order(chunk: ChatCompletionChunk) -> str:
    return json.dumps(msgspec.to_builtins(chunk), sort_keys=True)


def without_made_ids(payload: dict[str, Any]) -> Any:
    for choice in payload["choices"]:
        for call in choice["message"].get("tool_calls") or ():
            call["id"] = call["id"] if len(call["id"]) != 9 else None
    return payload


TARGET = Target(
    check,
    seeds=[
        bytes(range(256)) * 2,
        b"\x01\x00\x01\x01\x07" * 40,
        bytes(range(0, 250, 3)) * 4,
        b"\x03\x00\x01\x01\x03\x02\x01\x00\x04\x01" * 20,
    ],
    max_length=512,
)
