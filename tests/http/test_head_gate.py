from __future__ import annotations

import ssl
import sys
from typing import Any

import anyio
import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock._http.head_gate import HeadGate
from penstock._http.network import ClosedLocally, ConnectionFailed
from tests.support.httpcore_compat import httpcore
from tests.wire.pieces import in_pieces

from .deadlines import NoDeadline, OutOfTime, Within
from .pipe import Pipe, split
from .sockets import run_virtual

pytestmark = pytest.mark.anyio

Head = tuple[int, list[tuple[bytes, bytes]]]

HEAD = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nX-B: 2\r\n\r\n"
PARSED: Head = (200, [(b"X-A", b"1"), (b"X-B", b"2")])


class Counting(NoDeadline):
    def __init__(self) -> None:
        super().__init__()
        self.bytes_arrived = 0

    def byte_arrived(self) -> None:
        self.bytes_arrived += 1


def request(body: bytes = b"") -> Any:
    url = httpcore.URL(scheme="http", host="example.com", target="/")
    headers = [(b"Host", b"example.com"), (b"Content-Length", b"%d" % len(body))]
    return httpcore.Request(b"POST", url, headers=headers, content=body)


async def exchange(gate: HeadGate, body: bytes = b"") -> Head:
    """What httpcore makes of what the gate gives it."""
    sent = request(body)
    response = await gate.answer(sent)
    return response.status, list(response.headers)


async def outcome(pieces: list[bytes]) -> tuple[Head | None, bytes]:
    """The head (None: refused, or never whole) and what came after it."""
    pipe = Pipe(*pieces, b"")
    gate = HeadGate(pipe, NoDeadline())
    try:
        head = await exchange(gate)
    except httpcore.RemoteProtocolError:
        return None, b""
    rest = gate.rest
    while data := await pipe.receive(NoDeadline()):
        rest += data
    return head, rest


