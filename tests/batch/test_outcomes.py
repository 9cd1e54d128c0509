"""Outcomes, and the lines that they become."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import msgspec
import pytest

from penstock.batch.outcomes import Failure, Outcome
from penstock.testing.replies import completion

ID = "penstock-" + "0" * 24


def outcome(body: bytes = b"", error: Failure | None = None, **changes: Any) -> Outcome:
    made = Outcome(0, "a", ID, 200, "req-1", body, error, 1, 0.0, 1.0)
    return msgspec.structs.replace(made, **changes)


def test_the_line_of_an_answer() -> None:
    body = b'{ "id": "x",  "n": 1.0 }'
    line = outcome(body).to_line()
    assert line == (
        b'{"id":"%b","custom_id":"a","response":{"status_code":200,"request_id":"req-1",'
        b'"body":%b},"error":null}\n' % (ID.encode(), body)
    )


def test_the_line_of_a_failure_with_a_response() -> None:
    failure = Failure("bad_request", "no", status_code=400, type="t", param="p")
    line = json.loads(outcome(b'{"error":"no"}', failure, status_code=400).to_line())
    assert list(line) == ["id", "custom_id", "response", "error"]
    assert line["response"] == {
        "status_code": 400,
        "request_id": "req-1",
        "body": {"error": "no"},
    }
    assert line["error"] == {
        "code": "bad_request",
        "message": "no",
        "status_code": 400,
        "type": "t",
        "param": "p",
    }


def test_the_line_of_a_failure_without_a_response() -> None:
    failed = outcome(error=Failure("connection", "refused"), status_code=None, request_id=None)
    line = json.loads(failed.to_line())
    assert line["response"] is None
    assert line["error"] == {"code": "connection", "message": "refused"}


@pytest.mark.parametrize("name", ["a\u2028b", "\ud800", '"quoted"\n', "\x00", "日本"])
def test_any_custom_id_is_one_line(name: str) -> None:
    line = outcome(b"{}", custom_id=name).to_line()
    assert line.count(b"\n") == 1
    assert json.loads(line)["custom_id"] == name


def test_a_line_without_an_id_of_its_own() -> None:
    failed = outcome(error=Failure("invalid_row", "x"), custom_id=None, status_code=None)
    assert json.loads(failed.to_line())["custom_id"] is None


def test_what_a_chat_said() -> None:
    answered = outcome(json.dumps(completion("Hello", usage={"prompt_tokens": 3})).encode())
    assert answered.text == "Hello"
    assert answered.completion is not None
    assert answered.completion.choices[0].finish_reason == "stop"
    assert answered.usage is not None
    assert answered.usage.prompt_tokens == 3


def test_what_a_text_completion_said() -> None:
    answered = outcome(b'{"object":"text_completion","choices":[{"index":0,"text":"so"}]}')
    assert answered.text == "so"
    assert answered.usage is None


def test_an_embedding_has_usage_and_no_text() -> None:
    answered = outcome(b'{"data":[],"usage":{"prompt_tokens":5,"total_tokens":5}}')
    assert answered.completion is None
    assert answered.text is None
    assert answered.usage is not None
    assert answered.usage.total_tokens == 5


def test_a_failure_has_nothing_of_an_answer() -> None:
    failed = outcome(b'{"choices":[]}', Failure("server_error", "x"))
    assert failed.completion is None
    assert failed.text is None
    assert failed.usage is None


def test_outcomes_are_plain_values() -> None:
    failed = outcome(b"{}", Failure("interrupted", "x", partial={"choices": []}))
    for again in (pickle.loads(pickle.dumps(failed)), copy.deepcopy(failed)):
        assert again == failed
    assert msgspec.json.decode(msgspec.json.encode(failed), type=Outcome) == failed
    with pytest.raises(AttributeError):
        failed.index = 3  # type: ignore[misc]
