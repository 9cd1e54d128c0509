from __future__ import annotations

import copy
import pickle

import pytest

from penstock.headers import Headers, request_id

HEADERS = Headers([(b"Set-Cookie", b"a=1"), ("X-Request-Id", "r"), (b"set-cookie", b"b=2")])


def test_names_compare_without_regard_to_case() -> None:
    assert HEADERS["x-request-id"] == HEADERS["X-REQUEST-ID"] == "r"
    assert "X-Request-ID" in HEADERS
    assert Headers([("A", "1")]) == Headers([(b"a", b"1")]) == {"a": "1"}


def test_several_lines_of_a_field() -> None:
    assert HEADERS["set-cookie"] == "a=1, b=2"
    assert HEADERS.get_list("Set-Cookie") == ["a=1", "b=2"]
    assert HEADERS.get_list("nothing") == []


def test_it_is_a_mapping() -> None:
    assert list(HEADERS) == ["set-cookie", "x-request-id"]
    assert len(HEADERS) == 2
    assert HEADERS.get("nothing") is None
    assert "nothing" not in HEADERS
    with pytest.raises(KeyError, match="Nothing"):
        HEADERS["Nothing"]
    assert not Headers()
    assert repr(Headers([("A", "1")])) == "Headers({'a': '1'})"


def test_bytes_of_no_charset_are_kept() -> None:
    assert Headers([(b"a", b"\xe9\xff")])["a"].encode("latin-1") == b"\xe9\xff"


def test_it_pickles_and_copies() -> None:
    for twin in (pickle.loads(pickle.dumps(HEADERS)), copy.deepcopy(HEADERS), copy.copy(HEADERS)):
        assert twin == HEADERS
        assert twin.get_list("set-cookie") == ["a=1", "b=2"]


def test_it_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        HEADERS["a"] = "b"  # type: ignore[index]
    with pytest.raises(AttributeError):
        HEADERS.other = 1  # type: ignore[attr-defined]


def test_packed_headers_are_the_same() -> None:
    block = b"Set-Cookie: a=1\r\nx-empty:\r\nset-cookie:   b: \xe9\r\n"
    lines = [(b"Set-Cookie", b"a=1"), (b"x-empty", b""), (b"set-cookie", b"b: \xe9")]
    headers = Headers.of_block(block)
    for _ in range(2):
        headers.pack()
        assert headers == Headers(lines)
        assert headers.get_list("set-cookie") == ["a=1", "b: \xe9"]
        assert headers.raw_lines() == lines
        headers.pack()
        assert pickle.loads(pickle.dumps(headers)) == headers
        headers.pack()
        assert "x-empty" in headers
        assert len(headers) == 2


def test_headers_without_a_block_keep_their_lines() -> None:
    headers = Headers([("a", "b")])
    headers.pack()
    assert headers == {"a": "b"}


class TestRequestId:
    @pytest.mark.parametrize(
        "name", ["x-request-id", "request-id", "x-amzn-requestid", "apim-request-id", "cf-ray"]
    )
    def test_each_name(self, name: str) -> None:
        assert request_id(Headers([(name.title(), "id")])) == "id"

    def test_the_server_before_the_proxy(self) -> None:
        assert request_id(Headers([("cf-ray", "ray"), ("x-request-id", "req")])) == "req"

    def test_none(self) -> None:
        assert request_id(Headers([("server", "x"), ("x-request-id", "")])) is None
