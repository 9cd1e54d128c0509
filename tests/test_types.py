from __future__ import annotations

import copy
import json
import math
import pickle
from typing import Any, ClassVar

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
    FunctionDelta,
    Model,
    ModelList,
    ToolCall,
    ToolCallDelta,
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
    bases = {"Answer", "MessageMembers", "Part", "Payload"}
    assert structs - set(types.__all__) == {*bases, "GroqExtras"}
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
            "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
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


PARTS: list[Any] = [
    ChatCompletion(),
    ChatCompletionMessage(),
    Choice(),
    ChunkChoice(),
    ChoiceDelta(),
    Function(),
    FunctionDelta(),
    ToolCall(),
    ToolCallDelta(),
    Usage(),
    types.ChoiceLogprobs(),
    types.PromptTokensDetails(),
    types.TokenLogprob(),
]


class TestMembersWithoutAField:
    """Each part of a response keeps the members that its type does not know."""

    @pytest.mark.parametrize("part", PARTS, ids=lambda part: type(part).__name__)
    def test_in_every_part(self, part: Any) -> None:
        part = copy.deepcopy(part)
        before = part.to_dict()
        assert "vendor" not in part
        part.extra = {"vendor": {"deep": [1, None]}}
        assert part.to_dict() == {**before, "vendor": {"deep": [1, None]}}
        assert part["vendor"] == {"deep": [1, None]}
        assert "vendor" in part
        assert 7 not in part
        json.dumps(part.to_dict())
        assert pickle.loads(pickle.dumps(part)) == copy.deepcopy(part) == part

    def test_a_dict_is_the_callers_own(self) -> None:
        message = ChatCompletionMessage(extra={"details": [{"text": "a"}]})
        message.to_dict()["details"][0].clear()
        assert message["details"] == [{"text": "a"}]

    def test_of_inner_parts_in_the_dict_of_the_outer(self) -> None:
        call = ToolCall(id="a", function=Function("f", "{}", extra={"x": 1}), extra={"y": 2})
        answer = ChatCompletion(choices=[Choice(message=ChatCompletionMessage(tool_calls=[call]))])
        assert answer["choices"][0]["message"]["tool_calls"] == [
            {
                "id": "a",
                "type": "function",
                "function": {"name": "f", "arguments": "{}", "x": 1},
                "y": 2,
            }
        ]

    def test_they_are_refused_by_the_fast_decoder(self) -> None:
        for part in PARTS:
            with pytest.raises(msgspec.ValidationError):
                msgspec.json.decode(b'{"vendor":1}', type=type(part))


class TestRareMembers:
    def test_audio(self) -> None:
        message = ChatCompletionMessage(extra={"audio": {"id": "a", "data": "AAAA", "new": 1}})
        assert message.audio is not None
        assert (message.audio.id, message.audio.data, message.audio["new"]) == ("a", "AAAA", 1)
        assert ChoiceDelta(extra={"audio": {"transcript": "x"}}).audio == types.Audio(
            transcript="x"
        )

    def test_images(self) -> None:
        images = [{"type": "image_url", "image_url": {"url": "data:x"}}]
        assert ChatCompletionMessage(extra={"images": images}).images == images

    def test_a_function_call_of_the_old_form(self) -> None:
        called = {"name": "f", "arguments": "{}"}
        assert ChatCompletionMessage(extra={"function_call": called}).function_call == Function(
            "f", "{}"
        )

    def test_a_custom_call_has_no_function(self) -> None:
        call = ToolCall(id="a", type="custom", extra={"custom": {"name": "sql", "input": "x"}})
        assert call.custom == types.CustomCall("sql", "x")
        assert call.to_dict() == {
            "id": "a",
            "type": "custom",
            "custom": {"name": "sql", "input": "x"},
        }
        assert ToolCallDelta(extra={"custom": {"input": "x"}}).custom == types.CustomCall("", "x")

    def test_tokens_and_what_stopped_them(self) -> None:
        choice = Choice(extra={"token_ids": [1, 2], "stop_reason": 5})
        assert (choice.token_ids, choice.stop_reason) == ([1, 2], 5)
        assert ChunkChoice(extra={"stop_reason": "x"}).stop_reason == "x"
        assert ChatCompletion(extra={"prompt_token_ids": [1]}).prompt_token_ids == [1]
        assert ChatCompletionChunk(extra={"prompt_token_ids": [1]}).prompt_token_ids == [1]

    @pytest.mark.parametrize("value", [None, "x", 5, {"id": 7}, {"name": 7, "data": 7}])
    def test_what_does_not_fit_is_none(self, value: Any) -> None:
        extra = {"audio": value, "images": value, "function_call": value}
        message = ChatCompletionMessage(extra=extra)
        assert (message.audio, message.images) == (None, None)
        assert message.function_call in (None, Function(extra={"id": 7}))
        assert message["audio"] == value

    def test_there_are_none(self) -> None:
        for part in (ChatCompletionMessage(), ChoiceDelta()):
            assert (part.audio, part.images, part.function_call) == (None, None, None)
        assert (ToolCall().custom, ToolCallDelta().custom) == (None, None)
        choice = Choice()
        assert (choice.token_ids, choice.stop_reason, ChunkChoice().stop_reason) == (None,) * 3
        assert ChatCompletion().prompt_token_ids is None


