from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._wire.accumulate import Accumulator
from penstock._wire.decode import decode_chunk
from penstock.types import ChatCompletion, ChatCompletionChunk, Usage


def chunk(**members: Any) -> ChatCompletionChunk:
    return decode_chunk(json.dumps(members).encode())


def delta(index: int = 0, *, finish: str | None = None, **members: Any) -> ChatCompletionChunk:
    return chunk(choices=[{"index": index, "delta": members, "finish_reason": finish}])


def whole(*chunks: ChatCompletionChunk) -> ChatCompletion:
    accumulator = Accumulator()
    accumulator.extend(chunks)
    return accumulator.completion()


HEAD = {"id": "c1", "created": 17, "model": "m", "system_fingerprint": "fp", "service_tier": "auto"}


def test_a_usual_answer() -> None:
    answer = whole(
        chunk(**HEAD, choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}}]),
        chunk(**HEAD, choices=[{"index": 0, "delta": {"content": "Hello"}}]),
        chunk(**HEAD, choices=[{"index": 0, "delta": {"content": " world"}}]),
        chunk(**HEAD, choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]),
        chunk(**HEAD, choices=[], usage={"prompt_tokens": 1, "total_tokens": 3}),
    )
    assert answer.object == "chat.completion"
    assert (answer.id, answer.created, answer.model) == ("c1", 17, "m")
    assert (answer.system_fingerprint, answer.service_tier) == ("fp", "auto")
    assert answer.usage == Usage(prompt_tokens=1, total_tokens=3)
    [choice] = answer.choices
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "stop", None)
    assert choice.message.role == "assistant"
    assert choice.message.content == "Hello world"
    message = choice.message
    assert (message.tool_calls, message.refusal, message.reasoning) == (None, None, None)
    assert message.annotations is None


def test_nothing_seen() -> None:
    answer = Accumulator().completion()
    assert answer == ChatCompletion(choices=[])
    assert answer.object == "chat.completion"
    assert (answer.id, answer.created, answer.model, answer.usage, answer.raw) == (None,) * 5
    assert (answer.system_fingerprint, answer.service_tier) == (None, None)
    assert whole(chunk(usage=None, choices=[])).choices == []


def test_the_answer_is_a_dict_of_the_usual_shape() -> None:
    answer = whole(delta(content="Hi", role="assistant", finish="stop")).to_dict()
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "Hi"}
    assert "penstock.raw" not in answer


class TestRule5MissingMembers:
    def test_the_first_that_is_not_empty_names_the_answer(self) -> None:
        answer = whole(
            chunk(id="", created=None, model=None),
            chunk(id="a", model="", system_fingerprint=None),
            chunk(id="b", created=1.5, model="m", system_fingerprint=""),
            chunk(id="c", created=2, model="n", system_fingerprint="fp"),
            chunk(id="d", system_fingerprint="fp2"),
        )
        assert (answer.id, answer.created, answer.model) == ("a", 1.5, "m")
        assert answer.system_fingerprint == "fp"

    def test_each_may_come_in_a_chunk_of_its_own_in_any_order(self) -> None:
        for names in itertools.permutations(HEAD):
            chunks = [chunk(**{name: HEAD[name]}) for name in names]
            at_once, one_by_one = Accumulator(), Accumulator()
            at_once.extend(chunks)
            for one in chunks:
                one_by_one.extend([one])
            answer = at_once.completion()
            assert {name: getattr(answer, name) for name in HEAD} == HEAD
            assert one_by_one.completion() == answer

    @pytest.mark.parametrize("first", [{}, HEAD], ids=["alone", "after the rest"])
    def test_the_last_service_tier_wins(self, first: dict[str, Any]) -> None:
        tiers = [chunk(service_tier=tier) for tier in ("default", None, "flex", "")]
        assert whole(chunk(**first), *tiers).service_tier == "flex"

    def test_content_that_never_came_is_none_and_empty_is_empty(self) -> None:
        assert whole(delta(role="assistant")).choices[0].message.content is None
        assert whole(delta(content="")).choices[0].message.content == ""

    def test_choices_null_and_delta_null(self) -> None:
        answer = whole(
            chunk(choices=None), chunk(), chunk(choices=[{"delta": None}]), delta(content="x")
        )
        assert [choice.message.content for choice in answer.choices] == ["x"]

    def test_choices_are_ordered_and_an_index_may_be_huge(self) -> None:
        answer = whole(delta(2**31, content="c"), delta(1, content="b"), delta(0, content="a"))
        assert [(c.index, c.message.content) for c in answer.choices] == [
            (0, "a"), (1, "b"), (2**31, "c"),
        ]  # fmt: skip

    def test_several_choices_in_one_chunk(self) -> None:
        both = chunk(
            choices=[{"index": i, "delta": {"content": text}} for i, text in enumerate("ab")]
        )
        answer = whole(both, both)
        assert [c.message.content for c in answer.choices] == ["aa", "bb"]

    def test_a_role_is_kept(self) -> None:
        answer = whole(delta(role=""), delta(role="critic"), delta(role=None), delta(role="x"))
        assert answer.choices[0].message.role == "critic"
        assert whole(delta(content="x")).choices[0].message.role == "assistant"


