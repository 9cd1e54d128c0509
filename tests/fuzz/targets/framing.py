"""How a response's body is delimited, decided as h11 decides it, and read at any splits.

Deliberate differences: fields of a response that has no body are not checked, nor is a
Content-Length beside a transfer coding, and the connection is not kept alive after that; nor
are trailers, see the target of the chunked coding.
"""

from __future__ import annotations

from typing import NamedTuple

import h11

from penstock._wire.framing import ChunkedBody, CloseBody, FramingError, body_framing, keeps_alive
from penstock.headers import Headers

from ..reader import Reader, ways
from ..target import Target
from .chunked import FRAMING_FIELD

NAMES = (b"Content-Length", b"Transfer-Encoding", b"Connection", b"content-length", b"X")
STATUSES = (200, 200, 200, 204, 304, 404, 500, 299)
METHODS = (b"POST", b"GET", b"HEAD", b"OPTIONS")
VALUES = (
    *(b"5", b"0", b"05", b"5,5", b"5 , 5", b"5,6", b"", b",", b"+5", b"-5", b"5_0", b"\xb2"),
    *(b"9" * 20, b"9" * 21, b"chunked", b"Chunked", b"gzip, chunked", b"chunked,", b"close"),
    *(b"identity", b"keep-alive", b"x , CLOSE\t", b"x-close", b"\xa05", b"5 5"),
)


class Outcome(NamedTuple):
    payload: bytes
    complete: bool
    excess: bytes


def check(data: bytes) -> None:
    reader = Reader(data)
    status = reader.pick(STATUSES)
    method = reader.pick(METHODS)
    lines = [(reader.pick(NAMES), value(reader)) for _ in range(reader.below(5))]
    places = reader.places()
    stream = FRAMING_FIELD.sub(b"x", reader.rest())
    headers = Headers(lines)
    theirs = read_with_h11(status, method, lines, stream)
    try:
        body_framing(method=method, status=status, headers=headers)
    except FramingError:
        assert theirs is None
        return
    ours: list[Outcome | None] = []
    for pieces in ways(stream, places):
        body = body_framing(method=method, status=status, headers=headers)
        try:
            payload = b"".join([body.feed(piece) for piece in pieces])
        except FramingError:
            assert isinstance(body, ChunkedBody)
            ours.append(None)
            continue
        excess = body.excess
        assert body.eof() is body.finished
        ours.append(Outcome(payload, body.finished, excess))
        alive = keeps_alive(b"HTTP/1.1", headers, body)
        assert not (alive and isinstance(body, CloseBody))
        if theirs is not None:
            both = "transfer-encoding" in headers and "content-length" in headers
            assert alive == (theirs.keeps_alive and not both), lines
    assert ours == ours[:1] * len(ours)
    if theirs is None:
        # h11 also checks what decides nothing.
        coded = [v.lower() for n, v in lines if n == NAMES[1]] == [b"chunked"]
        assert coded or method == b"HEAD" or status in (204, 304), lines
    elif ours[0] is None:  # when exactly is for the target of the chunked coding
        assert theirs.outcome is None or not theirs.outcome.complete, lines
    else:
        assert ours[0] == theirs.outcome, lines


def value(reader: Reader) -> bytes:
    choice = reader.byte()
    raw = VALUES[choice] if choice < len(VALUES) else reader.take(choice % 8)
    # What no head may have in a field never comes here.
    return bytes(byte for byte in raw if byte not in b"\x00\n\x0b\x0c\r").strip(b" \t")


class Theirs(NamedTuple):
    outcome: Outcome | None  # None: they refuse the body
    keeps_alive: bool


def read_with_h11(
    status: int, method: bytes, lines: list[tuple[bytes, bytes]], stream: bytes
) -> Theirs | None:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    connection.send(h11.EndOfMessage())
    head = b"".join(b"%b: %b\r\n" % line for line in lines)
    connection.receive_data(b"HTTP/1.1 %d x\r\n%b\r\n" % (status, head))
    try:
        response = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    assert isinstance(response, h11.Response)
    keeps_alive = connection.our_state is not h11.MUST_CLOSE
    if stream:
        connection.receive_data(stream)
    payload = b""
    try:
        while isinstance(event := connection.next_event(), h11.Data):
            payload += event.data
        if event is h11.NEED_DATA:
            ends_by_close = connection.their_state is h11.SEND_BODY and not any(
                name.lower() in (b"content-length", b"transfer-encoding") for name, _ in lines
            )
            return Theirs(Outcome(payload, ends_by_close, b""), keeps_alive and not ends_by_close)
    except h11.RemoteProtocolError:
        return Theirs(None, keeps_alive)
    assert isinstance(event, h11.EndOfMessage)
    return Theirs(Outcome(payload, True, connection.trailing_data[0]), keeps_alive)


TARGET = Target(
    check,
    seeds=[
        b"\x00\x00\x01\x00\x00\x00hello!",
        b"\x00\x00\x01\x01\x0e\x005\r\nhello\r\n0\r\n\r\nrest",
        b"\x00\x00\x02\x00\x00\x01\x0e\x001\r\nx\r\n",
        b"\x03\x00\x02\x02\x12\x00\x03\x00x",
        b"\x00\x02\x00\x00x",
        b"\x00\x00\x00\x00until the end",
    ],
    words=[b"0\r\n\r\n", b"5\r\nhello\r\n", b"close", b"chunked", b",", b"5", b"\xb2", b"\t"],
    max_length=256,
)
