from __future__ import annotations

import json
import math
from typing import Any, TypeVar

import msgspec
import pytest

from penstock._wire.lenient import build_chunk, build_completion, build_model
from penstock.types import ChatCompletion, ChatCompletionChunk, ChoiceDelta, Model, Payload, Usage

Built = TypeVar("Built", bound=Payload)


def conforming(response: Built) -> Built:
    """The response, if every field has its declared type and all of it can be encoded."""
    msgspec.json.encode(response)
    return msgspec.convert(msgspec.to_builtins(response), type(response))


def chunk_of(**members: Any) -> ChatCompletionChunk:
    return conforming(build_chunk(members))


def completion_of(**members: Any) -> ChatCompletion:
    return conforming(build_completion(members))


def test_what_is_right_stays_as_it_is() -> None:
    members = {
        "id": "c",
        "object": "o",
        "created": 1,
        "model": "m",
        "system_fingerprint": "f",
        "service_tier": "t",
        "choices": [],
    }
    for built in (chunk_of(**members), completion_of(**members)):
        shown = msgspec.to_builtins(built)
        assert {name: shown[name] for name in members} == members


def test_nothing_at_all() -> None:
    assert chunk_of() == ChatCompletionChunk()
    assert completion_of() == ChatCompletion()
    assert conforming(build_model({})) == Model()


@pytest.mark.parametrize("choices", [None, {}, "x", 0, [], [None, 1, "x", []]])
def test_choices_that_are_none(choices: Any) -> None:
    assert chunk_of(choices=choices).choices == []


@pytest.mark.parametrize("delta", [None, "x", [], 1])
def test_deltas_that_are_none(delta: Any) -> None:
    assert chunk_of(choices=[{"delta": delta}]).choices[0].delta == ChoiceDelta()


@pytest.mark.parametrize(
    ("index", "expected"),
    [(None, 0), (-1, 0), (1.0, 1), ("2", 2), ("x", 0), (2**31, 2**31), (1e300, 0), (True, 0)],
)
def test_indexes_of_choices(index: Any, expected: int) -> None:
    assert chunk_of(choices=[{"index": index, "delta": {}}]).choices[0].index == expected
    completion = completion_of(choices=[{"index": index}])
    assert completion.choices[0].index == expected


def test_ids_and_times_of_other_types() -> None:
    chunk = chunk_of(id=7, model=1.5, created=17.25, object=None, system_fingerprint=["x"])
    assert (chunk.id, chunk.model, chunk.created) == ("7", "1.5", 17.25)
    assert chunk.object is chunk.system_fingerprint is None
    odd = chunk_of(id={}, created="2024-01-01", model=True)
    assert (odd.id, odd.created, odd.model) == (None, None, None)
    assert chunk_of(created=math.inf).created is None


THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}, {"text": "m"}]}


@pytest.mark.parametrize(
    ("content", "expected", "reasoning"),
    [
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab", None),
        (["a", {"text": "b"}, None, 1, {"type": "image_url"}], "ab1", None),
        ([THINKING, {"type": "text", "text": "a"}], "a", "Hmm"),
        ([THINKING], None, "Hmm"),
        ([{"type": "reasoning", "text": "Hm"}], None, "Hm"),
        ([{"type": "thinking", "thinking": "Hm"}], None, "Hm"),
        ({"type": "text", "text": "a"}, "a", None),
        ([], None, None),
        (5, "5", None),
        (True, None, None),
    ],
)
def test_content_in_parts(content: Any, expected: str | None, reasoning: str | None) -> None:
    delta = chunk_of(choices=[{"delta": {"content": content}}]).choices[0].delta
    assert (delta.content, delta.reasoning) == (expected, reasoning)
    message = completion_of(choices=[{"message": {"content": content}}])
    assert message.choices[0].message.content == expected
    assert message.choices[0].message.reasoning == reasoning


def test_thinking_parts_beside_a_reasoning_member_come_once() -> None:
    members = {"content": [THINKING, "a"], "reasoning": "Hmm"}
    delta = chunk_of(choices=[{"delta": members}]).choices[0].delta
    assert (delta.content, delta.reasoning) == ("a", "Hmm")


def test_refusal_parts() -> None:
    content = [{"type": "refusal", "refusal": "No"}]
    delta = chunk_of(choices=[{"delta": {"content": content}}]).choices[0].delta
    assert (delta.content, delta.refusal) == (None, "No")


def test_usage_of_floats_and_null() -> None:
    usage = chunk_of(
        usage={
            "prompt_tokens": 3.0,
            "completion_tokens": None,
            "total_tokens": "7",
            "prompt_tokens_details": {"cached_tokens": 2.0},
            "completion_tokens_details": [],
        }
    ).usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (3, 0, 7)
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 2
    assert usage.completion_tokens_details is None
    assert chunk_of(usage=[]).usage is None
    assert chunk_of(x_groq={"usage": {"total_tokens": 1.0}}).x_groq is not None
    in_choice = chunk_of(choices=[{"usage": {"total_tokens": 1.0}}]).choices[0].usage
    assert in_choice == Usage(total_tokens=1)


