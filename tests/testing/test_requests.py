"""Where requests and responses end, however they are cut; h11 is the judge."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.testing.replies import Framing, json_reply, sse_reply, status_reply, tokens
from penstock.testing.requests import NotHTTP, RequestReader, ResponseEnd
from penstock.testing.script import RecordedRequest

BODIES = st.binary(max_size=40)


def request_of(number: int, body: bytes, chunked: bool) -> bytes:
    head = f"POST /{number} HTTP/1.1\r\nHost: x\r\n".encode()
    if not chunked:
        return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


@given(
    requests=st.lists(st.tuples(BODIES, st.booleans()), min_size=1, max_size=4),
    size=st.integers(1, 50),
)
def test_each_is_given_out_with_its_last_byte(
    requests: list[tuple[bytes, bool]], size: int
) -> None:
    wires = [request_of(n, body, chunked) for n, (body, chunked) in enumerate(requests)]
    wire = b"".join(wires)
    reader = RequestReader()
    found: list[RecordedRequest] = []
    for start in range(0, len(wire), size):
        found += reader.feed(wire[start : start + size], connection=5, time=float(start))
        end = min(start + size, len(wire))
        whole = sum(len(b"".join(wires[: n + 1])) <= end for n in range(len(wires)))
        assert len(found) == whole
    assert [request.target for request in found] == [f"/{n}" for n in range(len(requests))]
    assert [request.body for request in found] == [body for body, _ in requests]
    assert {request.connection for request in found} == {5}


def test_headers_are_as_they_were_sent_and_easy_to_look_up() -> None:
    wire = b"GET / HTTP/1.1\r\nHost: x\r\nX-One: 1\r\nx-one: 2\r\nX-Word: caf\xe9\r\n\r\n"
    (request,) = RequestReader().feed(wire, connection=0, time=1.5)
    assert request.headers == {"host": "x", "x-one": "1, 2", "x-word": "caf\xe9"}
    assert [name for name, _ in request.raw_headers] == [b"Host", b"X-One", b"x-one", b"X-Word"]
    assert (request.method, request.body, request.time) == ("GET", b"", 1.5)


def test_no_data_is_no_end() -> None:
    # httpcore writes empty data as well.
    reader = RequestReader()
    head, rest = b"GET / HT", b"TP/1.1\r\nHost: x\r\n\r\n"
    for data in (b"", head, b""):
        assert reader.feed(data, connection=0, time=0.0) == []
    assert len(reader.feed(rest, connection=0, time=0.0)) == 1


@pytest.mark.parametrize(
    "junk",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",  # a handshake of TLS
        b"HELLO\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # without a host
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: one\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_request(junk: bytes) -> None:
    with pytest.raises(NotHTTP):
        RequestReader().feed(junk, connection=0, time=0.0)


# --- responses ---


@pytest.mark.parametrize("chunked", [True, False, "close"])
def test_a_response_is_whole_with_its_last_byte(chunked: Framing) -> None:
    for reply in (sse_reply(tokens("a"), chunked=chunked), json_reply({}, chunked=chunked)):
        data = reply.data
        for n in range(len(data)):
            assert not ResponseEnd("POST").feed(data[:n])
        # One that ends with its connection never is by itself.
        assert ResponseEnd("POST").feed(data) == (chunked != "close")
        assert ResponseEnd("POST").feed(data + b"HTTP") == (chunked != "close")


def test_what_the_method_and_the_status_say_of_the_end() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
    assert ResponseEnd("HEAD").feed(head)
    assert not ResponseEnd("GET").feed(head)
    assert ResponseEnd("GET").feed(b"HTTP/1.1 204 No Content\r\n\r\n")
    informed = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert not ResponseEnd("POST").feed(informed)
    assert ResponseEnd("POST").feed(informed + status_reply(429, b"no").data)


@pytest.mark.parametrize(
    "junk", [b"", b"no", b"HTTP/9\r\n\r\n", b"\x15\x03\x01\x00\x02\x02F\r\n\r\n"]
)
def test_what_is_no_response_is_never_whole(junk: bytes) -> None:
    assert not ResponseEnd("POST").feed(junk)


@pytest.mark.parametrize("early", [0, 3, 5, 99])
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_requests_before_their_end(early: int, size: int) -> None:
    one = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde"
    other = b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n"
    data = one + other
    reader = RequestReader(early)
    found = []
    for place in range(0, len(data), size):
        for request in reader.feed(data[place : place + size], connection=1, time=2):
            found.append(request)
            if request.target == "/a" and place + size < len(one):
                assert reader.skipping
                assert len(request.body) >= min(early, 5)
    assert [request.target for request in found] == ["/a", "/b"]
    assert b"abcde".startswith(found[0].body)
    assert not reader.skipping
