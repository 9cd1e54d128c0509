"""The answer of any endpoint, as a value."""

from __future__ import annotations

import copy
import pickle

import pytest

from penstock import APIResponseError, Headers, Response


def response(content: bytes) -> Response:
    return Response(200, Headers([("X-Request-Id", "req-1"), ("a", "1"), ("A", "2")]), content)


def test_a_response() -> None:
    answer = response(b'{"a": [1, 2.5, null]}')
    assert answer.json() == {"a": [1, 2.5, None]}
    assert answer.json() is not answer.json()
    assert answer.request_id == "req-1"
    assert answer.headers["A"] == "1, 2"
    assert repr(answer) == "<Response 200, 21 bytes>"


def test_a_response_is_a_value() -> None:
    answer = response(b"x")
    for again in (copy.deepcopy(answer), pickle.loads(pickle.dumps(answer))):
        assert (again.status_code, dict(again.headers), again.content) == (
            200,
            dict(answer.headers),
            b"x",
        )


def test_what_is_no_json_says_so_with_all_there_is() -> None:
    with pytest.raises(APIResponseError, match="not JSON") as caught:
        response(b"<html>" + b"x" * 10_000).json()
    error = caught.value
    assert (error.status_code, error.request_id) == (200, "req-1")
    assert error.headers["a"] == "1, 2"
    assert error.body is not None
    assert error.body.startswith("<html>x")
    assert len(error.body) == 4096