class TestForRequest:
    MESSAGE = ChatCompletionMessage(
        content="4",
        reasoning_field="Hm",
        extra={"reasoning_details": [{"text": "Hm"}], "audio": {"id": "a"}},
    )
    PLAIN: ClassVar = {"role": "assistant", "content": "4", "audio": {"id": "a"}}

    @pytest.mark.parametrize("provider", [None, "groq", "deepseek", "acme"])
    def test_reasoning_as_the_caller_says(self, provider: str | None) -> None:
        assert self.MESSAGE.for_request(False, provider=provider) == self.PLAIN
        assert self.MESSAGE.for_request(True, provider=provider) == {
            **self.PLAIN,
            "reasoning": "Hm",
            "reasoning_details": [{"text": "Hm"}],
        }

    @pytest.mark.parametrize(
        ("provider", "reasoning"),
        [
            ("groq", {}),
            ("cerebras", {}),
            ("deepseek", {"reasoning_content": "Hm", "reasoning_details": [{"text": "Hm"}]}),
            ("openrouter", {"reasoning": "Hm", "reasoning_details": [{"text": "Hm"}]}),
            ("vllm", {"reasoning": "Hm", "reasoning_details": [{"text": "Hm"}]}),
            (None, {"reasoning": "Hm", "reasoning_details": [{"text": "Hm"}]}),
        ],
    )
    def test_reasoning_as_the_provider_wants_it(
        self, provider: str | None, reasoning: dict[str, Any]
    ) -> None:
        assert self.MESSAGE.for_request(provider=provider) == {**self.PLAIN, **reasoning}

    def test_numbers_that_json_cannot_express_are_null(self) -> None:
        message = ChatCompletionMessage(extra={"x": [math.nan, {"y": -math.inf}, 1.5]})
        assert message.for_request() == {"role": "assistant", "x": [None, {"y": None}, 1.5]}

    def test_no_reasoning_is_made_up(self) -> None:
        message = ChatCompletionMessage(content="x")
        assert message.for_request(provider="deepseek") == {"role": "assistant", "content": "x"}


class TestText:
    def test_is_the_content_of_choice_0(self) -> None:
        said = [(1, "b"), (0, "a")]
        choices = [Choice(index=i, message=ChatCompletionMessage(content=t)) for i, t in said]
        assert ChatCompletion(choices=choices).text == "a"

    @pytest.mark.parametrize("choices", [[], [Choice()], [Choice(index=1)]])
    def test_is_empty_if_there_is_none(self, choices: list[Choice]) -> None:
        assert ChatCompletion(choices=choices).text == ""


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
