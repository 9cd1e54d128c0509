"""A whole response from its first byte, read by an exchange at any splits.

- Status, headers, body, the kind of fault and the fate of the connection do not depend on the
  splits, and no fault is of another class than the exchange names.
- h11 finds the same head, and the same body where it has no content coding.
- A connection goes back to the idle ones only after a message that h11 finds complete, with
  nothing after it.
"""

from __future__ import annotations

import asyncio
import re
from typing import NamedTuple

import h11

from penstock._http.connections import Connections
from penstock._http.exchange import Exchange, MalformedResponse
from penstock._http.network import ConnectionFailed, Deadline, Upload
from penstock._http.outgoing import Outgoing
from penstock._wire.encoding import EncodingError
from penstock._wire.framing import FramingError
from penstock._wire.request_head import RequestHead
from tests.http.deadlines import NoDeadline
from tests.http.pipe import Pipe, PipeDialer

from ..reader import Reader, ways
from ..target import Target
from .chunked import FRAMING_FIELD

HEAD_END = re.compile(rb"\n\r?\n")
Fields = tuple[tuple[str, str], ...]


class Outcome(NamedTuple):
    status: int | None
    headers: Fields
    payload: bytes
    fault: str
    idle: bool


class Theirs(NamedTuple):
    status: int | None
    headers: Fields = ()
    payload: bytes = b""
    complete: bool = False
    idle: bool = False


class Peer(Pipe):
    """A server that has sent everything already, so nothing has to wait."""

    async def receive(self, deadline: Deadline) -> bytes:
        return self._take()

    async def upload(self, upload: Upload, deadline: Deadline) -> bool:
        self.sent += upload.peek()
        upload.advance(len(upload))
        return True

    async def send(self, data: bytes, deadline: Deadline) -> None:
        self.sent += data

    async def aclose(self, grace: float | None) -> None:
        self.close()


def check(data: bytes) -> None:
    reader = Reader(data)
    method = ("POST", "HEAD")[reader.below(8) == 1]
    places = reader.places()
    stream = reader.rest()

    async def each_way() -> list[Outcome]:
        return [await read(method, pieces) for pieces in ways(stream, places, 64)]

    outcomes = asyncio.run(each_way())
    ours = outcomes[0]
    assert outcomes == [ours] * len(outcomes), outcomes
    if ours.status == 101:  # to us the end of HTTP, as nobody asked to switch protocols
        assert not ours.idle
        return
    theirs = read_with_h11(method, stream)
    assert (ours.status, ours.headers) == (theirs.status, theirs.headers)
    # h11 reads trailers, see the target of the chunked coding.
    head = HEAD_END.search(stream)
    if head is not None and FRAMING_FIELD.search(stream, head.end()):
        return
    assert theirs.idle or not ours.idle, (ours, theirs)
    if not any(name == "content-encoding" for name, _ in ours.headers):
        whole = ours.status is not None and not ours.fault
        assert whole is theirs.complete, (ours, theirs)
        assert ours.payload == theirs.payload or not whole


async def read(method: str, pieces: list[bytes]) -> Outcome:
    pipe = Peer(*filter(None, pieces), b"")
    exchange = Exchange(Connections(PipeDialer(pipe)), pipe, NoDeadline(), reused=False)
    fault = ""
    try:
        await exchange.send(Outgoing(RequestHead(method, "/v1", [(b"Host", b"example.com")]), b""))
    except (MalformedResponse, ConnectionFailed):
        await exchange.aclose()
        assert pipe.closed
        return Outcome(None, (), b"", "no head", False)
    body = b""
    try:
        while piece := await exchange.read():
            body += piece
    except (ConnectionFailed, FramingError, EncodingError) as error:
        fault = type(error).__name__
    else:
        assert await exchange.read() == b""
        if list(pipe.incoming) == [b""]:
            pipe.incoming.clear()  # so far the server keeps the connection
    await exchange.aclose()
    headers = tuple(
        (name, line) for name in exchange.headers for line in exchange.headers.get_list(name)
    )
    return Outcome(exchange.status, headers, body, fault, not pipe.closed)


def read_with_h11(method: str, stream: bytes) -> Theirs:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/v1", headers=[("Host", "x")]))
    connection.send(h11.EndOfMessage())
    if stream:
        connection.receive_data(stream)
    try:
        while isinstance(response := connection.next_event(), h11.InformationalResponse):
            pass
    except h11.RemoteProtocolError:
        return Theirs(None)
    if not isinstance(response, h11.Response):
        return Theirs(None)
    lines = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in response.headers]
    headers = tuple((name, v) for name in dict(lines) for n, v in lines if n == name)
    keeps = connection.our_state is not h11.MUST_CLOSE
    payload = b""
    ended = False
    try:
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Data):
                payload += event.data
            else:
                assert not ended
                connection.receive_data(b"")
                ended = True
    except h11.RemoteProtocolError:
        return Theirs(response.status_code, headers)
    idle = keeps and not ended and connection.trailing_data == (b"", False)
    return Theirs(response.status_code, headers, payload, True, idle)


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n"

TARGET = Target(
    check,
    seeds=[
        b"\x00\x00" + stream
        for stream in (
            OK + b"Content-Length: 5\r\nX: y\r\n\r\nhello",
            OK + b"content-length:5\r\n\r\nhello!",
            CHUNKED + b"\r\n5\r\nhello\r\n0\r\n\r\n",
            CHUNKED + b"Connection: close\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n",
            CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nA: b\r\n\r\n"
            + OK
            + b"\r\nuntil the end",
            b"HTTP/1.1 204 No\n\nrest",
            b"HTTP/1.0 503 \r\nRetry-After: 1\r\nA: b\r\n c\r\n\r\n{}",
            b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\nx",
            OK + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08",
            b"HTTP/2 200\r\n\r\n",
        )
    ]
    + [b"\x01\x02\x00\x05\x00\x20" + OK + b"Content-Length: 5\r\n\r\n"],
    words=[
        *(OK, b"\r\n\r\n", b"\n\n", b"\n\r\n", b"\r\n", b"HTTP/1.0 ", b"HTTP/1.1 100 \r\n\r\n"),
        *(b"Content-Length: ", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"204"),
        *(b"0\r\n\r\n", b"5\r\nhello\r\n", b"Content-Encoding: deflate\r\n", b": ", b"304", b"199"),
    ],
    max_length=512,
)