class TestRule2FinishReason:
    @pytest.mark.parametrize(
        ("reasons", "kept"),
        [
            (["", None, "stop"], "stop"),
            (["stop", "", None], "stop"),
            (["stop", "stop"], "stop"),
            (["stop", "tool_calls"], "tool_calls"),
            (["eos_of_a_new_kind"], "eos_of_a_new_kind"),
            (["", None], None),
        ],
    )
    def test_the_last_that_is_not_empty(self, reasons: list[str | None], kept: str) -> None:
        answer = whole(*(delta(finish=reason, content="x") for reason in reasons))
        assert answer.choices[0].finish_reason == kept

    def test_text_and_usage_may_follow_it(self) -> None:
        answer = whole(
            delta(content="a", finish="stop"),
            delta(content="b"),
            chunk(usage={"total_tokens": 2}),
        )
        assert answer.choices[0].message.content == "ab"
        assert answer.usage == Usage(total_tokens=2)


class TestRule6Usage:
    ONE, TWO = {"total_tokens": 1}, {"total_tokens": 2}

    def test_the_last_wins_and_none_are_summed(self) -> None:
        answer = whole(chunk(usage=self.ONE), delta(content="x"), chunk(usage=self.TWO))
        assert answer.usage == Usage(total_tokens=2)

    def test_empty_ones_overwrite_nothing(self) -> None:
        zeros = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        answer = whole(*(chunk(usage=u) for u in (self.ONE, None, {}, zeros)))
        assert answer.usage == Usage(total_tokens=1)
        assert whole(chunk(usage={})).usage is None

    def test_in_a_choice(self) -> None:
        in_choice = chunk(choices=[{"delta": {}, "finish_reason": "stop", "usage": self.TWO}])
        assert whole(chunk(usage=self.ONE), in_choice).usage == Usage(total_tokens=2)

    def test_in_the_choice_of_a_chunk_that_has_its_own(self) -> None:
        both = chunk(usage=self.ONE, choices=[{"delta": {}, "usage": self.TWO}])
        assert whole(both).usage == Usage(total_tokens=1)

    @pytest.mark.parametrize("first", [{}, HEAD], ids=["alone", "after the rest"])
    def test_at_groq(self, first: dict[str, Any]) -> None:
        answer = whole(chunk(**first, x_groq={"id": "r"}), chunk(x_groq={"usage": self.TWO}))
        assert answer.usage == Usage(total_tokens=2)

    @pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens", "total_tokens"])
    def test_one_count_is_enough(self, name: str) -> None:
        answer = whole(chunk(usage={"total_tokens": 0, name: 3}), chunk(usage={}))
        assert getattr(answer.usage, name) == 3


class TestRule7Reasoning:
    @pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
    def test_under_either_name(self, name: str) -> None:
        deltas: list[dict[str, Any]] = [{name: "Let "}, {name: "me"}, {"content": "x"}]
        answer = whole(*(delta(**members) for members in deltas))
        message = answer.choices[0].message
        assert message.reasoning == message.reasoning_content == "Let me"
        sent_back = {"role": "assistant", "content": "x", name: "Let me"}
        assert answer.to_dict()["choices"][0]["message"] == sent_back

    @pytest.mark.parametrize(
        "names", [("reasoning", "reasoning_content"), ("reasoning_content", "reasoning")]
    )
    def test_goes_back_as_reasoning_content_if_some_of_it_came_so(
        self, names: tuple[str, str]
    ) -> None:
        pieces: list[dict[str, Any]] = [{names[0]: "Let "}, {names[1]: "me"}]
        answer = whole(*(delta(**members) for members in pieces))
        message = answer.to_dict()["choices"][0]["message"]
        assert message == {"role": "assistant", "reasoning_content": "Let me"}

    def test_once_when_both_come(self) -> None:
        answer = whole(
            delta(reasoning="a", reasoning_content="a"), delta(reasoning="b", reasoning_content="")
        )
        assert answer.choices[0].message.reasoning == "ab"


