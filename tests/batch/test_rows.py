"""Rows: what a line must have, what is sent, and the digest."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.batch.rows import (
    InvalidRow,
    Params,
    Request,
    check_line,
    parse_line,
    row_of,
    row_of_line,
)

BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
NOTHING = Params()


def line(**changes: Any) -> bytes:
    members: dict[str, Any] = {
        "custom_id": "a",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": BODY,
    }
    members.update(changes)
    return json.dumps({name: value for name, value in members.items() if value is not ...}).encode()


def test_a_line_of_openais_form() -> None:
    request = parse_line(line())
    assert request == Request("a", BODY)
    assert request.url == "/v1/chat/completions"
    assert request.method == "POST"
    assert pickle.loads(pickle.dumps(request)) == request


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b'{"custom_id": "a"',
        b'{"custom_id": "a", "method": "POST", "url": "/v1/x", "body": {"a": NaN}}',
        b'{"custom_id": "\xff", "method": "POST", "url": "/v1/x", "body": {}}',
        b'{"custom_id": "a", "method": "POST", "url": "/v1/x", "body": {"a": "\xff"}}',
        line(custom_id=...),
        line(custom_id=None),
        line(custom_id=7),
        line(custom_id=""),
        line(method=...),
        line(method="GET"),
        line(url=...),
        line(url=""),
        line(url="/"),
        line(url="v1/chat/completions"),
        line(url="http://localhost/v1/chat/completions"),
        line(url="//localhost/v1/chat/completions"),
        line(url="/v1/chat completions"),
        line(url="/v1/chat\r\nX: y"),
        line(url=5),
        line(body=...),
        line(body=None),
        line(body=[BODY]),
        line(body="text"),
        b'{"custom_id": "a", "method": "POST", "url": "/x", "body": '
        + b'{"a": ' * 5000 + b"1" + b"}" * 5001,
        b'{"custom_id": "a", "method": "POST", "url": "/x", "body": {"a": %b}}' % (b"9" * 4301),
        b'{"custom_id": "a", "method": "POST", "url": "/x", "body": {"a": "%b", "b": -1%b}}'
        % (b"x" * 9999, b"0" * 4300),
    ],
)  # fmt: skip
def test_lines_that_are_no_rows(bad: bytes) -> None:
    with pytest.raises(InvalidRow) as raised:
        parse_line(bad)
    assert isinstance(raised.value, ValueError)
    assert str(raised.value)
    with pytest.raises(InvalidRow):
        row_of_line(bad, NOTHING)
    with pytest.raises(InvalidRow):
        check_line(bad)  # so nothing is found only while the job runs


def test_an_invalid_row_knows_its_custom_id() -> None:
    with pytest.raises(InvalidRow) as raised:
        parse_line(line(custom_id="row 7", method="PUT"))
    assert raised.value.custom_id == "row 7"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/v1/chat/completions", "/chat/completions"),
        ("/chat/completions", "/chat/completions"),
        ("/v1/embeddings", "/embeddings"),
        ("/v1beta/x", "/v1beta/x"),
        ("/v2/rerank", "/v2/rerank"),
        ("/v1/v1/x", "/v1/x"),
        ("/v1/x?a=b", "/x?a=b"),
    ],
)
def test_a_leading_v1_is_dropped(url: str, path: str) -> None:
    assert row_of_line(line(url=url), NOTHING).path == path


def test_further_members_are_ignored() -> None:
    assert row_of_line(line(metadata={"x": 1}), NOTHING) == row_of_line(line(), NOTHING)


def test_the_body_is_sent_as_it_is_written() -> None:
    body = b'{ "model":"m",  "x": 1.0, "big": 123456789012345678901234567890, "s": "\\u00e9" }'
    text = b'{"custom_id": "a", "method": "POST", "url": "/v1/x", "body": ' + body + b"}"
    assert row_of_line(text, NOTHING).body == body


@pytest.mark.parametrize("name", ["stream", "stream_options"])
def test_what_is_ours_is_dropped(name: str) -> None:
    asked = row_of_line(line(body={**BODY, name: {"include_usage": True}}), NOTHING)
    assert json.loads(asked.body) == BODY
    assert asked.id == row_of_line(line(), NOTHING).id
    assert json.loads(row_of_line(line(), Params({name: True})).body) == BODY


def test_parameters_go_over_the_body() -> None:
    params = Params({"model": "other", "temperature": 0})
    assert json.loads(row_of_line(line(), params).body) == {
        **BODY,
        "model": "other",
        "temperature": 0,
    }


def test_the_digest_is_of_url_and_effective_body() -> None:
    same = row_of_line(line(), NOTHING)
    assert same.id.startswith("penstock-")
    assert len(same.id) == len("penstock-") + 24
    assert int(same.id.removeprefix("penstock-"), 16) >= 0
    swapped = dict(reversed(BODY.items()))
    deeper = {"messages": [{"content": "Hi", "role": "user"}], "model": "m"}
    for body in (swapped, deeper):
        assert row_of_line(line(body=body), NOTHING).id == same.id
    assert row_of_line(line(custom_id="b"), NOTHING).id == same.id
    assert row_of_line(line(url="/chat/completions"), NOTHING).id == same.id
    assert row_of_line(line(body={**BODY, "model": "x"}), NOTHING).id != same.id
    assert row_of_line(line(), Params({"model": "x"})).id != same.id
    assert row_of_line(line(body={**BODY, "model": "x"}), Params({"model": "m"})).id == same.id
    assert row_of_line(line(url="/v1/responses"), NOTHING).id != same.id


def test_lone_surrogates_are_sent_as_they_were_written() -> None:
    text = line(body={"model": "m", "prompt": "\ud800"})
    row = row_of_line(text, NOTHING)
    assert json.loads(row.body)["prompt"] == "\ud800"
    assert json.loads(row_of_line(text, Params({"model": "x"})).body)["prompt"] == "\ud800"


def test_lone_surrogates_in_a_name() -> None:
    text = line(body={"model": "m", "\ud800": 1})
    row = row_of_line(text, Params({"model": "x"}))
    assert json.loads(row.body) == {"model": "x", "\ud800": 1}


@pytest.mark.parametrize(
    "number", ["9" * 4300, "-" + "9" * 4300, "0." + "1" * 9000, "1e999", f'"{"9" * 9000}"']
)
def test_long_numbers_that_are_rows(number: str) -> None:
    text = line(body={"model": "m", "x": 5}).replace(b"5", number.encode())
    assert check_line(text)[0] == "a"
    assert number.encode() in row_of_line(text, Params({"model": "x"})).body


def test_a_request_is_the_same_row_as_its_line() -> None:
    assert row_of(Request("a", BODY), NOTHING).id == row_of_line(line(), NOTHING).id
    assert row_of(Request("a", BODY), NOTHING).path == "/chat/completions"


@pytest.mark.parametrize(
    "request_",
    [
        Request("", BODY),
        Request(7, BODY),  # type: ignore[arg-type]
        Request("a", [BODY]),  # type: ignore[arg-type]
        Request("a", {"x": float("nan")}),
        Request("a", {"x": object()}),
        Request("a", BODY, url="x"),
        Request("a", BODY, method="GET"),
    ],
)
def test_requests_that_are_no_rows(request_: Request) -> None:
    with pytest.raises(InvalidRow):
        row_of(request_, NOTHING)


@pytest.mark.parametrize("params", [{1: 2}, [("a", 1)], {"a": object()}])
def test_parameters_that_make_no_sense(params: Any) -> None:
    with pytest.raises(TypeError):
        Params(params)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.text(), JSON, max_size=5), st.dictionaries(st.text(), JSON, max_size=3))
def test_what_is_sent_is_what_was_written(body: dict[str, Any], params: dict[str, Any]) -> None:
    row = row_of_line(line(body=body), Params(params))
    expected = {**body, **params}
    for name in ("stream", "stream_options"):
        expected.pop(name, None)
    assert json.loads(row.body) == expected
    assert row_of_line(line(body=expected), NOTHING).id == row.id
