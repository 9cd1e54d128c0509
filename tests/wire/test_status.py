from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import errors
from penstock._wire.status import status_error
from penstock.headers import Headers

from .test_error_details import CASES, OPENAI


def error_of(status: int, body: Any, **headers: str) -> errors.APIStatusError:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return status_error(status, Headers(lines), data)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, errors.BadRequestError),
        (401, errors.AuthenticationError),
        (402, errors.InsufficientCreditsError),
        (403, errors.PermissionDeniedError),
        (404, errors.NotFoundError),
        (409, errors.ConflictError),
        (418, errors.APIStatusError),
        (422, errors.UnprocessableEntityError),
        (429, errors.RateLimitError),
        (500, errors.InternalServerError),
        (503, errors.EndpointNotReadyError),
        (529, errors.InternalServerError),
        (799, errors.InternalServerError),
        (307, errors.APIStatusError),
        (100, errors.APIStatusError),
    ],
)
@pytest.mark.parametrize("body", [b"", b'{"error":{"message":"x","code":429}}', b'{"err', b"\xff"])
def test_the_status_decides_whatever_the_body(
    status: int, expected: type[errors.APIStatusError], body: bytes
) -> None:
    error = error_of(status, body)
    assert type(error) is expected
    assert error.status_code == status
    assert str(error).startswith(str(status))


def test_everything_of_the_envelope() -> None:
    headers = Headers([("x-request-id", "req_1"), ("retry-after", "2")])
    body = json.dumps(OPENAI).encode()
    error = status_error(429, headers, body)
    assert str(error) == "429 rate_limit_exceeded: Rate limit reached"
    assert error.body == OPENAI
    assert (error.code, error.type, error.param) == ("rate_limit_exceeded", "requests", "model")
    assert error.request_id == "req_1"
    assert error.headers is headers
    assert error.partial is None


@pytest.mark.parametrize("case", CASES)
def test_every_known_shape(case: str) -> None:
    payload, details = CASES[case]
    error = error_of(422, payload)
    assert (error.code, error.type, error.param) == (details.code, details.type, details.param)
    assert error.body == payload
    if details.message:
        assert details.message in str(error)


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (500, b"", "500 Internal Server Error"),
        (599, b"  ", "599 (unknown status)"),
        (500, b"upstream\nfailed", "500: upstream failed"),
        (500, b'"upstream failed"', "500: upstream failed"),
        (429, b'{"error": {"message": "Rate li', '429: {"error": {"message": "Rate li'),
        (502, b"<html><title>502 Bad Gateway</title>", "502: Bad Gateway"),
        (400, b'{"x": [1]}', '400: {"x": [1]}'),
        (400, b"null", "400 Bad Request"),
        (400, b"{}", "400 Bad Request"),
        (400, b'{"object":"error","message":"m","code":400}', "400: m"),
        (400, b'{"error":{"type":"invalid_request_error"}}', "400 invalid_request_error: {"),
        (500, b'{"error":{"message":"m","type":"server_error"}}', "500 server_error: m"),
        (500, b'{"error":{"message":"m","code":"a\\nb\\u0000"}}', "500 a b\ufffd: m"),
        (500, rb'{"error":"\ud83d"}', "500: \ufffd"),
    ],
)
def test_messages(status: int, body: bytes, message: str) -> None:
    assert str(error_of(status, body)).startswith(message)


def test_the_body_is_the_parsed_json_or_the_text() -> None:
    assert error_of(500, b"[1, NaN]").body[0] == 1
    assert error_of(500, b"\xffoops").body == "\ufffdoops"
    assert error_of(500, b"").body == ""
    assert error_of(500, b'{"a').body == '{"a'


def test_a_long_message_is_bounded_and_the_body_is_not() -> None:
    error = error_of(400, {"error": {"message": "x" * 5000, "code": "y" * 500}})
    assert len(str(error)) < 700
    assert len(error.body["error"]["message"]) == 5000


class TestRedirects:
    def test_they_are_not_followed_and_no_secret_is_shown(self) -> None:
        error = error_of(
            307, b"<html>moved", location="https://me:pw@other.test:8443/v1/chat?key=secret#x"
        )
        assert str(error) == (
            "307 Temporary Redirect: redirects are not followed, and the server points to"
            " https://other.test:8443/v1/chat; check base_url"
        )

    @pytest.mark.parametrize(
        ("location", "place"),
        [("/v1/", " to /v1/;"), ("", "followed;"), ("http://[", "followed;"), ("//h/p", "//h/p;")],
    )
    def test_other_locations(self, location: str, place: str) -> None:
        assert place in str(error_of(301, b"", location=location))

    def test_no_location(self) -> None:
        assert "not followed; check" in str(error_of(304, b""))


class TestAddressHint:
    @pytest.mark.parametrize("body", [b"", b"<html><h1>Not Found</h1>", b'{"detail":"Not Found"}'])
    @pytest.mark.parametrize("status", [404, 405])
    def test_a_wrong_path_says_what_to_check(self, status: int, body: bytes) -> None:
        assert str(error_of(status, body)).endswith("; check base_url")

    @pytest.mark.parametrize(
        "body",
        [
            {"error": {"message": "The model `x` does not exist", "code": "model_not_found"}},
            {"error": {"message": "no such thing", "param": "model"}},
            {"error": 'model "x" not found, try pulling it first'},
        ],
    )
    def test_an_unknown_model_is_no_wrong_address(self, body: Any) -> None:
        assert "base_url" not in str(error_of(404, body))

    def test_other_statuses_have_none(self) -> None:
        assert "base_url" not in str(error_of(400, b"<html>bad"))


@given(st.binary(max_size=300), st.integers(300, 599))
def test_any_body(body: bytes, status: int) -> None:
    error = error_of(status, body)
    assert str(error).startswith(str(status))
    assert str(error).isprintable()
    assert len(str(error)) < 700
    for twin in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert type(twin) is type(error)
        assert str(twin) == str(error)


def test_where_a_redirect_begins_and_what_a_missing_page_is_asked_for() -> None:
    def message(status: int, body: bytes = b"") -> str:
        return str(status_error(status, Headers(), body))

    assert "redirects are not followed" in message(300)
    assert "redirects are not followed" not in message(400)
    assert message(404) == "404 Not Found; check base_url"
    # A code that is the status in words is no label of its own.
    assert message(400, b'{"error":{"message":"m","code":"400","type":"t"}}') == "400 t: m"
    # Of a page's title only what repeats the status is taken off.
    assert message(502, b"<title>502 - Bad Gateway</title>") == "502: Bad Gateway"


@pytest.mark.parametrize("depth", [10, 100])
def test_a_body_that_is_too_deep_is_kept_as_text(depth: int) -> None:
    body = b'{"error":' * depth + b"1" + b"}" * depth
    error = status_error(400, Headers(), body)
    assert isinstance(error.body, str) == (depth == 100)
