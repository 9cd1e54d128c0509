from __future__ import annotations

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock._wire.head import ResponseHead, plain_response
from penstock.headers import Headers

from .linear import growth

OK = b"HTTP/1.1 200 OK\r\n"


Told = tuple[int, list[tuple[bytes, bytes]], dict[str, str], bytes, bytes]
"""Status, header lines, the fields that say how to read the body, version and reason."""

FIELDS = {
    "content-length", "transfer-encoding", "content-encoding", "content-type", "connection"
}  # fmt: skip


def told(head: ResponseHead) -> Told:
    fields = dict(head.fields)
    return head.status, head.headers.raw_lines(), fields, head.version, head.reason


def response_by_h11(head: bytes) -> Told | None:
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
    fields = {name: value for name, value in Headers(lines).items() if name in FIELDS}
    version = b"HTTP/" + bytes(event.http_version)
    return event.status_code, lines, fields, version, bytes(event.reason)


names = st.sampled_from(
    [b"X-A", b"x-b", b"Content-Length", b"content-length", b"Transfer-Encoding", b"Connection",
     b"connection", b"Content-Type", b"CONTENT-ENCODING", b"x-connection", b"connection-x",
     b"", b"a b", b"a\xff", b"X:"]
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
        assert told(plain) == response_by_h11(head)


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
    assert told(plain) == response_by_h11(head)
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