def by_h11(data: bytes) -> tuple[Head | None, bytes]:
    """The same without a gate."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=100 * 1024)
    connection.send(h11.Request(method="POST", target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.InformationalResponse) and event.status_code != 101:
                continue
            if isinstance(event, (h11.Response, h11.InformationalResponse)):
                head = (event.status_code, list(event.headers.raw_items()))
                return head, connection.trailing_data[0]
            connection.receive_data(b"")
    except h11.RemoteProtocolError:
        return None, b""


def agree(pieces: list[bytes]) -> None:
    async def main() -> None:
        assert await outcome(pieces) == by_h11(b"".join(pieces))

    run_virtual("asyncio", main)


# --- the end of the head ---


@pytest.mark.parametrize("newline", [b"\r\n", b"\n"])
@pytest.mark.parametrize("rest", [b"", b"body", b"\r\n\r\n", b"\n\n\nHTTP/1.1 500 No\r\n\r\n"])
async def test_a_head_in_any_two_pieces_and_byte_by_byte(newline: bytes, rest: bytes) -> None:
    data = HEAD.replace(b"\r\n", newline) + rest
    for pieces in in_pieces(data):
        assert await outcome([piece for piece in pieces if piece]) == (PARSED, rest)


async def test_informational_heads_before_the_head() -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    for pieces in in_pieces(early + HEAD + b"rest"):
        assert await outcome([piece for piece in pieces if piece]) == (PARSED, b"rest")


values = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
fields = st.lists(st.tuples(st.sampled_from(["X-A", "x-b", "Server"]), values), max_size=5)
newlines = st.sampled_from([b"\r\n", b"\n"])


@st.composite
def heads(draw: st.DrawFn, statuses: st.SearchStrategy[int]) -> tuple[bytes, Head]:
    newline = draw(newlines)
    status = draw(statuses)
    lines = draw(fields)
    head = b"HTTP/1.1 %d Reason" % status + newline
    for name, value in lines:
        head += f"{name}: {value}".encode() + newline
    return head + newline, (status, [(n.encode(), v.encode()) for n, v in lines])


places = st.lists(st.integers(1, 600), max_size=20)


@given(
    st.lists(heads(st.sampled_from([100, 102, 103])), max_size=3),
    heads(st.integers(200, 599)),
    st.binary(max_size=60) | st.sampled_from([b"\r\n\r\nx", b"\n\nx", b"\n"]),
    places,
)
def test_head_and_rest_are_told_apart_whatever_the_splits(
    early: list[tuple[bytes, Head]], head: tuple[bytes, Head], rest: bytes, places: list[int]
) -> None:
    data = b"".join(raw for raw, _ in early) + head[0] + rest

    async def main() -> None:
        assert await outcome(split(data, places)) == (head[1], rest)

    run_virtual("asyncio", main)


junk = st.lists(
    st.sampled_from(
        [b"HTTP/1.1 200 OK", b"HTTP/1.0 200", b"HTTP/2 200", b"\r\n", b"\n", b"\r", b" ", b"\t",
         b"A: b", b":", b"\x00", b"HTTP/1.1 100", b"HTTP/1.1 101 Up", b"\n\r", b"\n\r\n", b"\xff"]
    ),
    max_size=12,
).map(b"".join)  # fmt: skip


@given(junk | st.binary(max_size=80), places)
@example(b"\r\n" + HEAD, [])
@example(b"\n\n" + HEAD, [1])
@example(b"junk\r\n" + HEAD, [3])
@example(b"HTTP/1.1 101 Switching\r\n\r\nrest", [])
def test_junk_means_what_it_means_to_h11(data: bytes, places: list[int]) -> None:
    agree(split(data, places))


# --- what it knows ---


async def test_nothing_has_come() -> None:
    gate = HeadGate(Pipe(b""), NoDeadline())
    with pytest.raises(httpcore.RemoteProtocolError):
        await exchange(gate)
    assert gate.ended
    assert not gate.touched


async def test_an_end_in_the_middle_of_the_head() -> None:
    for cut in range(1, len(HEAD) - 1):
        gate = HeadGate(Pipe(HEAD[:cut], b""), NoDeadline())
        with pytest.raises(httpcore.RemoteProtocolError):
            await exchange(gate)
        assert gate.ended
        assert gate.touched


async def test_a_whole_head_is_no_end() -> None:
    pipe = Pipe(HEAD, b"")
    gate = HeadGate(pipe, NoDeadline())
    await exchange(gate)
    assert gate.touched
    assert not gate.ended
    assert not pipe.closed


async def test_every_read_ends_the_silence() -> None:
    deadline = Counting()
    await exchange(HeadGate(Pipe(*split(HEAD, [5, 9, 20])), deadline))
    assert deadline.bytes_arrived == 4


# --- writing ---


async def test_head_and_body_of_a_request_are_one_segment() -> None:
    pipe = Pipe(HEAD)
    segments: list[bytes] = []
    pipe.on_send = segments.append
    await exchange(HeadGate(pipe, NoDeadline()), b"the body")
    assert len(segments) == 1
    assert segments[0].startswith(b"POST / HTTP/1.1\r\n")
    assert segments[0].endswith(b"\r\n\r\nthe body")


@pytest.mark.parametrize("item", [b"HTTP/1.1 200 OK\r\n\r\n", b""])
async def test_what_came_before_the_request_is_not_its_answer(item: bytes) -> None:
    pipe = Pipe(item)
    gate = HeadGate(pipe, NoDeadline(), reused=True)
    with pytest.raises(ConnectionFailed, match="no longer usable"):
        await exchange(gate)
    assert not pipe.sent
    assert not gate.touched


async def test_a_clean_idle_connection_is_used() -> None:
    pipe = Pipe()
    pipe.on_send = lambda _: pipe.feed(HEAD)
    assert await exchange(HeadGate(pipe, NoDeadline(), reused=True)) == PARSED


async def test_an_early_answer_counts_more_than_a_broken_pipe() -> None:
    pipe = Pipe(HEAD + b"too large", b"")
    pipe.send_error = ConnectionFailed("broken pipe")
    gate = HeadGate(pipe, NoDeadline())
    assert await exchange(gate) == PARSED
    assert gate.rest == b"too large"


async def test_a_broken_pipe_counts_more_than_what_reading_says() -> None:
    pipe = Pipe(ConnectionFailed("reading"))
    pipe.send_error = ConnectionFailed("writing")
    with pytest.raises(ConnectionFailed, match="writing"):
        await exchange(HeadGate(pipe, NoDeadline()))


async def test_a_failed_read() -> None:
    pipe = Pipe(ConnectionFailed("reading"))
    with pytest.raises(ConnectionFailed, match="reading"):
        await exchange(HeadGate(pipe, NoDeadline()))


async def test_closed_from_elsewhere() -> None:
    pipe = Pipe()
    pipe.close()
    with pytest.raises(ClosedLocally):
        await exchange(HeadGate(pipe, NoDeadline()))


@pytest.mark.parametrize("where", ["writing", "reading"])
async def test_a_deadline_goes_through_httpcore_as_it_is(where: str) -> None:
    pipe = Pipe()
    pipe.stuck = where == "writing"
    with pytest.raises(OutOfTime):
        await exchange(HeadGate(pipe, Within(0.005)))


# --- the rest of httpcore's interface ---


async def test_as_a_network_stream_of_httpcore() -> None:
    pipe = Pipe()
    gate = HeadGate(pipe, NoDeadline())
    assert gate.get_extra_info("ssl_object") is None
    with pytest.raises(RuntimeError):
        await gate.start_tls(ssl.create_default_context())
    assert not pipe.closed
    await gate.aclose()


async def test_a_request_is_not_kept_once_it_is_sent() -> None:
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
    pipe = Pipe()
    gate = HeadGate(pipe, NoDeadline())
    before = sys.getrefcount(request)
    gate.take(request)
    assert (gate.sent, gate.began) == (False, False)
    with anyio.move_on_after(1):
        await gate.answer_plainly()
    assert (gate.sent, gate.began) == (True, True)
    assert sys.getrefcount(request) == before
    # And the wait for the head may go on.
    pipe.feed(b"HTTP/1.1 200 OK\r\n\r\n")
    head = await gate.answer_plainly()
    assert head is not None
    assert bytes(pipe.sent) == request
