from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._wire.request_head import RequestHead, plain_request

HOST = (b"Host", b"example.com")
KEY = "sk-0123456789"
AUTHORIZATION = (b"Authorization", b"Bearer " + KEY.encode())


def request_by_h11(
    method: str, target: str, headers: list[tuple[bytes, bytes]], body: bytes
) -> bytes | None:
    connection = h11.Connection(h11.CLIENT)
    try:
        sent = connection.send(h11.Request(method=method, target=target, headers=headers))
        if body:
            sent += connection.send(h11.Data(data=body))
        sent += connection.send(h11.EndOfMessage())
    except h11.LocalProtocolError:
        return None
    return sent


fields = st.lists(
    st.tuples(
        st.sampled_from([b"Host", b"host", b"A", b"Content-Length", b"Transfer-Encoding", b"a b"]),
        st.sampled_from([b"", b"a", b"2", b"2, 2", b"3", b"chunked", b"a b", b"a ", b" a", b"\xe9",
                         b"a\r\nb", b"a\r\nb: c", b"\0", b"a\t b"]),
    ),
    max_size=4,
)  # fmt: skip


@given(
    st.sampled_from(["GET", "POST", "HEAD", "get", "M-X", "A B"]),
    st.sampled_from(["/", "/v1/x?y=1", "http://h/x", "", "/a b", "/a\r\nb: c", "*"]),
    fields.map(lambda more: [HOST, *more]) | fields,
    st.sampled_from([b"", b"{}"]),
)
def test_a_plain_request_is_what_h11_writes(
    method: str, target: str, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    plain = plain_request(method, target, headers, body)
    if plain is not None:
        assert plain == request_by_h11(method, target, headers, body)


@pytest.mark.parametrize("body", [b"", b"{}"])
@pytest.mark.parametrize("value", [b"", b"a", b"a b", b"a \t b", b"\xe9"])
def test_the_usual_request_is_plain(value: bytes, body: bytes) -> None:
    headers = [HOST, (b"X-A", value), (b"Content-Length", b"%d" % len(body))]
    plain = plain_request("POST", "/v1/x", headers, body)
    assert plain is not None
    assert plain == request_by_h11("POST", "/v1/x", headers, body)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"A", b"b"), HOST],
        [HOST, HOST],
        [HOST, (b"Content-Length", b"3")],
        [HOST, (b"Content-Length", b"2"), (b"content-length", b"2")],
        [HOST, (b"Transfer-Encoding", b"chunked")],
        [HOST, (b"A", b"b\r\nX: y"), (b"Content-Length", b"2")],
        [HOST, (b"A b", b"c"), (b"Content-Length", b"2")],
        [HOST, (b"A", b"b "), (b"Content-Length", b"2")],
        [HOST],
    ],
)
def test_odd_requests_are_left_to_h11(headers: list[tuple[bytes, bytes]]) -> None:
    assert plain_request("POST", "/", headers, b"{}") is None


# --- a head that several requests share ---

bodies = st.lists(st.binary(max_size=12), min_size=1, max_size=3)


@given(fields.map(lambda more: [HOST, *more]), bodies, st.booleans(), st.booleans())
def test_a_shared_head_writes_what_each_request_would_be(
    lines: list[tuple[bytes, bytes]], bodies: list[bytes], measured: bool, with_key: bool
) -> None:
    head = RequestHead("POST", "/v1/x", lines, measured=measured)
    shown = [*lines]
    if with_key:
        head = head.signed(KEY)
        shown.append(AUTHORIZATION)
    for body in bodies:
        length = [(b"Content-Length", b"%d" % len(body))] if measured else []
        assert head.plain(body) == plain_request("POST", "/v1/x", [*shown, *length], body)
        assert head.lines(body) == [*shown, *length]


def test_a_head_without_a_length_keeps_the_length_it_was_given() -> None:
    head = RequestHead("POST", "/", [HOST, (b"content-length", b"2")])
    assert head.plain(b"{}") == plain_request("POST", "/", list(head.fields), b"{}")
    assert head.plain(b"{") is head.plain(b"") is None


def test_another_key_is_another_head() -> None:
    head = RequestHead("GET", "/", [HOST])
    for key in ("one", "two", "one"):
        signed = head.signed(key)
        assert signed.fields == [HOST, (b"Authorization", b"Bearer " + key.encode())]
        assert head.signed(key) is signed
    assert head.fields == [HOST]
    assert head.signed(None) is head


def test_a_header_of_its_own_wins_over_what_is_added() -> None:
    own = (b"AUTHORIZATION", b"Basic xyz")
    head = RequestHead("GET", "/", [HOST, own])
    assert head.signed(KEY, [(b"authorization", b"a"), (b"X-A", b"b")]).fields == [
        HOST,
        own,
        (b"X-A", b"b"),
    ]


def test_what_one_request_adds_is_in_no_other() -> None:
    head = RequestHead("GET", "/", [HOST])
    assert head.signed(KEY, [(b"X-A", b"b")]).fields == [HOST, (b"X-A", b"b"), AUTHORIZATION]
    assert head.signed(KEY).fields == [HOST, AUTHORIZATION]


def test_renewed_values() -> None:
    head = RequestHead("GET", "/x", [HOST, (b"X-A", b"1"), (b"x-b", b"2")], measured=True)
    renewed = head.renewed({b"x-a": b"3", b"x-c": b"4"})
    assert renewed.lines(b"") == [HOST, (b"X-A", b"3"), (b"x-b", b"2"), (b"Content-Length", b"0")]
    assert (renewed.method, renewed.target) == ("GET", "/x")


def test_its_picture_shows_no_field() -> None:
    assert KEY not in repr(RequestHead("GET", "/", [HOST]).signed(KEY))