def test_tool_calls_with_parsed_arguments() -> None:
    calls = [{"index": "0", "id": 5, "function": {"name": "f", "arguments": {"a": "é", "b": 1}}}]
    delta = chunk_of(choices=[{"delta": {"tool_calls": calls}}]).choices[0].delta
    assert delta.tool_calls is not None
    [call] = delta.tool_calls
    assert call.function is not None
    assert (call.index, call.id, call.function.arguments) == (0, "5", '{"a":"é","b":1}')
    odd = chunk_of(choices=[{"delta": {"tool_calls": [{"id": "a", "function": "f"}]}}])
    assert (odd.choices[0].delta.tool_calls or [])[0].function is None
    message = completion_of(choices=[{"message": {"tool_calls": calls[0]}}])
    [whole] = message.choices[0].message.tool_calls or []
    assert (whole.id, whole.type, whole.function.name) == ("5", "function", "f")
    assert json.loads(whole.function.arguments) == {"a": "é", "b": 1}


@pytest.mark.parametrize("calls", [None, 1, "x", [], [None], [[]]])
def test_tool_calls_that_are_none(calls: Any) -> None:
    assert not chunk_of(choices=[{"delta": {"tool_calls": calls}}]).choices[0].delta.tool_calls


def test_what_is_empty_stays_as_it_is() -> None:
    members = {
        "content": "",
        "refusal": "",
        "reasoning": "",
        "reasoning_content": "",
        "tool_calls": [],
        "annotations": [],
    }
    delta = chunk_of(choices=[{"delta": members}]).choices[0].delta
    message = completion_of(choices=[{"message": members}]).choices[0].message
    for built in (delta, message):
        shown = msgspec.to_builtins(built)
        assert {name: shown.get(name) for name in members} == members
    named = {"role": "", "tool_calls": [{"type": ""}]}
    message = completion_of(choices=[{"message": named}]).choices[0].message
    assert message.tool_calls is not None
    assert (message.role, message.tool_calls[0].type) == ("", "")
    parts = {**members, "content": [THINKING, {"type": "refusal", "refusal": "No"}]}
    delta = chunk_of(choices=[{"delta": parts}]).choices[0].delta
    assert (delta.reasoning, delta.refusal) == ("Hmm", "No")


def test_logprobs() -> None:
    tokens = [
        {
            "token": 5,
            "logprob": -math.inf,
            "bytes": [1, None],
            "top_logprobs": [{"token": "a", "logprob": -1}, None],
        },
        {"token": None, "logprob": None, "bytes": "x", "top_logprobs": None},
        {"logprob": 10**400},
        "x",
    ]
    logprobs = chunk_of(choices=[{"logprobs": {"content": tokens}}]).choices[0].logprobs
    assert logprobs is not None
    assert logprobs.refusal is None
    first, second, third = logprobs.content or []
    assert (first.token, first.logprob, first.bytes) == ("5", -math.inf, [1, 0])
    assert (first.top_logprobs[0].token, first.top_logprobs[0].logprob) == ("a", -1.0)
    assert (second.token, second.logprob, second.bytes) == ("", 0.0, None)
    assert third.logprob == 0.0
    assert chunk_of(choices=[{"logprobs": []}]).choices[0].logprobs is None


def test_an_odd_member_leaves_the_others() -> None:
    chunk = chunk_of(
        id=None,
        service_tier=3,
        error={"message": "no"},
        x_groq={"id": 5, "error": "down"},
        choices=[{"index": 1.0, "delta": {"role": "r", "refusal": "no"}, "finish_reason": "stop"}],
    )
    assert chunk.error == {"message": "no"}
    assert chunk.x_groq is not None
    assert (chunk.x_groq.id, chunk.x_groq.error) == ("5", "down")
    [choice] = chunk.choices
    assert (choice.index, choice.delta.role, choice.delta.refusal) == (1, "r", "no")
    assert (choice.finish_reason, chunk.service_tier) == ("stop", "3")
    assert chunk_of(x_groq="x").x_groq is None


@pytest.mark.parametrize("message", [None, "x", [], 1])
def test_messages_that_are_none(message: Any) -> None:
    completion = completion_of(choices=[{"message": message, "index": None}])
    assert completion.choices[0].message.role == "assistant"
    assert completion.choices[0].message.content is None


def test_a_model() -> None:
    model = conforming(build_model({"id": 7, "owned_by": None, "created": 1.5, "object": "model"}))
    assert (model.id, model.owned_by, model.created, model.object) == ("7", None, 1.5, "model")
