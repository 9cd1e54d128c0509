"""What counts as an answer, and its body as one line."""

from __future__ import annotations

import json

import pytest

from penstock import APIResponseError, Headers, PenstockError, StreamError
from penstock._client.response import Response
from penstock.batch.answers import answer_of


def response(body: bytes) -> Response:
    def masked(error: PenstockError) -> PenstockError:
        error.args = tuple(str(arg).replace("secret", "***") for arg in error.args)
        return error

    return Response(200, Headers([("x-request-id", "req-7")]), body, masked)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b'{"a":1.0}', b'{"a":1.0}'),
        (b'{\n  "a": [\r\n1,\n2]\n}\n', b'{  "a": [1,2]}'),
        (b'\xef\xbb\xbf{"a":1}', b'{"a":1}'),
        (b"[1, 2]", b"[1, 2]"),
        (b'"text"', b'"text"'),
        (b'{"a": "\xe2\x80\xa8"}', b'{"a": "\xe2\x80\xa8"}'),
        (b'{"a": "\xff"}', b'{"a": "\xef\xbf\xbd"}'),  # an output file is UTF-8
        # An output file is JSON, too.
        (b'{"a": [NaN, -Infinity,Infinity]}', b'{"a": [null, null,null]}'),
        (b'{"NaN": NaN, "a": "\\"NaN", "b": "\\\\"}', b'{"NaN": null, "a": "\\"NaN", "b": "\\\\"}'),
        (b'{"a": "\xff",\n"b": NaN}', b'{"a": "\xef\xbf\xbd","b": null}'),
        (b'{"a": "\\ud800"}', b'{"a": "\\ud800"}'),
        (b'{"error": null, "a": 1}', b'{"error": null, "a": 1}'),
        (b'{"a": 123456789012345678901234567890}', b'{"a": 123456789012345678901234567890}'),
    ],
)
def test_a_body_stays_as_it_was_sent_but_for_line_breaks(sent: bytes, kept: bytes) -> None:
    answer = answer_of(response(sent))
    assert (answer.status_code, answer.request_id) == (200, "req-7")
    assert answer.body == kept


@pytest.mark.parametrize(
    "body",
    [
        b"", b" \n", b"null", b"<html>secret</html>", b'{"a":', b"{}{}",
        b'{"a": "x\ny"}', b'{"a": "x\ry"}', b'{"a": NaN, "b": "x\ny"}', b'{"a": "x\ty"}',
    ],
)  # fmt: skip
def test_what_is_no_json_is_no_answer(body: bytes) -> None:
    with pytest.raises(APIResponseError) as raised:
        answer_of(response(body))
    assert raised.value.status_code == 200
    assert raised.value.request_id == "req-7"


@pytest.mark.parametrize(
    "error",
    [
        {"error": {"message": "the key secret is bad", "code": 500}},
        {"error": "the key secret is bad"},
        {"object": "error", "message": "the key secret is bad"},
        {"error": {"message": "the key secret is bad"}, "choices": []},
        {"choices": [{"error": {"message": "the key secret is bad"}}]},
    ],
)
def test_an_error_inside_a_200_is_no_answer(error: object) -> None:
    with pytest.raises(StreamError, match=r"the key \*\*\* is bad") as raised:
        answer_of(response(json.dumps(error).encode()))
    assert raised.value.request_id == "req-7"


def test_tokens_are_counted_by_the_servers_names() -> None:
    usage = {"prompt_tokens": 3, "total_tokens": 5, "cost": 2, "details": {"a_tokens": 1}}
    assert answer_of(response(json.dumps({"usage": usage}).encode())).tokens == {
        "prompt_tokens": 3,
        "total_tokens": 5,
    }
    for odd in (b"[]", b'{"usage": 5}', b'{"usage": {"prompt_tokens": "3"}}', b'{"usage": [1]}'):
        assert answer_of(response(odd)).tokens == {}
