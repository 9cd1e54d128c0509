"""The chunked coding as h11 reads it, whatever the splits.

Deliberate differences, which are all that is allowed:

- Trailers are dropped unread (RFC 9110, 6.5.1: they must not be about framing), while h11
  refuses those that would frame a message wrongly.
- A malformed trailer line is refused as soon as it is there; h11 waits for the section's end.
- h11 bounds the bytes of an unfinished line or trailer section, we those of each line and of
  all trailers. Both bounds are beyond the size of an input here, but for inputs that make ours
  small: then we may refuse what h11 takes, at the same place whatever the splits.
"""

from __future__ import annotations

import re
from contextlib import nullcontext
from typing import Any
from unittest import mock

from penstock._wire import chunked
from tests.wire.reference_chunked import read, read_with_h11

from ..reader import Reader, ways
from ..target import Target

FRAMING_FIELD = re.compile(rb"(?i)(content-length|transfer-encoding)(?=:)")
SMALL: dict[str, Any] = {"MAX_LINE": 24, "MAX_TRAILERS": 48}


def check(data: bytes) -> None:
    reader = Reader(data)
    places = reader.places()
    stream = reader.rest()
    chunked.known.sizes.clear()  # the first way reads every size, the others look it up
    small = data[:1] >= b"\x80"
    with mock.patch.multiple(chunked, **SMALL) if small else nullcontext():
        outcomes = [read(*pieces) for pieces in ways(stream, places)]
        assert outcomes == outcomes[:1] * len(outcomes), outcomes
        stream = FRAMING_FIELD.sub(lambda name: b"x" * len(name[0]), stream)
        ours = read(stream)
    assert ours.state == outcomes[0].state
    theirs = read_with_h11(stream)
    if small and ours.state == "refused":
        assert theirs.payload.startswith(ours.payload)
    elif ours.state == "refused" and theirs.state == "waiting":
        assert read_with_h11(stream + b"\r\n\r\n").state == "refused", ours
        assert ours.payload == theirs.payload
    else:
        assert ours == theirs


TARGET = Target(
    check,
    seeds=[
        b"\x00" + stream
        for stream in (
            b"5\r\nhello\r\n0\r\n\r\n",
            b"005;ext=1\r\nhello\r\nA \t\r\n0123456789\r\n00\r\n\r\nHTTP/1.1 200 OK",
            b"1\r\nx\r\n0\r\nA: b\r\n folded\r\nc:\n\nrest",
            b"5\r\nhello\n\r\n0\r\n\r\n",
            b"0x5\r\nhello\r\n0\r\n\r\n",
            b"1" * 21 + b"\r\n",
            b"0\r\nTransfer-Encoding: gzip\r\nContent-Length: x\r\n\r\n",
            b"5 ;a\r\nhello\r\n0\r\n a: b\r\n\r\n",
        )
    ]
    + [b"\x80" + b"5" * 30, b"\x80" + b"0\r\n" + b"a: b\r\n" * 9],
    words=[
        *(b"\r\n", b"\r", b"\n", b"0\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n", b";"),
        *(b"1\r\nx\r\n", b"0x", b"+1", b"1_0", b"-1", b"ffffffffffffffffffff", b"A: b\r\n"),
        *(b" \t", b"\t", b"a:", b"\x00", b"\x0b", b"\x0c", b"\xb2", b";a=b", b' ;"'),
    ],
)
