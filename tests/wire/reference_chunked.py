"""The chunked coding read by h11, and by `ChunkedBody` in the same terms."""

from __future__ import annotations

from typing import NamedTuple

import h11

from penstock._wire.chunked import ChunkedBody, FramingError


class Outcome(NamedTuple):
    """What became of a body."""

    state: str  # "complete", "waiting" or "refused"
    payload: bytes
    excess: bytes = b""


def read(*pieces: bytes) -> Outcome:
    """Read them with `ChunkedBody`."""
    body = ChunkedBody()
    payload = b""
    try:
        for piece in pieces:
            payload += body.feed(piece)
    except FramingError as error:
        assert not body.finished
        return Outcome("refused", payload + error.payload)
    assert body.eof() is body.finished
    return Outcome("complete" if body.finished else "waiting", payload, body.excess)


def read_with_h11(stream: bytes) -> Outcome:
    """Read it with h11, as the body of a response."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert isinstance(connection.next_event(), h11.Response)
    if stream:  # to h11, no bytes are the end
        connection.receive_data(stream)
    payload = b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return Outcome("refused", payload)
        if isinstance(event, h11.Data):
            payload += event.data
        elif isinstance(event, h11.EndOfMessage):
            return Outcome("complete", payload, connection.trailing_data[0])
        else:
            assert event is h11.NEED_DATA
            return Outcome("waiting", payload)
