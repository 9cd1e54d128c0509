"""An answer's members have their types, whatever the server sends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.batch import Failure, Outcome
from penstock.engines.answers import answer_of, failed
from penstock.testing.replies import completion

from .support import checked


def outcome(body: Any, error: Failure | None = None, status: int | None = 200) -> Outcome:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Outcome(0, "", "", status, None, text, error, 1, 0.0, 1.0)


def test_what_an_answer_says() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    body = completion("Hello", finish="length", usage=usage)
    answer = checked(answer_of(outcome(body), raw=True))
    assert answer["text"] == "Hello"
    assert answer["finish_reason"] == "length"
    assert (answer["prompt_tokens"], answer["completion_tokens"]) == (3, 4)
    assert json.loads(answer["body"] or "") == body


LEAVES = st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text())
ODD = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)


@given(ODD, ODD, ODD, ODD, st.booleans())
def test_odd_answers(content: Any, finish: Any, usage: Any, tokens: Any, raw: bool) -> None:
    body = completion("Hello")
    body["choices"][0]["message"]["content"] = content
    body["choices"][0]["finish_reason"] = finish
    body["usage"] = {"prompt_tokens": tokens, "completion_tokens": usage}
    answer = checked(answer_of(outcome(body), raw=raw))
    assert (answer["body"] is not None) is raw


@given(ODD)
def test_any_json(value: Any) -> None:
    checked(answer_of(outcome(value), raw=True))


def test_numbers_and_texts_that_no_column_has() -> None:
    body = completion("a\ud800b", usage={"prompt_tokens": 2**63, "completion_tokens": -1})
    answer = checked(answer_of(outcome(json.dumps(body).encode()), raw=True))
    assert (answer["prompt_tokens"], answer["completion_tokens"]) == (None, None)
    assert answer["text"] is not None
    for text in (answer["text"], answer["body"]):
        assert text is not None
        text.encode("utf-8")


@pytest.mark.parametrize("raw", [False, True])
def test_a_failure(raw: bool) -> None:
    failure = Failure("bad_request", "400 odd", status_code=400)
    answer = checked(answer_of(outcome({"error": "odd"}, failure, 400), raw=raw))
    assert (answer["error"], answer["message"], answer["status_code"]) == (
        "bad_request",
        "400 odd",
        400,
    )
    assert answer["body"] == ('{"error": "odd"}' if raw else None)


def test_a_failure_without_a_response() -> None:
    answer = checked(failed(Failure("connection", "refused")))
    assert (answer["status_code"], answer["requests"], answer["body"]) == (None, 0, None)