def test_rule_8_tool_calls_of_each_choice() -> None:
    def call(choice: int, **members: Any) -> ChatCompletionChunk:
        return delta(choice, tool_calls=[members])

    answer = whole(
        call(0, index=0, id="a", type="function", function={"name": "f", "arguments": ""}),
        call(1, index=0, id="b", type="function", function={"name": "g", "arguments": "{"}),
        call(0, index=0, function={"arguments": "{}"}),
        call(1, index=0, function={"arguments": "}"}),
        delta(0, finish="tool_calls"),
    )
    calls = [choice.message.tool_calls for choice in answer.choices]
    assert [[(c.id, c.function.name, c.function.arguments) for c in of or ()] for of in calls] == [
        [("a", "f", "{}")],
        [("b", "g", "{}")],
    ]
    assert answer.choices[0].message.content is None


def test_rule_9_equal_deltas_stay_and_a_message_is_not_added() -> None:
    cumulative = {"delta": {"content": "a"}, "message": {"content": "aaa"}}
    answer = whole(*[chunk(choices=[cumulative])] * 3)
    assert answer.choices[0].message.content == "aaa"


def test_refusal_annotations_and_logprobs() -> None:
    def with_logprobs(*tokens: str) -> ChatCompletionChunk:
        listed = [{"token": token, "logprob": -1.0} for token in tokens]
        return chunk(choices=[{"delta": {}, "logprobs": {"content": listed, "refusal": listed}}])

    answer = whole(
        delta(refusal="I "),
        delta(refusal="cannot", annotations=[{"n": 1}]),
        delta(annotations=[{"n": 2}, {"n": 3}]),
        with_logprobs("a"),
        chunk(choices=[{"delta": {}, "logprobs": {"content": None}}]),
        with_logprobs("b", "c"),
    )
    [choice] = answer.choices
    assert choice.message.refusal == "I cannot"
    assert choice.message.annotations == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert choice.logprobs is not None
    assert [one.token for one in choice.logprobs.content or ()] == ["a", "b", "c"]
    assert [one.token for one in choice.logprobs.refusal or ()] == ["a", "b", "c"]


@pytest.mark.parametrize(("given", "other"), [("content", "refusal"), ("refusal", "content")])
def test_log_probabilities_of_one_kind(given: str, other: str) -> None:
    listed = [{"token": "a", "logprob": -1.0}]
    [choice] = whole(chunk(choices=[{"delta": {}, "logprobs": {given: listed}}])).choices
    assert [one.token for one in getattr(choice.logprobs, given)] == ["a"]
    assert getattr(choice.logprobs, other) is None


def test_a_snapshot_does_not_change() -> None:
    logprob = {"content": [{"token": "a"}]}
    one = chunk(
        choices=[
            {
                "delta": {
                    "content": "a",
                    "refusal": "a",
                    "reasoning": "a",
                    "annotations": ["a"],
                    "tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "a"}}],
                },
                "logprobs": logprob,
            }
        ]
    )
    accumulator = Accumulator()
    accumulator.extend([one])
    first = accumulator.completion()
    text = msgspec.json.encode(first)
    accumulator.extend([one, delta(1, content="b"), chunk(**HEAD, usage={"total_tokens": 1})])
    second = accumulator.completion()
    assert msgspec.json.encode(first) == text
    assert second.choices[0].message.content == "aa"
    assert first != second


texts = st.sampled_from(["", "a", "b", "\u2028"]) | st.none()
deltas = st.builds(
    lambda index, finish, **members: delta(index, finish=finish, **members),
    st.integers(0, 2),
    st.sampled_from([None, "", "stop", "length"]),
    content=texts,
    reasoning=texts,
    reasoning_content=texts,
    refusal=texts,
    role=texts,
)


@given(st.lists(deltas, max_size=12), st.data())
def test_batches_and_snapshots_in_between_make_no_difference(
    chunks: list[ChatCompletionChunk], data: st.DataObject
) -> None:
    expected = whole(*chunks)
    accumulator = Accumulator()
    rest = list(chunks)
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        accumulator.extend(rest[:size])
        del rest[:size]
        if data.draw(st.booleans()):
            accumulator.completion()
    assert accumulator.completion() == expected
    for choice in expected.choices:
        mine = [c.choices[0].delta for c in chunks if c.choices[0].index == choice.index]
        assert (choice.message.content or "") == "".join(d.content or "" for d in mine)
        assert (choice.message.refusal or "") == "".join(d.refusal or "" for d in mine)
        assert (choice.message.reasoning or "") == "".join(d.reasoning or "" for d in mine)


def test_a_snapshot_after_each_chunk_joins_each_piece_once() -> None:
    accumulator = Accumulator()
    for _ in range(3):
        accumulator.extend([delta(content="x"), delta(content="y")])
        one, other = accumulator.completion(), accumulator.completion()
        # The same string, not joined anew.
        assert one.choices[0].message.content is other.choices[0].message.content
