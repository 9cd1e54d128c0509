"""Replies, cuts and scripts as plain data."""

from __future__ import annotations

import json

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.testing.cuts import cut_at, every_byte, split_at, two_pieces
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import Framing, json_reply, sse_event, sse_reply, status_reply, tokens
from penstock.testing.requests import RequestReader
from penstock.testing.script import End, Pause, Player, Repeat, Reset, Send, reply, unroll

__all__ = ["anyio_backend"]


def body_of(data: bytes, *, eof: bool = False) -> tuple[int, bytes]:
    """Read a response with h11, the oracle."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    if eof:
        client.receive_data(b"")
    head = client.next_event()
    assert isinstance(head, h11.Response)
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    return head.status_code, body


@pytest.mark.parametrize("chunked", [True, False, "close"])
def test_every_framing_is_valid_http(chunked: Framing) -> None:
    whole = sse_reply(["a", {"b": 1}, b": raw\n\n"], chunked=chunked)
    status, body = body_of(whole.data, eof=chunked == "close")
    assert status == 200
    assert body == b'data: a\n\ndata: {"b":1}\n\n: raw\n\ndata: [DONE]\n\n'
    assert isinstance(whole.steps[-1], End) == (chunked == "close")


def test_newlines_and_lines_of_an_event() -> None:
    assert sse_event("a\nb", "\r\n") == b"data: a\r\ndata: b\r\n\r\n"


def test_status_replies() -> None:
    assert body_of(status_reply(503, "no").data) == (503, b"no")
    assert body_of(status_reply(299).data) == (299, b"")
    assert json.loads(body_of(json_reply({"é": 1}, 201, {"x": "y"}).data)[1]) == {"é": 1}


def test_tokens() -> None:
    chunks = tokens("Hel", "lo", usage={"total_tokens": 3})
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"content": "Hel"},
        {"content": "lo"},
        {},
    ]
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == {"total_tokens": 3}
    assert len(tokens("a", finish=None, role_first=False)) == 1


@given(st.binary(max_size=20), st.binary(max_size=20), st.lists(st.integers(0, 45)))
def test_splitting_keeps_bytes_and_steps(a: bytes, b: bytes, positions: list[int]) -> None:
    source = reply(a, Pause(1), b, End())
    split = split_at(source, positions)
    assert split.data == a + b
    others = [step for step in split.steps if not isinstance(step, Send)]
    assert others == [Pause(1), End()]
    ends, at = set(), 0
    for step in split.steps:
        if isinstance(step, Send):
            at += len(step.data)
            ends.add(at)
    assert {p for p in positions if 0 < p < at} <= ends


@given(st.binary(max_size=20), st.integers(0, 45))
def test_cutting(data: bytes, n: int) -> None:
    source = reply(data, Pause(1), data)
    cut = cut_at(source, n, Reset())
    assert cut.data == (data + data)[:n]
    assert cut.steps[-1] == Reset()
    assert len(every_byte(data).steps) == max(1, len(data))
    assert all(piece.data == data for piece in two_pieces(data))


def test_repeats() -> None:
    assert list(unroll([Repeat(b"x", 2, every=3)])) == [Pause(3), Send(b"x"), Pause(3), Send(b"x")]
    endless = unroll([Repeat(b"x"), End()])
    assert [next(endless) for _ in range(3)] == [Send(b"x")] * 3


def test_the_last_reply_repeats() -> None:
    player = Player([reply(b"1"), reply(b"2")])
    (request,) = RequestReader().feed(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", connection=0, time=0)
    assert [player.reply_to(request).data for _ in range(4)] == [b"1", b"2", b"2", b"2"]


@given(st.lists(st.integers(1, 200)))
def test_requests_in_any_pieces(positions: list[int]) -> None:
    wire = (
        b"POST /a HTTP/1.1\r\nHost: x\r\nX-Y: 1\r\nX-Y: 2\r\nContent-Length: 2\r\n\r\n{}"
        b"POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    )
    reader = RequestReader()
    requests = []
    for step in split_at(wire, positions).steps:
        assert isinstance(step, Send)
        requests += reader.feed(step.data, connection=3, time=7)
    assert [(r.target, r.body) for r in requests] == [("/a", b"{}"), ("/b", b"abc")]
    assert requests[0].headers["x-y"] == "1, 2"
    assert requests[0].connection == 3


@pytest.mark.anyio
@given(positions=st.lists(st.integers(0, 300), max_size=5), max_read=st.integers(1, 50))
async def test_hypothesis_in_virtual_time(positions: list[int], max_read: int) -> None:
    whole = sse_reply(["a", Pause(100), "b"]).then(End())
    network = MemoryNetwork(split_at(whole, positions), max_read=max_read)
    stream = await network.connect_tcp("x", 1)
    await stream.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    data = b""
    while piece := await stream.read(1000):
        data += piece
    assert data == whole.data
    await stream.aclose()
