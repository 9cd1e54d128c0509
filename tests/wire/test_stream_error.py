from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._wire.stream_error import (
    body_excerpt,
    is_event_stream,
    reports_error,
    stream_error,
    unstreamed_error,
)
from penstock.errors import APIResponseError, IncompleteStreamError, StreamError

from .test_error_details import CASES


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("text/event-stream", True),
        ("Text/Event-Stream; charset=utf-8", True),
        (" text/event-stream ;x", True),
        ("text/event-streams", False),
        ("application/json", False),
        ("", False),
        (None, False),
    ],
)
def test_the_declared_type(content_type: str | None, expected: bool) -> None:
    assert is_event_stream(content_type) is expected


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"error": {"message": "x"}}, True),
        ({"error": "x", "choices": []}, True),
        ({"object": "error"}, True),
        ({"error": None}, False),
        ({"error": {}}, False),
        ({"error": ""}, False),
        ({"object": "chat.completion"}, False),
        ([{"error": "x"}], False),
        ("error", False),
    ],
)
def test_what_reports_an_error(payload: Any, expected: bool) -> None:
    assert reports_error(payload) is expected


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"error": {"code": " ", "message": "no"}}, "no"),
        ({"error": {"loc": ["\n"], "code": "down"}}, "down: {}"),
        ({"error": {"message": " " * 5000 + "no"}}, "no"),
    ],
)
def test_blanks_say_nothing(payload: Any, message: str) -> None:
    assert str(stream_error(payload, b"{}")) == message


class TestStreamError:
    def test_everything_it_says(self) -> None:
        payload = {
            "error": {
                "message": "Slow\ndown",
                "type": "t",
                "param": "p",
                "code": "c",
                "status": 429,
            }
        }
        error = stream_error(payload, b"")
        assert str(error) == "c: Slow down"
        assert (error.code, error.type, error.param, error.status_code) == ("c", "t", "p", 429)
        assert error.body == payload
        assert error.partial is None

    @pytest.mark.parametrize(
        ("payload", "message"),
        [
            ({"error": "down"}, "down"),
            ({"error": {"message": "down", "type": "server_error"}}, "server_error: down"),
            ({"error": {"message": "down", "code": 502}}, "502: down"),
            ({"error": True}, '{"error": true}'),
            ("down", "down"),
            ({"object": "error"}, '{"object": "error"}'),
        ],
    )
    def test_messages(self, payload: Any, message: str) -> None:
        assert str(stream_error(payload, json.dumps(payload).encode())) == message

    @pytest.mark.parametrize("case", CASES)
    def test_every_known_shape(self, case: str) -> None:
        payload, details = CASES[case]
        error = stream_error(payload, b"x")
        assert (error.code, error.type, error.param, error.status_code) == details[1:]

    def test_it_is_bounded(self) -> None:
        long = {"error": {"message": "x" * 9999, "code": "y" * 999}}
        assert len(str(stream_error(long))) < 600
        assert str(stream_error({"error": True})) == "an error without a message"
        assert len(str(stream_error({"error": {"x": 1}}, b"x" * 9999))) == 200


class TestUnstreamed:
    """Rule 4: a 200 that is no event stream is never an empty answer."""

    def test_a_json_error(self) -> None:
        error = unstreamed_error(b'{"error":{"message":"no","code":"x"}}', "application/json")
        assert type(error) is StreamError
        assert (error.code, str(error)) == ("x", "x: no")

    def test_a_whole_completion(self) -> None:
        body = b'{"object":"chat.completion","choices":[{"message":{"content":"Hi"}}]}'
        error = unstreamed_error(body, "application/json")
        assert type(error) is APIResponseError
        assert "ignores stream=true" in str(error)
        assert error.body == body.decode()

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            (b'{"detail":"Not Found"}', "not an event stream (content type a/b): Not Found"),
            (b"<html><title>Log in</title>", "not an event stream (content type a/b): Log in"),
            (b"hello\nworld", "not an event stream (content type a/b): hello world"),
            (b'{"choices":null}', 'not an event stream (content type a/b): {"choices":null}'),
            (b'{"a":1}\n{"a":2}', 'not an event stream (content type a/b): {"a":1} {"a":2}'),
            (b"[]", "not an event stream (content type a/b): []"),
            (b"  ", "an empty body instead of an event stream (content type a/b)"),
        ],
    )
    def test_other_bodies(self, body: bytes, said: str) -> None:
        error = unstreamed_error(body, "a/b")
        assert type(error) is APIResponseError
        assert str(error) == said

    def test_no_content_type(self) -> None:
        assert str(unstreamed_error(b"x", None)) == "not an event stream: x"

    def test_an_empty_event_stream(self) -> None:
        error = unstreamed_error(b"\r\n", "text/event-stream")
        assert type(error) is IncompleteStreamError
        assert "empty body" in str(error)

    def test_an_excerpt_is_kept(self) -> None:
        error = unstreamed_error(b"x" * 100_000, None)
        assert isinstance(error, APIResponseError)
        assert error.body == "x" * 4096
        assert body_excerpt("é".encode() * 10_000) == "é" * 4096


@given(st.binary() | st.dictionaries(st.text(), st.text()).map(lambda d: json.dumps(d).encode()))
def test_any_body_is_an_error_of_one_line(body: bytes) -> None:
    for content_type in (None, "text/event-stream", "a\nb"):
        error = unstreamed_error(body, content_type)
        assert str(error)
        assert str(error).isprintable()
        assert len(str(error)) < 700
        assert str(pickle.loads(pickle.dumps(error))) == str(copy.deepcopy(error)) == str(error)


def test_an_unstreamed_error_without_words_shows_its_body() -> None:
    error = unstreamed_error(b'{"error": {"x": 5}}', "application/json")
    assert isinstance(error, StreamError)
    assert str(error) == '{"error": {"x": 5}}'
