# ruff: noqa: UP007, UP045 - of unions written with |, older releases build no models
"""What is built equals what the SDK builds: members, extras, what was set, at every level."""

from __future__ import annotations

import json
from typing import Any, Literal, Optional, Union

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import BaseModel
from openai._models import construct_type
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from penstock.compat.openai._building import build, builder
from penstock.testing.replies import completion, tokens

Model = type[pydantic.BaseModel]


def assert_same(built: Any, expected: Any) -> None:
    """Equal in value, type, extras and set fields, in every part."""
    assert type(built) is type(expected)
    if isinstance(expected, pydantic.BaseModel):
        assert list(vars(built)) == list(vars(expected))
        assert built.model_fields_set == expected.model_fields_set
        assert list(built.model_extra or ()) == list(expected.model_extra or ())
        assert_same(built.model_extra, expected.model_extra)
        assert built.__pydantic_private__ == expected.__pydantic_private__
        for name, value in vars(expected).items():
            assert_same(getattr(built, name), value)
        assert built == expected
    elif isinstance(expected, dict):
        assert list(built) == list(expected)
        for name, value in expected.items():
            assert_same(built[name], value)
    elif isinstance(expected, list):
        assert len(built) == len(expected)
        for one, other in zip(built, expected, strict=True):
            assert_same(one, other)
    else:
        assert built == expected


def assert_as_the_sdk(cls: Model, payload: Any) -> Any:
    expected: Any = construct_type(value=payload, type_=cls)
    built: Any = build(cls, payload)
    assert_same(built, expected)
    if isinstance(expected, BaseModel):
        assert built.model_dump(warnings=False) == expected.model_dump(warnings=False)
        assert built.to_dict(warnings=False) == expected.to_dict(warnings=False)
        assert repr(built) == repr(expected)
    return built


def chunk(delta: Any, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1700000000, "model": "m"}
    return {**head, "choices": [choice], **more}


CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}
LOGPROBS = {
    "content": [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}],
    "refusal": None,
}
USAGE = {
    "prompt_tokens": 3,
    "completion_tokens": 4,
    "total_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": None},
    "completion_tokens_details": {"reasoning_tokens": 1, "of_a_vendor": {"a": [1]}},
    "cost": 0.25,
}

CHUNKS: list[Any] = [
    *tokens("Hel", "lo", usage=USAGE),
    chunk({"content": "x"}, service_tier="default", system_fingerprint="fp", obfuscation="abc"),
    chunk({"content": "x"}, service_tier="of a vendor"),
    chunk({"reasoning_content": "hm", "content": None}),
    chunk({"content": "a", "extra_content": {"google": {"thought_signature": "s"}}}),
    chunk({"tool_calls": [CALL]}),
    chunk({"tool_calls": [{**CALL, "type": "custom"}]}),
    chunk({"tool_calls": [{**CALL, "index": "0"}]}),
    chunk({"tool_calls": [{"function": {"arguments": '{"a"'}}]}),
    chunk({"tool_calls": [{**CALL, "extra_content": {"google": {"s": 1}}}, {"index": 1}]}),
    chunk({"tool_calls": [None]}),
    chunk({"tool_calls": {"0": CALL}}),
    chunk({"tool_calls": []}),
    chunk({"function_call": {"name": "f", "arguments": "{}"}}),
    chunk({"content": [{"type": "text", "text": "a"}]}),
    chunk({"content": 1}),
    chunk({"role": "of a vendor"}),
    chunk(None),
    chunk("text"),
    chunk([]),
    chunk([{"content": "a"}]),
    chunk({}, choices=None),
    chunk({}, choices={}),
    chunk({}, choices=[None, 1, {"index": 1.0, "delta": {}}]),
    chunk({}, choices=[{"index": 0, "delta": {}, "logprobs": LOGPROBS, "finish_reason": "stop"}]),
    chunk({}, choices=[{"index": 0, "delta": {}, "finish_reason": "of a vendor"}]),
    chunk({}, choices=[{"index": 0, "delta": {}, "finish_reason": ""}]),
    chunk({}, choices=[{"message": {"content": "a"}}]),
    chunk({}, id=None, object=None, created=1.5, model=None),
    chunk({}, usage={**USAGE, "total_tokens": 7.0}),
    chunk({}, usage={**USAGE, "total_tokens": 7.5}),
    chunk({}, usage={**USAGE, "total_tokens": True}),
    chunk({}, usage={"prompt_tokens": 1}),
    chunk({}, usage={}),
    chunk({}, usage=[]),
    chunk({"_request_id": "a", "__dict__": {}}),
    chunk({}, moderation={"input": {"type": "error", "code": "a", "message": "b"}, "output": None}),
    {},
    [],
    None,
    "text",
    1,
]


