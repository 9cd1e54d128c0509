"""Text completions: decoded, strictly and tolerantly, and put together from pieces."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._wire.decode import ChunkDecodeError
from penstock._wire.text_completion import (
    TextAccumulator,
    TextCompletionDecoder,
    decode_text_completion,
    has_text,
)
from penstock.errors import IncompleteStreamError, PenstockError, StreamError
from penstock.types import TextCompletion, TextLogprobs, Usage

from .pieces import in_pieces


def piece(text: Any, index: Any = 0, finish: Any = None, **more: Any) -> dict[str, Any]:
    choice = {"index": index, "text": text, "finish_reason": finish, "logprobs": None}
    return {"id": "c", "object": "text_completion", "model": "m", "choices": [{**choice, **more}]}


def event(payload: Any) -> str:
    return f"data: {payload if isinstance(payload, str) else json.dumps(payload)}\n\n"


def read(pieces: list[bytes]) -> tuple[TextCompletion, PenstockError | None]:
    decoder, answer = TextCompletionDecoder("text/event-stream"), TextAccumulator()
    for part in pieces:
        fresh = decoder.feed(part)
        assert decoder.token_seen == any(map(has_text, fresh))
        answer.extend(fresh)
    answer.extend(decoder.end())
    assert decoder.done == (decoder.error is None)
    return answer.completion(), decoder.error


def outcome_of(*payloads: Any) -> tuple[TextCompletion, PenstockError | None]:
    data = "".join(map(event, payloads)).encode()
    whole, error = read([data])
    for pieces in in_pieces(data):
        again, same = read(pieces)
        assert (repr(again), type(same), str(same)) == (repr(whole), type(error), str(error))
    return whole, error


class TestDecoding:
    def test_a_whole_one(self) -> None:
        payload = {
            **piece("Hi", finish="length", logprobs={"tokens": ["Hi"], "token_logprobs": [-0.5]}),
            "created": 5,
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            "system_fingerprint": "fp",
            "kv_transfer_params": {"a": 1},
        }
        text = json.dumps(payload).encode()
        completion = decode_text_completion(text)
        assert completion.text == completion.choices[0].text == "Hi"
        assert completion.choices[0].logprobs == TextLogprobs(tokens=["Hi"], token_logprobs=[-0.5])
        assert completion.usage == Usage(1, 1, 2)
        assert (completion.id, completion.created, completion.model) == ("c", 5, "m")
        assert completion.to_dict() == payload
        assert completion["kv_transfer_params"] == {"a": 1}
        assert completion.raw == text

    @pytest.mark.parametrize(
        ("choice", "index", "text", "finish"),
        [
            ({"text": None}, 0, "", None),
            ({}, 0, "", None),
            ({"text": "a", "index": None}, 0, "a", None),
            ({"text": "a", "index": 2.0}, 2, "a", None),
            ({"text": "a", "index": -1}, 0, "a", None),
            ({"text": "a", "finish_reason": 5}, 0, "a", "5"),
            ({"text": "a", "logprobs": []}, 0, "a", None),
        ],
    )
    def test_as_some_servers_write_it(
        self, choice: dict[str, Any], index: int, text: str, finish: str | None
    ) -> None:
        found = decode_text_completion(json.dumps({"choices": [choice]}).encode()).choices[0]
        assert (found.index, found.text, found.finish_reason) == (index, text, finish)
        assert found.logprobs is None

    def test_log_probabilities_that_are_no_numbers(self) -> None:
        body = (
            b'{"choices":[{"text":"a","logprobs":{"tokens":["a"],"token_logprobs":[-Infinity]}}]}'
        )
        logprobs = decode_text_completion(body).choices[0].logprobs
        assert logprobs is not None
        assert (logprobs.tokens, logprobs.token_logprobs) == (["a"], [float("-inf")])
        assert logprobs.top_logprobs == []

    @pytest.mark.parametrize("body", [b"", b"[]", b"5", b'"x"', b"{", b"null"])
    def test_what_is_none(self, body: bytes) -> None:
        with pytest.raises(ChunkDecodeError):
            decode_text_completion(body)

    @pytest.mark.parametrize("choices", [None, [], {}, "x", 5])
    def test_without_choices_its_text_is_empty(self, choices: Any) -> None:
        completion = decode_text_completion(json.dumps({"choices": choices}).encode())
        assert (completion.choices, completion.text) == ([], "")


class TestStreams:
    def test_text_by_choice(self) -> None:
        answer, error = outcome_of(
            piece("a"), piece("x", 1), piece("b", finish="stop"), piece("y", 1, "length"), "[DONE]"
        )
        assert error is None
        assert [(c.index, c.text, c.finish_reason) for c in answer.choices] == [
            (0, "ab", "stop"),
            (1, "xy", "length"),
        ]
        assert (answer.id, answer.model, answer.text) == ("c", "m", "ab")

    def test_log_probabilities_are_joined(self) -> None:
        def logprobs(token: str, offset: int) -> dict[str, Any]:
            lists = {"tokens": [token], "token_logprobs": [-0.25], "text_offset": [offset]}
            return {**lists, "top_logprobs": [{token: -0.25}]}

        answer, error = outcome_of(
            piece("a", logprobs=logprobs("a", 0)),
            piece("b", logprobs=logprobs("b", 1)),
            piece("", finish="stop"),
        )
        assert error is None
        assert answer.choices[0].logprobs == TextLogprobs(
            tokens=["a", "b"],
            token_logprobs=[-0.25, -0.25],
            top_logprobs=[{"a": -0.25}, {"b": -0.25}],
            text_offset=[0, 1],
        )

    def test_usage_comes_last(self) -> None:
        usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
        answer, error = outcome_of(
            piece("a", finish="stop"), {"choices": [], "usage": usage}, "[DONE]"
        )
        assert error is None
        assert answer.usage == Usage(1, 2, 3)

    def test_where_it_ends(self) -> None:
        assert outcome_of(piece("a", finish="stop"))[1] is None
        assert outcome_of(piece("a"), "[DONE]")[1] is None
        answer, error = outcome_of(piece("a", finish="stop"), piece("b", 1))
        assert type(error) is IncompleteStreamError
        assert answer.text == "a"

    @pytest.mark.parametrize(
        "payload",
        [
            {"error": {"message": "no"}},
            {"object": "error", "message": "no"},
            piece("", finish="error", error={"message": "no"}),
            piece("", error="no"),
        ],
    )
    def test_errors_inside(self, payload: dict[str, Any]) -> None:
        answer, error = outcome_of(piece("a"), payload, "[DONE]")
        assert type(error) is StreamError
        assert "no" in str(error)
        assert answer.text == "a"

    @pytest.mark.parametrize("payload", [{"detail": "no"}, {"code": 5, "message": "no"}])
    def test_nothing_but_words(self, payload: dict[str, Any]) -> None:
        error = outcome_of(payload, "[DONE]")[1]
        assert type(error) is StreamError
        assert "no" in str(error)

    def test_a_whole_answer_is_one_piece(self) -> None:
        whole = json.dumps({**piece("ab", finish="stop"), "usage": {"total_tokens": 3}}).encode()
        for pieces in in_pieces(whole):
            answer, error = read(pieces)
            assert error is None
            assert (answer.text, answer.choices[0].finish_reason) == ("ab", "stop")
            assert answer.usage == Usage(total_tokens=3)

    @pytest.mark.parametrize(
        ("choice", "progress"),
        [
            ({"text": "a"}, True),
            ({"text": ""}, False),
            ({"text": "", "logprobs": {"tokens": ["\ufffd"]}}, True),
            ({"text": "", "logprobs": {"tokens": []}}, False),
            ({"text": "", "finish_reason": "stop"}, False),
        ],
    )
    def test_what_is_progress(self, choice: dict[str, Any], progress: bool) -> None:
        decoder = TextCompletionDecoder("text/event-stream")
        decoder.feed(event({"choices": [choice]}).encode())
        assert decoder.token_seen == progress


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.text(max_size=5), st.booleans(), st.booleans()),
        max_size=10,
    ),
    st.integers(1, 3),
)
def test_pieces_together_are_the_whole(
    parts: list[tuple[int, str, bool, bool]], batch: int
) -> None:
    texts: dict[int, str] = {}
    tokens: dict[int, list[str]] = {}
    pieces: list[TextCompletion] = []
    for index, text, with_logprobs, finished in parts:
        texts[index] = texts.get(index, "") + text
        logprobs = {"tokens": [text], "token_logprobs": [0.0]} if with_logprobs else None
        if with_logprobs:
            tokens.setdefault(index, []).append(text)
        payload = piece(text, index, "stop" if finished else None, logprobs=logprobs)
        pieces.append(decode_text_completion(json.dumps(payload).encode()))
    answer = TextAccumulator()
    for start in range(0, len(pieces), batch):
        answer.extend(pieces[start : start + batch])
        earlier = answer.completion()
        kept = repr(earlier)
        answer.extend([])
        assert repr(answer.completion()) == kept
    whole = answer.completion()
    assert {choice.index: choice.text for choice in whole.choices} == texts
    assert {
        choice.index: choice.logprobs.tokens for choice in whole.choices if choice.logprobs
    } == tokens
    assert whole.text == texts.get(0, "")


def test_members_without_a_field_are_bounded() -> None:
    answer = TextAccumulator()
    answer._budget.left = 50
    for number in range(200):
        answer.extend([decode_text_completion(b'{"choices":[],"x%d":%d}' % (number, number))])
    assert answer.excess is not None
    assert "members without a field" in answer.excess
    assert len(answer.completion().extra or ()) <= 51
