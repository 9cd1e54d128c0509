from __future__ import annotations

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock._wire.head import ResponseHead, plain_request, plain_response
from penstock.headers import Headers

from .linear import growth

HOST = (b"Host", b"example.com")
OK = b"HTTP/1.1 200 OK\r\n"


def response_by_h11(head: bytes) -> ResponseHead | None:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    connection.send(h11.Request(method="POST", target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(head)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    if not isinstance(event, h11.Response) or connection.trailing_data[0]:
        return None
    lines = list(event.headers.raw_items())
    return ResponseHead(
        event.status_code, lines, b"HTTP/" + bytes(event.http_version), bytes(event.reason)
    )


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


# --- responses ---

names = st.sampled_from(
    [b"X-A", b"x-b", b"Content-Length", b"content-length", b"Transfer-Encoding", b"Connection",
     b"", b"a b", b"a\xff", b"14-letters-is", b"X:"]
)  # fmt: skip
values = st.sampled_from(
    [b"", b"1", b"12", b"1, 1", b"chunked", b"Chunked", b"gzip", b"a  b", b"a\tb", b"\xe9", b"\0",
     b"close", b"9" * 20, b"9" * 21, b"+1", b" ", b"a:b"]
)  # fmt: skip
blanks = st.sampled_from([b"", b" ", b" ", b"  ", b"\t"])
newlines = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\n "])
status_lines = st.sampled_from(
    [b"HTTP/1.1 200 OK", b"HTTP/1.1 200 ", b"HTTP/1.1 200", b"HTTP/1.1 200  a ", b"HTTP/1.0 200 OK",
     b"HTTP/1.1 404 Not Found", b"HTTP/1.1 100 Continue", b"HTTP/1.1 600 ?", b"HTTP/1.1 20 OK",
     b"HTTP/1.1 200 \xe9", b"HTTP/1.1 200 a\tb", b"http/1.1 200 OK", b"HTTP/1.1  200 OK", b""]
)  # fmt: skip


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    head = draw(status_lines) + draw(newlines)
    for name, value in draw(st.lists(st.tuples(names, values), max_size=5)):
        head += name + b":" + draw(blanks) + value + draw(blanks) + draw(newlines)
    return head + draw(newlines)


@given(heads() | st.binary(max_size=60))
@example(OK + b"a: \r\n\r\n")
@example(OK + b"a:b\r\n\r\nrest")
@example(OK + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n")
def test_a_plain_response_means_what_it_means_to_h11(head: bytes) -> None:
    plain = plain_response(head)
    if plain is not None:
        assert plain._replace(block=b"") == response_by_h11(head)
        assert Headers.of_block(plain.block, plain.lines).raw_lines() == plain.lines


@pytest.mark.parametrize(
    "lines",
    [
        b"",
        b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n",
        b"content-length: 12\r\nconnection: close\r\nX-Empty:\r\nx-no-blank:1\r\n",
        b"date: Mon, 30 Nov 2026 22:00:00 GMT\r\nserver:   uvicorn\r\nx-a: a b: c\r\nx-a: 2\r\n",
    ],
)
@pytest.mark.parametrize("status", [b"200 OK", b"429 Too Many Requests", b"500", b"204 "])
def test_the_usual_response_is_plain(status: bytes, lines: bytes) -> None:
    head = b"HTTP/1.1 " + status + b"\r\n" + lines + b"\r\n"
    plain = plain_response(head)
    assert plain is not None
    assert plain._replace(block=b"") == response_by_h11(head)
    # Neither are its beginnings, nor is it with more behind it.
    assert not any(plain_response(head[:cut]) for cut in range(len(head)))
    assert plain_response(head + b"\r\n") is None


@pytest.mark.parametrize(
    "lines",
    [
        b"content-length: 1\r\ncontent-length: 1\r\n",
        b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        b"transfer-encoding: gzip, chunked\r\n",
        b"content-length: 1, 1\r\n",
        b"content-length: -1\r\n",
        b"content-length: 999999999999999999999\r\n",
        b"x-a: 1\r\n folded\r\n",
        b"x-a : 1\r\n",
        b"x-a: 1 \r\n",
        b"x-a: \xe9\r\n",
        b"x-a\r\n",
        b"x-a: 1\n",
    ],
)
def test_odd_responses_are_left_to_h11(lines: bytes) -> None:
    assert plain_response(OK + lines + b"\r\n") is None


@pytest.mark.parametrize(
    "unit", [b"x-a: b\r\n", b" ", b"a", b"a: \r\n", b"\r\n", b": ", b"a ", b"x:" + b" " * 50 + b"a"]
)
def test_reading_is_linear(unit: bytes) -> None:
    assert growth(lambda size: plain_response(OK + b"a: " + unit * size), small=20_000) < 4


# --- requests ---

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