@pytest.mark.parametrize("payload", CHUNKS, ids=range(len(CHUNKS)))
def test_a_chunk_is_the_sdks(payload: Any) -> None:
    assert_as_the_sdk(ChatCompletionChunk, payload)
    # A second one, of a shape that is known by then.
    assert_as_the_sdk(ChatCompletionChunk, payload)


ANSWERS: list[Any] = [
    completion("Hello", usage=USAGE),
    {**completion(), "choices": [{**completion()["choices"][0], "logprobs": LOGPROBS}]},
    {
        **completion(),
        "choices": [
            {
                "index": 0,
                "finish_reason": "tool_calls",
                "message": {
                    "role": "assistant",
                    "content": None,
                    "reasoning_content": "hm",
                    "tool_calls": [
                        {"id": "1", "type": "function", "function": {"name": "f", "arguments": ""}},
                        {"id": "2", "type": "custom", "custom": {"name": "g", "input": ""}},
                    ],
                    "annotations": [],
                },
            }
        ],
    },
    {**completion(), "choices": None},
    {**completion(), "error": {"message": "no"}},
]


@pytest.mark.parametrize("payload", ANSWERS, ids=range(len(ANSWERS)))
def test_a_whole_answer_is_the_sdks(payload: Any) -> None:
    assert_as_the_sdk(ChatCompletion, payload)


texts = st.sampled_from(["", "a", "b c", "ü", "\ud800", "1"])
odd: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, 1, -2, 2**70, 0.0, 1.5, "", "1", "text", [], [1], ["a"], {}, {"a": 1}, [{}]]
)


