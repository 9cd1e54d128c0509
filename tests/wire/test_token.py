from __future__ import annotations

import json
from typing import Any

import pytest

from penstock._wire.decode import decode_chunk
from penstock._wire.token import has_token
from penstock.types import ChatCompletionChunk


def chunk(**members: Any) -> ChatCompletionChunk:
    return decode_chunk(json.dumps(members).encode())


def delta(*, finish: str | None = None, **members: Any) -> ChatCompletionChunk:
    return chunk(choices=[{"index": 0, "delta": members, "finish_reason": finish}])


@pytest.mark.parametrize(
    "members",
    [
        {"content": "x"},
        {"content": " "},
        {"reasoning": "x"},
        {"reasoning_content": "x"},
        {"refusal": "x"},
        {"tool_calls": [{"id": "a"}]},
        {"tool_calls": [{"index": 0}, {"function": {"name": "f"}}]},
        {"tool_calls": [{"function": {"arguments": "{"}}]},
    ],
)
def test_a_token(members: dict[str, Any]) -> None:
    assert has_token(delta(**members))
    assert has_token(chunk(choices=[{"delta": {}}, {"index": 1, "delta": members}]))


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"role": "assistant"},
        {"role": "assistant", "content": "", "refusal": None, "reasoning": ""},
        {"tool_calls": []},
        {"tool_calls": [{"index": 0, "id": "", "function": {"name": "", "arguments": ""}}]},
        {"tool_calls": [{"type": "function"}]},
        {"annotations": [{}]},
    ],
)
def test_no_token(members: dict[str, Any]) -> None:
    assert not has_token(delta(**members, finish="stop"))
    assert not has_token(chunk(choices=[], usage={"total_tokens": 1}))
