from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._wire.framing import (
    Body,
    ChunkedBody,
    CloseBody,
    FramingError,
    LengthBody,
    body_framing,
    keeps_alive,
)
from penstock.headers import Headers

CHUNKED = ("Transfer-Encoding", "chunked")


def framing(*lines: tuple[str, str], method: bytes | str = b"POST", status: int = 200) -> Body:
    return body_framing(method=method, status=status, headers=Headers(lines))


def length_of(body: Body) -> int:
    assert isinstance(body, LengthBody)
    return len(body.feed(b"x" * 1000))


def finished(body: Body) -> bool:
    return body.finished


def test_a_body_of_known_length() -> None:
    body = LengthBody(5)
    assert body.feed(b"he") == b"he"
    assert body.feed(b"") == b""
    assert not finished(body)
    assert not body.eof()
    assert body.feed(b"llo!") == b"llo"
    assert finished(body)
    assert body.eof()
    assert body.excess == b"!"
    assert body.feed(b"?") == b""
    assert body.excess == b"!?"


def test_a_body_of_known_length_that_ends_with_a_read() -> None:
    body = LengthBody(2)
    assert body.feed(b"he") == b"he"
    assert body.finished
    assert body.excess == b""


def test_an_empty_body_is_finished_from_the_start() -> None:
    body = LengthBody(0)
    assert body.finished
    assert body.eof()
    assert body.feed(b"x") == b""
    assert body.excess == b"x"


def test_a_body_until_the_peer_closes() -> None:
    body = CloseBody()
    assert body.feed(b"hello") == b"hello"
    assert not finished(body)
    assert body.eof()
    assert finished(body)
    assert body.excess == b""


@pytest.mark.parametrize("method", ["HEAD", b"HEAD"])
def test_no_body_after_head(method: bytes | str) -> None:
    assert length_of(framing(CHUNKED, ("Content-Length", "5"), method=method)) == 0


@pytest.mark.parametrize("status", [100, 103, 199, 204, 304])
def test_no_body_by_status(status: int) -> None:
    assert length_of(framing(CHUNKED, ("Content-Length", "5"), status=status)) == 0


@pytest.mark.parametrize("coding", ["chunked", "Chunked", " chunked\t"])
def test_chunked_wins_over_a_length(coding: str) -> None:
    body = framing(("Content-Length", "5, 6"), ("transfer-encoding", coding))
    assert isinstance(body, ChunkedBody)


@pytest.mark.parametrize(
    "codings",
    [
        ["gzip"],
        ["gzip, chunked"],
        ["chunked", "chunked"],
        [""],
        ["xchunked"],
        ["identity"],
        ["chunked\x0b"],
    ],
)
def test_no_other_transfer_coding(codings: list[str]) -> None:
    with pytest.raises(FramingError, match="transfer coding"):
        framing(*(("Transfer-Encoding", coding) for coding in codings))


@pytest.mark.parametrize(
    "lengths", [["5"], ["5", "5"], ["5, 5"], [" 5\t"], ["5 ,5", "5"], ["5".zfill(20)]]
)
def test_one_length_however_often(lengths: list[str]) -> None:
    assert length_of(framing(*(("Content-Length", length) for length in lengths))) == 5


@pytest.mark.parametrize(
    "lengths",
    [
        *(
            ["5", "6"],
            ["5, 6"],
            ["5", "05"],
            ["5", ""],
            [""],
            [","],
            ["+5"],
            ["-5"],
            ["5.0"],
            ["0x5"],
        ),
        *(["5_0"], ["\xb2"], ["\xa05"], ["٥"], ["five"], ["5 5"], ["1" * 21]),  # noqa: RUF001
    ],
)
def test_no_doubtful_length(lengths: list[str]) -> None:
    with pytest.raises(FramingError, match="Content-Length"):
        framing(*(("Content-Length", length) for length in lengths))


def test_neither_length_nor_coding() -> None:
    assert isinstance(framing(("Content-Type", "text/event-stream")), CloseBody)


HEADERS = st.lists(
    st.one_of(
        st.tuples(
            st.just(b"Content-Length"),
            st.sampled_from([b"5", b"6", b"5,5", b"5 , 5", b"", b"05", b"+5", b"\xb2", b"1" * 21]),
        ),
        st.tuples(
            st.just(b"Transfer-Encoding"),
            st.sampled_from([b"chunked", b"CHUNKED", b"gzip", b"gzip, chunked"]),
        ),
    ),
    max_size=3,
)


@given(HEADERS, st.sampled_from([200, 204, 304, 404]), st.sampled_from([b"GET", b"HEAD"]))
def test_decides_as_h11_does(lines: list[tuple[bytes, bytes]], status: int, method: bytes) -> None:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    connection.send(h11.EndOfMessage())
    head = b"".join(b"%s: %s\r\n" % line for line in lines)
    connection.receive_data(b"HTTP/1.1 %d x\r\n%s\r\n" % (status, head))
    try:
        assert isinstance(connection.next_event(), h11.Response)
    except h11.RemoteProtocolError:
        # h11 checks the fields of every response, we check what decides: not the fields of
        # one without a body, and not Content-Length beside a transfer coding.
        decided = [v.lower() for n, v in lines if n == b"Transfer-Encoding"] == [b"chunked"]
        if status == 200 and method == b"GET" and not decided:
            with pytest.raises(FramingError):
                body_framing(method=method, status=status, headers=Headers(lines))
        return
    connection.receive_data(b"5\r\nhello\r\n0\r\n\r\n")
    payload = b""
    while isinstance(event := connection.next_event(), h11.Data):
        payload += event.data
    body = body_framing(method=method, status=status, headers=Headers(lines))
    assert body.feed(b"5\r\nhello\r\n0\r\n\r\n") == payload
    assert body.finished is isinstance(event, h11.EndOfMessage)
    assert body.excess == connection.trailing_data[0]


def test_a_connection_is_kept_alive() -> None:
    assert keeps_alive(b"HTTP/1.1", Headers(), LengthBody(0))
    assert keeps_alive(b"1.1", Headers([CHUNKED]), ChunkedBody())
    assert keeps_alive(b"HTTP/1.1", Headers([("Connection", "keep-alive, x-close")]), ChunkedBody())
    assert keeps_alive(b"HTTP/1.1", Headers([("Content-Length", "5")]), LengthBody(5))


@pytest.mark.parametrize("connection", [["close"], ["Close"], ["x , CLOSE\t"], ["x", "close"]])
def test_a_connection_is_not_kept_alive_after_close(connection: list[str]) -> None:
    lines = [("Connection", options) for options in connection]
    assert not keeps_alive(b"HTTP/1.1", Headers(lines), LengthBody(0))


@pytest.mark.parametrize("connection", ["keep-alive,close", "close,x", "x,\tClose ,y"])
def test_options_are_told_apart_by_commas(connection: str) -> None:
    assert not keeps_alive(b"HTTP/1.1", Headers([("Connection", connection)]), LengthBody(0))


def test_a_connection_is_not_kept_alive_in_doubt() -> None:
    both = Headers([CHUNKED, ("Content-Length", "5")])
    assert not keeps_alive(b"HTTP/1.1", both, ChunkedBody())
    assert not keeps_alive(b"HTTP/1.1", Headers(), CloseBody())
    assert not keeps_alive(b"HTTP/1.0", Headers(), LengthBody(0))
    assert not keeps_alive(b"HTTP/1.0", Headers([("Connection", "keep-alive")]), LengthBody(0))