def often(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(usual, usual, usual, usual, st.none(), odd)


def objects(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Objects with some of the members, in any order, and perhaps some that nobody knows."""
    values = {name: often(value) for name, value in members.items()}
    known = st.fixed_dictionaries({}, optional=values)
    unknown = st.sampled_from([{}, {}, {"x_unknown": 1}, {"__dict__": {}, "self": None}])
    return st.tuples(unknown, known, unknown).map(lambda all: {**all[0], **all[1], **all[2]})


functions = objects(name=texts, arguments=texts)
calls = objects(index=st.integers(0, 3), id=texts, type=st.just("function"), function=functions)
deltas = objects(
    role=st.sampled_from(["assistant", "tool", "of a vendor"]),
    content=texts,
    refusal=texts,
    reasoning_content=texts,
    tool_calls=st.lists(calls, max_size=2),
    function_call=functions,
    audio=objects(id=texts, data=texts, expires_at=st.integers()),
)
logprobs = st.lists(
    objects(token=texts, logprob=st.floats(allow_nan=False), bytes=st.lists(st.integers(0, 255))),
    max_size=2,
)
choices = objects(
    index=st.integers(0, 2),
    delta=deltas,
    message=deltas,
    logprobs=objects(content=logprobs, refusal=logprobs),
    finish_reason=st.sampled_from(["stop", "length", "", "of a vendor"]),
)
usages = objects(
    prompt_tokens=st.integers(),
    completion_tokens=st.integers(),
    total_tokens=st.integers(),
    prompt_tokens_details=objects(cached_tokens=st.integers()),
    completion_tokens_details=objects(reasoning_tokens=st.integers()),
)
payloads = objects(
    id=texts,
    object=st.just("chat.completion.chunk"),
    created=st.integers(),
    model=texts,
    choices=st.lists(choices, max_size=2),
    usage=usages,
    service_tier=st.sampled_from(["auto", "of a vendor"]),
    system_fingerprint=texts,
)


@given(payloads, st.sampled_from([ChatCompletionChunk, ChatCompletion]))
def test_any_payload_is_built_as_by_the_sdk(payload: Any, cls: Model) -> None:
    assert_as_the_sdk(cls, payload)


class Part(BaseModel):
    name: str
    kind: Optional[Literal["a", "b"]] = "a"
    parts: Optional[list[Part]] = None


class Whole(BaseModel):
    part: Part
    parts: list[Part]
    ratio: float
    ratios: Optional[list[float]] = None
    either: Union[int, str, None] = None
    count: Optional[int] = 3
    table: Optional[dict[str, int]] = None


class Aliased(BaseModel):
    from_: str = pydantic.Field(alias="from")


class Checked(BaseModel):
    name: str

    @pydantic.field_validator("name")
    @classmethod
    def loud(cls, name: str) -> str:
        return name.upper()


class Holder(BaseModel):
    aliased: Optional[Aliased] = None
    checked: Optional[Checked] = None
    bare: Aliased


PART = {"name": "n", "parts": [{"name": "m", "kind": "b"}]}

OTHERS: list[tuple[Model, Any]] = [
    (Whole, {"part": PART, "parts": [PART], "ratio": 1, "ratios": [1.0, 2.5], "either": "x"}),
    (Whole, {"part": {}, "parts": [], "ratio": 1.5, "ratios": [1], "either": 1, "count": None}),
    (Whole, {"part": {"kind": None}, "parts": None, "ratio": None, "table": {"a": 1}}),
    (Whole, {"part": {"kind": "c", "parts": [{}]}, "parts": [{"parts": [{"name": 1}]}]}),
    (Holder, {"aliased": {"from": "a"}, "checked": {"name": "n"}, "bare": {"from": "b"}}),
    (Holder, {"aliased": {"from_": "a"}, "checked": {"name": 1}, "bare": {"from_": "b"}}),
]


@pytest.mark.parametrize(("cls", "payload"), OTHERS, ids=range(len(OTHERS)))
def test_any_class_is_built_as_by_the_sdk(cls: Model, payload: Any) -> None:
    assert_as_the_sdk(cls, payload)


def test_no_name_is_taken_for_a_parameter_of_the_constructor() -> None:
    built = build(ChatCompletionChunk, {"id": "a", "_fields_set": ["b"]})
    assert built.model_fields_set == {"id"}
    assert built.model_extra == {"_fields_set": ["b"]}


def test_parts_of_two_chunks_are_their_own() -> None:
    first, second = (build(ChatCompletionChunk, chunk({"content": "a"})) for _ in range(2))
    first.choices[0].delta.content = "b"
    first.choices[0].delta.role = "user"
    assert second.choices[0].delta.content == "a"
    assert second.choices[0].delta.model_fields_set == {"content"}
    assert build(ChatCompletionChunk, chunk({"content": "a"})) == second


def test_the_payload_stays_as_it_is() -> None:
    payload = chunk({"content": "a", "unknown": 1}, unknown=2)
    before = json.dumps(payload)
    build(ChatCompletionChunk, payload)
    assert json.dumps(payload) == before


def test_a_server_that_invents_names_fills_no_memory() -> None:
    model: Any = builder(ChatCompletionChunk)
    for number in range(1000):
        assert_as_the_sdk(ChatCompletionChunk, {"id": "a", f"name_{number}": number})
    assert len(model.__self__._shapes) <= 128
