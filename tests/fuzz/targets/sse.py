"""Event streams as the standard's text reads them, whatever the splits, and the size bound.

Two deliberate differences: an event with empty data is nothing, and one whose lines are over
the bound is an error, with the events before it given.
"""

from __future__ import annotations

import re
from itertools import takewhile

from penstock._wire.sse import EventStreamDecoder, EventTooLargeError, NamedEvent
from tests.wire.reference_sse import decode_events

from ..reader import Reader, ways
from ..target import Target

Events = list[tuple[str, str]]
BOUNDS = (1 << 20, 64, 16, 8)
_LINE_END = re.compile(rb"\r\n|\r")


def check(data: bytes) -> None:
    reader = Reader(data)
    bound = reader.pick(BOUNDS)
    places = reader.places()
    stream = reader.rest()
    events, too_large = expected(stream, bound)
    for pieces in ways(stream, places):
        found = read(pieces, bound)
        assert found == (events, too_large), (pieces, found, events, too_large)


def expected(stream: bytes, bound: int) -> tuple[Events, bool]:
    text = _LINE_END.sub(b"\n", stream.removeprefix(b"\xef\xbb\xbf"))
    blocks = text.split(b"\n\n")
    fitting = list(takewhile(lambda block: len(block.strip(b"\n")) <= bound, blocks))
    too_large = len(fitting) < len(blocks)
    readable = b"\n\n".join(fitting) + (b"\n\n" if too_large else b"")
    if not too_large:
        readable = stream
    elif stream.startswith(b"\xef\xbb\xbf"):
        readable = b"\xef\xbb\xbf" + readable
    return [(name, data) for name, data in decode_events(readable) if data], too_large


def read(pieces: list[bytes], bound: int) -> tuple[Events, bool]:
    decoder = EventStreamDecoder(bound)
    events: list[bytes | NamedEvent] = []
    too_large = False
    for piece in pieces:
        try:
            events += decoder.feed(piece)
        except EventTooLargeError as error:
            events += error.events
            too_large = True
            break
    named = [
        event if isinstance(event, NamedEvent) else NamedEvent("message", event) for event in events
    ]
    return [(name, data.decode("utf-8", "replace")) for name, data, _ in named], too_large


TARGET = Target(
    check,
    seeds=[
        b"\x00\x00" + stream
        for stream in (
            b"data: a\n\ndata: b\n\n",
            b"\xef\xbb\xbfdata:a\r\n\r\ndata:  b\r\revent: e\ndata: c\n\r\n",
            b": ping\n\nid: 1\nretry: 5\ndata: x\ndata\n\ndata\ndata\n\ndata:\n\n",
            b"data: \xe2\x80\xa8\xc2\x85\x0b\x0c\xff\n\nevent: message\ndata: y\n\nevent: z\n\n",
            b"event: x\nevent: \xff\ndata: [DONE]\n\ndata: unfinished",
        )
    ]
    + [b"\x03\x02\x00\x05\x00\x09data: 12345\n\ndata: 1\n\n:" + b"x" * 9],
    words=[
        *(b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b":", b": ", b"data", b"data:", b"data: "),
        *(b"data: x\n\n", b"\n\ndata: ", b"event", b"event: ", b"event: message\n", b"id: 1\n"),
        *(b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\xc2\x85", b"\x0b", b"\x0c", b"\x1c", b"\x00"),
        *(b"\n\r", b"\r\n\r\n", b"\ndata: y\n", b": ping\n\n", b"retry: 9\n"),
    ],
)
