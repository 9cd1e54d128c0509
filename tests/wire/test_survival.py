"""Whatever a server says survives: in a collected answer as in one that comes whole."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._wire.accumulate import MAX_TOOL_CALLS, Accumulator
from penstock._wire.completion import CompletionDecoder
from penstock._wire.decode import decode_chunk, decode_completion
from penstock._wire.merge import MAX_MEMBERS
from penstock._wire.request import completion_body
from penstock.types import ChatCompletion, ChatCompletionMessage, Function, Usage

from .pieces import in_pieces


def event(payload: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % json.dumps(payload).encode()


def said(delta: dict[str, Any], **members: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": None, **members}
    return event({"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]})


FINISH = said({}, finish_reason="stop")
DONE = b"data: [DONE]\n\n"


def collected(*events: bytes) -> ChatCompletion:
    decoder, answer = CompletionDecoder("text/event-stream"), Accumulator()
    answer.extend(decoder.feed(b"".join(events)))
    assert decoder.error is None
    return answer.completion()


def message_of(*deltas: dict[str, Any]) -> ChatCompletionMessage:
    return collected(*map(said, deltas), FINISH, DONE).choices[0].message


def called(**members: Any) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, **members}]}


DETAILS = [
    {"content": "", "reasoning_details": [{"type": "reasoning.text", "text": text, "index": 0}]}
    for text in ("Let me ", "think")
] + [
    {
        "content": "",
        "reasoning_details": [{"type": "reasoning.text", "signature": "SIG", "index": 0}],
    },
    {"content": "4"},
]
SIGNED = {"google": {"thought_signature": "SIG"}}
CITATION = {"type": "url_citation", "url_citation": {"url": "https://a.test", "title": "A"}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}, "index": 0}
FUNCTION = {"name": "f", "arguments": "{}"}

# What comes in the deltas of choice 0, and the members of the message they make.
MESSAGES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "reasoning details": (
        DETAILS,
        {
            "content": "4",
            "reasoning_details": [
                {"type": "reasoning.text", "text": "Let me think", "index": 0, "signature": "SIG"}
            ],
        },
    ),
    "a signature in a tool call": (
        [
            called(id="a", type="function", function=FUNCTION, extra_content=SIGNED),
        ],
        {
            "tool_calls": [
                {"id": "a", "type": "function", "function": FUNCTION, "extra_content": SIGNED}
            ]
        },
    ),
    "a signature repeated on every piece": (
        [
            called(id="a", type="function", function={"name": "f"}, extra_content=SIGNED),
            called(id="a", function={"name": "f", "arguments": "{"}, extra_content=SIGNED),
            called(id="a", function={"name": "f", "arguments": "}"}, extra_content=SIGNED),
        ],
        {
            "tool_calls": [
                {"id": "a", "type": "function", "function": FUNCTION, "extra_content": SIGNED}
            ]
        },
    ),
    "a signature beside the text": (
        [{"content": "a"}, {"content": "b", "extra_content": SIGNED}],
        {"content": "ab", "extra_content": SIGNED},
    ),
    "a custom tool call": (
        [
            called(id="a", type="custom", custom={"name": "sql", "input": ""}),
            called(custom={"input": "select "}),
            called(custom={"input": "1"}),
        ],
        {
            "tool_calls": [
                {"id": "a", "type": "custom", "custom": {"name": "sql", "input": "select 1"}}
            ]
        },
    ),
    "a function call of the old form": (
        [
            {"content": None, "function_call": {"name": "f", "arguments": ""}},
            {"function_call": {"arguments": "{"}},
            {"function_call": {"arguments": "}"}},
        ],
        {"function_call": FUNCTION},
    ),
    "audio": (
        [
            {"audio": {"id": "a1"}},
            {"audio": {"data": "AAAA", "transcript": "Hi"}},
            {"audio": {"data": "AAAA", "transcript": "Hi"}},
            {"audio": {"expires_at": 17}},
        ],
        {"audio": {"id": "a1", "data": "AAAAAAAA", "transcript": "HiHi", "expires_at": 17}},
    ),
    "images": ([{"content": "", "images": [IMAGE]}], {"content": "", "images": [IMAGE]}),
    "annotations": (
        [{"annotations": [CITATION]}, {"annotations": [CITATION]}],
        {"annotations": [CITATION, CITATION]},
    ),
    "citations": (
        [{"content": "a", "citations": [{"n": 1}]}, {"citations": [{"n": 2}]}],
        {"content": "a", "citations": [{"n": 1}, {"n": 2}]},
    ),
    "anything": (
        [{"x": "a", "y": {"z": ["b"]}, "n": None}, {"x": "a", "y": {"z": ["c"]}, "n": None}],
        {"x": "aa", "y": {"z": ["b", "c"]}, "n": None},
    ),
    "padding is nothing": ([{"content": "a", "obfuscation": "xyz"}], {"content": "a"}),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_a_message_has_what_its_deltas_had(case: str) -> None:
    deltas, members = MESSAGES[case]
    message = message_of({"role": "assistant"}, *deltas)
    expected = {"role": "assistant", **members}
    assert message.to_dict() == expected
    assert json.loads(json.dumps(message.to_dict())) == expected
    for name, value in expected.items():
        assert name in message
        assert message[name] == value
    body = json.loads(completion_body("m", [message], {}, stream=True))
    assert body["messages"] == [expected]


@pytest.mark.parametrize("case", MESSAGES)
def test_one_that_came_whole_has_it_too(case: str) -> None:
    _, members = MESSAGES[case]
    sent = {"role": "assistant", **members}
    payload = {"id": "c1", "choices": [{"index": 0, "message": sent, "finish_reason": "stop"}]}
    [choice] = decode_completion(json.dumps(payload).encode()).choices
    assert choice.message.to_dict() == sent
    body = json.loads(completion_body("m", [choice.message], {}, stream=False))
    assert body["messages"] == [sent]


@pytest.mark.parametrize("case", MESSAGES)
def test_wherever_the_network_cuts(case: str) -> None:
    deltas, _ = MESSAGES[case]
    stream = b"".join([*map(said, deltas), FINISH, DONE])
    expected = collected(stream).to_dict()
    for pieces in in_pieces(stream):
        decoder, answer = CompletionDecoder("text/event-stream"), Accumulator()
        for piece in pieces:
            answer.extend(decoder.feed(piece))
        assert answer.completion().to_dict() == expected


def test_typed_names() -> None:
    message = message_of(*MESSAGES["audio"][0])
    assert message.audio is not None
    assert message.audio.data == "AAAAAAAA"
    assert message_of(*MESSAGES["images"][0]).images == [IMAGE]
    old = message_of(*MESSAGES["a function call of the old form"][0])
    assert old.function_call == Function("f", "{}")
    [call] = message_of(*MESSAGES["a custom tool call"][0]).tool_calls or []
    assert call.custom is not None
    assert (call.custom.name, call.custom.input) == ("sql", "select 1")


class TestUsage:
    SENT: ClassVar = {
        "prompt_tokens": 10,
        "completion_tokens": 2,
        "total_tokens": 12,
        "cost": 0.0012,
        "cost_details": {"upstream_inference_cost": 0.001},
        "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 7, "video_tokens": 1},
    }

    @pytest.mark.parametrize(
        "sent",
        [
            SENT,
            {"prompt_tokens": 1, "completion_tokens": 0, "total_tokens": 1},
            {**SENT, "prompt_cache_hit_tokens": 3, "prompt_cache_miss_tokens": 7},
            {**SENT, "queue_time": 0.1, "prompt_time": 0.2, "total_time": 0.5},
        ],
    )
    def test_has_what_it_was_sent(self, sent: dict[str, Any]) -> None:
        last = event({"id": "c1", "choices": [], "usage": sent})
        answer = collected(said({"content": "x"}), FINISH, last, DONE)
        whole = decode_completion(json.dumps({"choices": [], "usage": sent}).encode())
        for completion in (answer, whole):
            assert completion.to_dict()["usage"] == sent
            assert completion.usage is not None
            assert completion.usage.to_dict() == sent
            json.dumps(completion.usage.to_dict())

    def test_cache_writes_are_typed(self) -> None:
        answer = collected(event({"choices": [], "usage": self.SENT}))
        assert answer.usage is not None
        assert answer.usage.prompt_tokens_details is not None
        assert answer.usage.prompt_tokens_details.cache_write_tokens == 7
        assert answer.usage["cost"] == 0.0012

    def test_the_last_counts_win_and_other_members_are_merged(self) -> None:
        usages = [
            {"total_tokens": 1, "cost": 0.1, "cost_details": {"a": 1}, "currency": "USD"},
            {"total_tokens": 2, "cost": 0.2, "cost_details": {"b": 2}, "currency": "USD"},
            {"total_tokens": 0, "cost": 0.3},
        ]
        answer = collected(*(event({"choices": [], "usage": usage}) for usage in usages))
        assert answer.usage is not None
        assert answer.usage.total_tokens == 2
        assert answer.usage.extra == {
            "cost": 0.3, "cost_details": {"a": 1, "b": 2}, "currency": "USD",
        }  # fmt: skip

    def test_a_cost_without_counts(self) -> None:
        answer = collected(event({"choices": [], "usage": {"cost": 0.5}}))
        assert answer.usage == Usage(extra={"cost": 0.5})

    def test_at_groq(self) -> None:
        usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "queue_time": 0.1}
        answer = collected(
            event({"choices": [], "x_groq": {"id": "r", "seed": 5}}),
            event({"choices": [], "x_groq": {"id": "r", "usage": usage}}),
        )
        assert answer["usage"] == usage
        assert answer["x_groq"] == {"id": "r", "seed": 5, "usage": usage}


class TestBesideTheDeltas:
    def test_members_of_chunks_and_choices(self) -> None:
        filters = {"hate": {"filtered": False, "severity": "safe"}}
        chunks: list[dict[str, Any]] = [
            {"provider": "Google", "citations": ["u1"], "prompt_token_ids": [1, 2]},
            {"provider": "Google", "citations": ["u1"], "timings": {"n": 1}},
            {"provider": "Google", "citations": ["u1", "u2"], "timings": {"n": 2}},
        ]
        choice = {
            "index": 0,
            "delta": {"content": "x"},
            "content_filter_results": filters,
            "token_ids": [7],
            "native_finish_reason": "STOP",
            "stop_reason": 5,
        }
        answer = collected(*(event({**chunk, "choices": [choice]}) for chunk in chunks))
        assert answer.extra == {
            "provider": "Google",
            "citations": ["u1", "u2"],
            "prompt_token_ids": [1, 2],
            "timings": {"n": 2},
        }
        assert answer["provider"] == "Google"
        assert answer.prompt_token_ids == [1, 2]
        [found] = answer.choices
        assert (found.token_ids, found.stop_reason) == ([7, 7, 7], 5)
        assert found["content_filter_results"] == filters
        assert found["native_finish_reason"] == "STOP"
        assert answer["choices"][0]["token_ids"] == [7, 7, 7]

    def test_a_cumulative_message_is_not_added(self) -> None:
        cumulative = {"index": 0, "delta": {"content": "a"}, "message": {"content": "a", "x": 1}}
        answer = collected(*[event({"choices": [cumulative]})] * 2)
        assert answer["choices"][0]["message"] == {"role": "assistant", "content": "aa"}

    def test_log_probabilities_of_another_shape(self) -> None:
        pieces = [
            {"index": 0, "delta": {}, "logprobs": {"tokens": [t], "token_logprobs": [-1.0]}}
            for t in ("a", "a")
        ]
        answer = collected(*(event({"choices": [piece]}) for piece in pieces))
        assert answer["choices"][0]["logprobs"] == {
            "content": None, "refusal": None, "tokens": ["a", "a"], "token_logprobs": [-1.0, -1.0],
        }  # fmt: skip

    def test_members_of_each_token(self) -> None:
        token = {"token": "a", "logprob": -1.0, "bytes": None, "top_logprobs": [], "token_id": 5}
        piece = event({"choices": [{"delta": {}, "logprobs": {"content": [token]}}]})
        assert collected(piece)["choices"][0]["logprobs"]["content"] == [token]


def test_a_chunk_and_its_parts_have_them_too() -> None:
    payload = {
        "provider": "x",
        "choices": [
            {
                "index": 0,
                "native_finish_reason": None,
                "delta": {"content": "a", "thought": True, "tool_calls": [{"id": "a", "x": 1}]},
            }
        ],
    }
    chunk = decode_chunk(json.dumps(payload).encode())
    [choice] = chunk.choices
    assert chunk.extra == {"provider": "x"}
    assert choice.extra == {"native_finish_reason": None}
    assert choice.delta["thought"] is True
    assert choice.delta.tool_calls is not None
    assert choice.delta.tool_calls[0]["x"] == 1
    assert chunk.to_dict() == payload


def test_only_a_part_deep_within_has_them() -> None:
    chunk = decode_chunk(b'{"choices":[{"delta":{"audio":{"data":"AA"}}}]}')
    assert chunk.extra == {}
    assert decode_chunk(b'{"choices":[{"delta":{"content":"AA"}}]}').extra is msgspec.UNSET


def test_a_tool_call_without_an_id_is_given_one() -> None:
    calls = [{"type": "function", "function": FUNCTION}] * 2
    payload = {"choices": [{"message": {"role": "assistant", "tool_calls": calls}}]}
    streamed = message_of({"tool_calls": calls})
    whole = decode_completion(json.dumps(payload).encode()).choices[0].message
    for message in (streamed, whole):
        ids = [call.id for call in message.tool_calls or ()]
        assert all(ids)
        assert len(set(ids)) == 2
        sent = json.loads(completion_body("m", [message], {}, stream=False))
        assert [call["id"] for call in sent["messages"][0]["tool_calls"]] == ids


def test_members_too_deep_to_be_copied_are_left_to_raw() -> None:
    deep = b"[" * 200 + b"]" * 200
    text = b'{"a":1,"deep":%b,"choices":[{"delta":{"deep":%b,"b":2}}]}' % (deep, deep)
    chunk = decode_chunk(text)
    assert (chunk.extra, chunk.choices[0].delta.extra) == ({"a": 1}, {"b": 2})
    assert chunk.raw is text


class TestBounds:
    def test_of_members(self) -> None:
        answer = Accumulator()
        members = ",".join(f'"k{number}":0' for number in range(MAX_MEMBERS // 4))
        chunk = decode_chunk(b'{"choices":[{"delta":{%b}}]}' % members.encode())
        more = decode_chunk(b'{"choices":[{"index":1,"delta":{"x":[0,1,2,3],"y":{"z":[]}}}]}')
        answer.extend([chunk, more])
        within = answer.excess
        for index in range(2, 6):
            chunk.choices[0].index = index
            answer.extend([chunk])
        assert answer.excess == f"the answer has more than {MAX_MEMBERS} members without a field"
        assert within is None
        kept = answer.completion().choices
        assert sum(len(choice.message.extra or ()) for choice in kept) < MAX_MEMBERS

    def test_of_tool_calls(self) -> None:
        answer = Accumulator()
        answer.tool_calls = MAX_TOOL_CALLS
        assert answer.excess is None
        answer.extend([decode_chunk(b'{"choices":[{"delta":{"tool_calls":[{"id":"a"}]}}]}')])
        assert answer.excess == f"the answer has more than {MAX_TOOL_CALLS} tool calls"


# --- any member, any split ---

NAMES = st.sampled_from(["alpha", "beta", "gamma", "audio", "images", "signature", "text"])
TEXTS = st.text('ab\u2028é"\\', min_size=1, max_size=6)
JSON = st.recursive(
    TEXTS | st.integers(-5, 5) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
MEMBERS = st.dictionaries(NAMES, JSON, max_size=3)


def split(value: Any, data: st.DataObject, name: str = "") -> list[Any]:
    if isinstance(value, (str, list)) and name != "signature":
        cut = data.draw(st.integers(0, len(value)))
        return [value[:cut], value[cut:]]
    if isinstance(value, dict):
        parts = {inner: split(item, data, inner) for inner, item in value.items()}
        width = max((len(part) for part in parts.values()), default=1)
        return [
            {inner: part[n] for inner, part in parts.items() if n < len(part)} for n in range(width)
        ]
    return [value]


@given(
    top=MEMBERS, choice=MEMBERS, message=MEMBERS, call=MEMBERS, function=MEMBERS, usage=MEMBERS,
    data=st.data(),
)  # fmt: skip
def test_collected_equals_whole(
    top: dict[str, Any],
    choice: dict[str, Any],
    message: dict[str, Any],
    call: dict[str, Any],
    function: dict[str, Any],
    usage: dict[str, Any],
    data: st.DataObject,
) -> None:
    head = {"id": "c1", "created": 17, "model": "m", **top}
    counts = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, **usage}
    tool_call = {"id": "a", "type": "function", "function": {**FUNCTION, **function}, **call}
    whole = {
        **head,
        "object": "chat.completion",
        "system_fingerprint": None,
        "service_tier": None,
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Hello",
                    "tool_calls": [tool_call],
                    **message,
                },
                "finish_reason": "stop",
                "logprobs": None,
                **choice,
            }
        ],
        "usage": counts,
    }
    events = [said({"role": "assistant", "content": "Hel"}), said({"content": "lo"})]
    events += [
        said({"tool_calls": [{"index": 0, **piece}]})
        for piece in [
            {"id": "a", "type": "function", "function": {"name": "f"}},
            *split({"function": {"arguments": "{}", **function}, **call}, data),
        ]
    ]
    events += [said(piece) for piece in split(message, data)]
    # What is beside the deltas comes whole, once or in each chunk.
    beside = event({**head, "choices": [{"delta": {}, "finish_reason": "stop", **choice}]})
    last = event({"choices": [], "usage": counts})
    answer = collected(*events, beside, *[beside] * once_more(top, choice, data), last, DONE)
    assert answer.to_dict() == whole
    body = json.dumps(whole).encode()
    assert [c.to_dict() for c in decode_completion(body).choices] == [
        c.to_dict() for c in answer.choices
    ]


def once_more(top: dict[str, Any], choice: dict[str, Any], data: st.DataObject) -> int:
    """Numbers in lists are never taken for the same ones again."""
    numbers = any(
        isinstance(item, list) and any(isinstance(one, (int, float)) for one in item)
        for item in _all(list(top.values()) + list(choice.values()))
    )
    return 0 if numbers else data.draw(st.integers(0, 2))


def _all(values: list[Any]) -> list[Any]:
    inner = [
        item
        for value in values
        if isinstance(value, (dict, list))
        for item in (value.values() if isinstance(value, dict) else value)
    ]
    return values + (_all(inner) if inner else [])
