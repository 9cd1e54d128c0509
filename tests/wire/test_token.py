from __future__ import annotations

import json
from typing import Any

import pytest

from penstock._wire.decode import decode_chunk
from penstock._wire.token import has_prompt_progress, has_token
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
        {"tool_calls": [{"custom": {"input": "x"}}]},
        {"audio": {"id": "a1"}},
        {"audio": {"data": "AAAA"}},
        {"role": "assistant", "images": [{"type": "image_url", "image_url": {"url": "data:"}}]},
        {"reasoning_details": [{"type": "reasoning.text", "text": "x", "index": 0}]},
        {"function_call": {"arguments": "{"}},
        {"annotations": [{"type": "url_citation", "url_citation": {"url": "x"}}]},
        {"content": "", "anything": "x"},
        {"anything": {"deep": [{"in": 1}]}},
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
        {"annotations": [{"type": "url_citation"}]},
        {"tool_calls": [{"index": 0, "custom": {"input": ""}}]},
        {"function_call": {"name": "", "arguments": ""}},
        {"reasoning_details": []},
        {"reasoning_details": [{"type": "reasoning.text", "text": "", "index": 0}]},
        {"audio": {}, "images": [], "anything": None, "flag": False},
        {"obfuscation": "a8sd7f"},
        {"content": "", "p": "abcdef", "padding": "xyz"},
    ],
)
def test_no_token(members: dict[str, Any]) -> None:
    assert not has_token(delta(**members, finish="stop"))
    assert not has_token(chunk(choices=[], usage={"total_tokens": 1}))


def test_members_outside_the_deltas_are_none() -> None:
    beside = {"index": 0, "delta": {}, "content_filter_results": {"hate": {"filtered": True}}}
    assert not has_token(chunk(provider="x", obfuscation="abc", choices=[beside]))
    assert not has_token(chunk(ping=1))


def test_token_ids_are_what_the_model_made() -> None:
    assert has_token(chunk(choices=[{"delta": {"content": ""}, "token_ids": [5]}]))
    assert not has_token(chunk(choices=[{"delta": {"content": ""}, "token_ids": []}]))


def test_progress_of_the_prompt() -> None:
    progress = {"total": 100, "cache": 0, "processed": 50, "time_ms": 7}
    begun = chunk(choices=[{"delta": {"role": "assistant"}}], prompt_progress=progress)
    assert has_prompt_progress(begun)
    assert not has_token(begun)
    for none in (chunk(prompt_progress=None), delta(content="x"), chunk(choices=[])):
        assert not has_prompt_progress(none)
