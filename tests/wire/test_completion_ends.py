"""Where an answer ends, and what is never an empty success; cut at every byte."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest

from penstock._wire.accumulate import Accumulator
from penstock._wire.completion import CompletionDecoder
from penstock.errors import APIResponseError, IncompleteStreamError, PenstockError, StreamError
from penstock.types import ChatCompletion

from .pieces import in_pieces
from .test_completion import DONE, SSE, event, outcome_of, token


def message(content: Any, index: int = 0, finish: str | None = None, **more: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": content, **more}
    return {"choices": [{"index": index, "message": said, "finish_reason": finish}]}


def words_of(error: PenstockError | None) -> str:
    assert type(error) in (StreamError, APIResponseError)
    return str(error)


class TestWholeMessages:
    """Servers that send `message` where a chunk has `delta`."""

    @pytest.mark.parametrize("end", [DONE, ""])
    def test_one_event(self, end: str) -> None:
        outcome = outcome_of(event(message("Hi", finish="stop")) + end)
        assert (outcome.error, outcome.text) == (None, "Hi")
        assert outcome.answer.choices[0].finish_reason == "stop"

    def test_without_a_finish_reason_the_sentinel_is_needed(self) -> None:
        assert outcome_of(event(message("Hi")) + DONE).text == "Hi"
        assert type(outcome_of(event(message("Hi"))).error) is IncompleteStreamError

    @pytest.mark.parametrize(
        "last", [message("Hi", finish="stop"), message("", finish="stop"), message(None), {}]
    )
    def test_the_same_text_growing(self, last: dict[str, Any]) -> None:
        body = event({"choices": [{"delta": {"role": "assistant"}}]})
        body += event(message("H")) + event(message("Hi")) + event(last)
        outcome = outcome_of(body + DONE)
        assert (outcome.error, outcome.text) == (None, "Hi")

    def test_each_choice_has_its_own(self) -> None:
        body = event(message("Hi", finish="stop")) + event(message("Ho", 1, finish="length"))
        outcome = outcome_of(body + DONE)
        assert outcome.error is None
        assert [(c.message.content, c.finish_reason) for c in outcome.answer.choices] == [
            ("Hi", "stop"),
            ("Ho", "length"),
        ]

    def test_beside_an_empty_delta(self) -> None:
        payload = message("Hi", finish="stop")
        payload["choices"][0]["delta"] = {"content": ""}
        assert outcome_of(event(payload) + DONE).text == "Hi"

    def test_behind_deltas_it_says_nothing_new(self) -> None:
        outcome = outcome_of(token("H") + token("i") + event(message("Hi", finish="stop")) + DONE)
        assert (outcome.text, len(outcome.chunks)) == ("Hi", 3)

    def test_with_tool_calls_and_reasoning(self) -> None:
        calls = [
            {"id": f"c{n}", "type": "function", "function": {"name": "f", "arguments": f"{n}"}}
            for n in range(2)
        ]
        outcome = outcome_of(
            event(message(None, finish="tool_calls", tool_calls=calls, reasoning="r")) + DONE
        )
        said = outcome.answer.choices[0].message
        assert said.reasoning == "r"
        assert [(c.id, c.function.arguments) for c in said.tool_calls or ()] == [
            ("c0", "0"),
            ("c1", "1"),
        ]

    def test_text_in_a_chat(self) -> None:
        body = event({"choices": [{"index": 0, "text": "Hi", "finish_reason": "stop"}]})
        assert outcome_of(body + DONE).text == "Hi"


class TestNothingUnderstood:
    STRAYS: ClassVar[tuple[dict[str, Any], ...]] = (
        {"type": "error", "message": "boom"},
        {"type": "error", "code": "c", "message": "boom"},
        {"detail": "boom"},
        {"detail": [{"loc": ["body"], "msg": "boom"}]},
        {"code": 500, "message": "boom"},
        {"status": "failed", "message": "boom"},
        {"msg": "boom"},
        {"errors": [{"message": "boom"}]},
        {"choices": None, "message": "boom"},
        {"choices": [], "detail": "boom"},
        {"id": "x", "choices": [], "usage": None, "message": "boom"},
    )

    @pytest.mark.parametrize("stray", STRAYS)
    @pytest.mark.parametrize("end", [DONE, ""])
    def test_alone(self, stray: dict[str, Any], end: str) -> None:
        outcome = outcome_of(event(stray) + end)
        assert type(outcome.error) is StreamError
        assert "boom" in str(outcome.error)

    @pytest.mark.parametrize("stray", STRAYS)
    def test_among_others_without_words(self, stray: dict[str, Any]) -> None:
        for body in (
            event({"id": "x", "choices": []}) + event(stray),
            event(stray) + event({"id": "x"}),
            ": ping\n\n" + event({"choices": [], "usage": {"total_tokens": 1}}) + event(stray),
        ):
            assert "boom" in words_of(outcome_of(body + DONE).error)

    @pytest.mark.parametrize("stray", STRAYS)
    @pytest.mark.parametrize("end", [DONE, ""])
    def test_last_in_an_answer_that_is_not_finished(self, stray: dict[str, Any], end: str) -> None:
        outcome = outcome_of(token("a") + event(stray) + end)
        assert type(outcome.error) is StreamError
        assert "boom" in str(outcome.error)
        assert outcome.text == "a"

    @pytest.mark.parametrize("stray", STRAYS[2:])
    def test_in_an_answer_that_goes_on_or_is_finished(self, stray: dict[str, Any]) -> None:
        for body in (
            token("a") + event(stray) + token("b") + DONE,
            token("ab", finish="stop") + event(stray) + DONE,
            token("ab", finish="stop") + event(stray),
        ):
            outcome = outcome_of(body)
            assert (outcome.error, outcome.text) == (None, "ab")

    def test_a_type_of_error_ends_it_at_once(self) -> None:
        decoder = CompletionDecoder(SSE)
        body = token("a") + event({"type": "error", "message": "boom"}) + token("b")
        assert len(decoder.feed(body.encode())) == 1
        assert "boom" in words_of(decoder.error)

    @pytest.mark.parametrize("stray", [{"id": "x"}, {"choices": None}, {"x": [1]}, {}])
    def test_without_words_it_is_shown(self, stray: dict[str, Any]) -> None:
        outcome = outcome_of(event(stray) + DONE)
        assert type(outcome.error) is StreamError

    def test_no_choices_are_an_answer(self) -> None:
        outcome = outcome_of(event({"id": "x", "choices": []}) + DONE)
        assert (outcome.error, outcome.answer.choices) == (None, [])

    @pytest.mark.parametrize(
        "first",
        [{"choices": [], "prompt_filter_results": [{"prompt_index": 0}]}, {"choices": None}, {}],
    )
    def test_before_an_answer_it_is_none(self, first: dict[str, Any]) -> None:
        outcome = outcome_of(event(first) + token("a", finish="stop") + DONE)
        assert (outcome.error, outcome.text) == (None, "a")


class TestChoiceErrors:
    @pytest.mark.parametrize(
        ("choice", "said"),
        [
            ({"error": {"code": 502, "message": "boom"}, "finish_reason": "error"}, "502: boom"),
            ({"error": "boom"}, "boom"),
            ({"finish_reason": "error"}, "the choice ended in an error"),
            ({"index": 1, "finish_reason": "error", "error": "boom"}, "boom"),
        ],
    )
    @pytest.mark.parametrize("delta", [{}, {"content": ""}, {"content": "b"}])
    def test_it_ends_the_answer(
        self, choice: dict[str, Any], said: str, delta: dict[str, Any]
    ) -> None:
        body = token("a") + event({"choices": [{"delta": delta, **choice}]}) + token("c") + DONE
        outcome = outcome_of(body)
        assert type(outcome.error) is StreamError
        assert str(outcome.error) == said
        index = choice.get("index", 0)
        texts = {c.index: c.message.content for c in outcome.answer.choices}
        expected = {0: "a"}
        if delta.get("content"):
            expected[index] = expected.get(index, "") + "b"
        assert texts == expected


class TestSeveralChoices:
    """The grace counts only when as many choices have finished as were asked for."""

    def test_one_after_the_other(self) -> None:
        decoder = CompletionDecoder(SSE, choices=2)
        decoder.feed(token("a", finish="stop").encode())
        assert not decoder.finished_all
        decoder.feed(token("b", 1).encode())
        assert not decoder.finished_all
        decoder.feed(token("", 1, finish="stop").encode())
        assert decoder.finished_all

    def test_a_proper_end_is_one_all_the_same(self) -> None:
        decoder = CompletionDecoder(SSE, choices=2)
        decoder.feed(token("a", finish="stop").encode())
        decoder.end()
        assert (decoder.error, decoder.done) == (None, True)


# --- not streamed although it was asked for ---


def whole_answer(**more: Any) -> dict[str, Any]:
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 5,
        "model": "m",
        **message("Hi", finish="stop"),
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        **more,
    }


def collected(data: bytes, content_type: str | None) -> tuple[ChatCompletion, int]:
    found: list[tuple[ChatCompletion, int]] = []
    for pieces in in_pieces(data):
        decoder, answer, count = CompletionDecoder(content_type), Accumulator(), 0
        for piece in [*pieces, None]:
            chunks = decoder.end() if piece is None else decoder.feed(piece)
            answer.extend(chunks)
            count += len(chunks)
            assert decoder.token_seen == bool(chunks)
        assert (decoder.error, decoder.done) == (None, True), pieces
        found.append((answer.completion(), count))
    assert all(repr(one) == repr(found[0]) for one in found)
    return found[0]


class TestWholeCompletions:
    @pytest.mark.parametrize("content_type", ["application/json", SSE, None])
    @pytest.mark.parametrize(
        "tail", ["", "\n", "data: [DONE]", "\n\ndata: [DONE]\n\n", "\r\n\r\ndata:[DONE]\r\n\r\n"]
    )
    def test_is_one_chunk(self, content_type: str | None, tail: str) -> None:
        body = json.dumps(whole_answer()) + tail
        answer, count = collected(body.encode(), content_type)
        assert count == 1
        assert (answer.id, answer.model, answer.created) == ("c1", "m", 5)
        assert answer.choices[0].message.content == "Hi"
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage is not None
        assert answer.usage.total_tokens == 3

    def test_over_several_lines(self) -> None:
        body = json.dumps(whole_answer(), indent=2).encode()
        assert collected(body, SSE)[0].choices[0].message.content == "Hi"

    def test_several_choices(self) -> None:
        choices = [*message("a", finish="stop")["choices"], *message("b", 1)["choices"]]
        answer, _ = collected(json.dumps(whole_answer(choices=choices)).encode(), None)
        assert [c.message.content for c in answer.choices] == ["a", "b"]

    def test_an_empty_text_is_an_answer(self) -> None:
        body = json.dumps(whole_answer(**message("", finish="stop"))).encode()
        decoder = CompletionDecoder("application/json")
        decoder.feed(body)
        assert len(decoder.end()) == 1
        assert decoder.error is None

    def test_the_sentinel_ends_it_before_the_body(self) -> None:
        for content_type in (SSE, "application/json"):
            decoder = CompletionDecoder(content_type)
            body = json.dumps(whole_answer()) + "\n\ndata: [DONE]"
            assert decoder.feed(body[:-1].encode()) == []
            assert len(decoder.feed(b"]")) == 1
            assert decoder.done

    @pytest.mark.parametrize("content_type", ["application/json", SSE, None])
    @pytest.mark.parametrize(
        "payload",
        [
            {"error": {"message": "boom"}},
            {"object": "error", "message": "boom"},
            {"detail": "boom"},
            {"code": 500, "message": "boom"},
            {"choices": None, "message": "boom"},
            {"choices": [], "detail": "boom"},
            {"choices": [{"message": {"content": "x"}, "error": "boom"}]},
            {**message("x", finish="error"), "error": "boom"},
        ],
    )
    def test_an_error(self, content_type: str | None, payload: dict[str, Any]) -> None:
        for tail in ("", "\n\ndata: [DONE]\n\n"):
            outcome = outcome_of(json.dumps(payload) + tail, content_type)
            assert "boom" in words_of(outcome.error)
