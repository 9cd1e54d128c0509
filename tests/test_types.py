from __future__ import annotations

import copy
import json
import math
import pickle
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import types
from penstock.types import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionMessage,
    Choice,
    ChoiceDelta,
    ChunkChoice,
    Function,
    Model,
    ModelList,
    ToolCall,
    Usage,
    decode_json,
    decode_object,
)

RAW = b'{"id":"c1","choices":[],"vendor":{"deep":[1,null]},"usage":null}'


def test_every_public_name_is_listed() -> None:
    structs = {
        name
        for name, value in vars(types).items()
        if isinstance(value, type) and issubclass(value, msgspec.Struct)
    }
    assert structs - set(types.__all__) == {"GroqExtras", "Payload", "Reasoning"}
    assert set(types.__all__) <= structs


class TestPayload:
    def test_nothing_the_server_sent_is_lost(self) -> None:
        chunk = ChatCompletionChunk(id="c1", raw=RAW)
        assert chunk.to_dict() == json.loads(RAW)
        assert chunk["vendor"]["deep"] == [1, None]
        assert chunk["usage"] is None
        with pytest.raises(KeyError):
            chunk["nothing"]

    def test_one_that_the_stack_has_no_room_for(self) -> None:
        # Decoding may have gone well higher up in the stack.
        raw = b'{"choices":[],"vendor":%b}' % (b"[" * 100_000 + b"]" * 100_000)
        chunk = ChatCompletionChunk(raw=raw)
        with pytest.raises(ValueError, match="nested too deeply"):
            chunk.to_dict()
        with pytest.raises(ValueError, match="nested too deeply"):
            chunk["vendor"]
        assert chunk.raw is raw

    def test_each_dict_is_new(self) -> None:
        chunk = ChatCompletionChunk(raw=RAW)
        chunk.to_dict()["vendor"]["deep"].clear()
        assert chunk["vendor"]["deep"] == [1, None]

    def test_without_a_payload_it_gives_its_fields(self) -> None:
        answer = ChatCompletion(
            id="c1",
            model="m",
            choices=[Choice(message=ChatCompletionMessage(content="Hi"), finish_reason="stop")],
            usage=Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3),
        )
        assert answer.to_dict() == {
            "id": "c1",
            "object": "chat.completion",
            "created": None,
            "model": "m",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "Hi"},
                    "finish_reason": "stop",
                    "logprobs": None,
                }
            ],
            "usage": {
                "prompt_tokens": 1,
                "completion_tokens": 2,
                "total_tokens": 3,
                "prompt_tokens_details": None,
                "completion_tokens_details": None,
            },
            "system_fingerprint": None,
            "service_tier": None,
        }
        assert answer["choices"][0]["finish_reason"] == "stop"

    def test_its_repr_shows_what_there_is_and_not_the_bytes(self) -> None:
        chunk = ChatCompletionChunk(id="c1", raw=RAW)
        assert repr(chunk) == "ChatCompletionChunk(id='c1', choices=[])"

    @pytest.mark.parametrize(
        "value",
        [
            ChatCompletionChunk(choices=[ChunkChoice(delta=ChoiceDelta(content="a"))], raw=RAW),
            ChatCompletion(choices=[Choice()], raw=RAW),
            ModelList(data=[Model(id="a", raw=b'{"id":"a"}')]),
        ],
    )
    def test_it_pickles_and_copies(self, value: Any) -> None:
        assert pickle.loads(pickle.dumps(value)) == copy.deepcopy(value) == value
        assert pickle.loads(pickle.dumps(value)).to_dict() == value.to_dict()

    def test_lists_are_not_shared_between_values(self) -> None:
        ChatCompletionChunk().choices.append(ChunkChoice())
        ChatCompletion().choices.append(Choice())
        assert ChatCompletionChunk().choices == []
        assert ChatCompletion().choices == []
        Choice().message.content = "x"
        assert Choice().message.content is None


class TestDecoding:
    def test_an_index_is_not_negative(self) -> None:
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(b'{"choices":[{"index":-1}]}', type=ChatCompletionChunk)

    def test_reasoning_of_either_name(self) -> None:
        for name in ("reasoning", "reasoning_content"):
            delta = msgspec.json.decode(json.dumps({name: "Hm"}), type=ChoiceDelta)
            assert delta.reasoning == delta.reasoning_content == "Hm"
        both = ChoiceDelta(reasoning_field="a", reasoning_content_field="b")
        assert both.reasoning == both.reasoning_content == "b"
        assert ChoiceDelta().reasoning is None


class TestMessage:
    """A message of an answer goes back into `messages` as it is."""

    def test_it_always_has_its_role_and_nothing_that_is_none(self) -> None:
        encoded = msgspec.json.encode(ChatCompletionMessage(content="Hi"))
        assert json.loads(encoded) == {"role": "assistant", "content": "Hi"}

    def test_tool_calls_and_reasoning(self) -> None:
        call = ToolCall(id="a", function=Function("f", "{}"))
        message = ChatCompletionMessage(tool_calls=[call], reasoning_field="Hm")
        assert json.loads(msgspec.json.encode(message)) == {
            "role": "assistant",
            "reasoning": "Hm",
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        }


class TestModelList:
    LIST = ModelList(data=[Model(id="a"), Model(id="b", owned_by="x")], object="list")

    def test_it_is_a_list_of_models(self) -> None:
        assert len(self.LIST) == 2
        assert [model.id for model in self.LIST] == ["a", "b"]
        assert self.LIST[1].owned_by == "x"
        assert self.LIST[-1] in self.LIST
        assert not ModelList()

    def test_its_payload(self) -> None:
        assert self.LIST["object"] == "list"
        assert self.LIST.to_dict()["data"][0] == {
            "id": "a", "owned_by": None, "created": None, "object": None,
        }  # fmt: skip
        listed = ModelList(data=[Model(id="a")], raw=b'{"data":[{"id":"a","x":1}]}')
        assert listed["data"] == [{"id": "a", "x": 1}]


class TestDecodeJson:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            (rb'"\ud83d"', "\ud83d"),
            (
                b"[NaN, -Infinity, 1e999]",
                [pytest.approx(math.nan, nan_ok=True), -math.inf, math.inf],
            ),
            (b'"\xff"', "\ufffd"),
            (b"\xef\xbb\xbf{}", {}),
            (b"9" * 640, int("9" * 640)),
            (b"-" + b"9" * 5000, -math.inf),
            (b" [1] ", [1]),
        ],
    )
    def test_what_msgspec_refuses(self, text: bytes, expected: Any) -> None:
        assert decode_json(text) == expected

    @pytest.mark.parametrize("text", [b"", b"{", b"[" * 100_000, b"x", b"1 2", b"\xff"])
    def test_what_is_no_json(self, text: bytes) -> None:
        with pytest.raises(ValueError, match=r".+"):
            decode_json(text)

    @given(st.binary())
    def test_any_bytes(self, text: bytes) -> None:
        try:
            decode_json(text)
        except ValueError:
            pass

    def test_an_object_or_nothing(self) -> None:
        assert decode_object(b'{"a":1}') == {"a": 1}
        with pytest.raises(TypeError, match="list"):
            decode_object(b"[]")
