"""Decodes content codings (RFC 9110, section 8.4.1) piece by piece, with bounds on the output.

A few bytes of a decompression bomb become gigabytes. No step of the decoder produces more than
the bound still allows, and exceeding it is an error, not a truncation.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from .excerpt import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["ContentDecoder", "EncodingError", "content_decoder"]

# No honest network read (64 KiB or so) of a model's answer decodes to more: the ratio would be
# 256, while text has 3 to 10.
FEED_LIMIT = 16 * 1024 * 1024

# zlib copies the bytes after a gzip member. With windows of this size, many tiny members in one
# feed still cost linear time.
_WINDOW = 16 * 1024

_GZIP = 16 + zlib.MAX_WBITS
_ZLIB = zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS


# "none" is not registered, but some servers say it.
_NOT_ENCODED = ("", "identity", "none")


class EncodingError(ValueError):
    """The body's content coding is unknown or broken, or its output is over a bound.

    `payload` is what the same `feed` decoded before the fault.
    """

    payload: bytes = b""


class ContentDecoder:
    """Decodes gzip or deflate of one body."""

    __slots__ = ("_begun", "_gzip", "_stream")

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._stream = zlib.decompressobj(_GZIP if gzip else _ZLIB)
        # The current stream (a gzip member, or all of deflate) has begun and not ended.
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        """Take the next coded bytes and return what they decode to; raises EncodingError."""
        decoded = bytearray()
        position = 0
        try:
            while position < len(data):
                position += self._step(data[position : position + _WINDOW], decoded)
        except EncodingError as error:
            error.payload = bytes(decoded)
            raise
        return bytes(decoded)

    def eof(self) -> bool:
        """Return whether the compressed data was complete when the body ended; no bytes are."""
        return not self._begun

    def _step(self, window: bytes, decoded: bytearray) -> int:
        """Decode the window up to the end of the current stream; return the bytes used."""
        if not self._begun:
            self._begin(window[0])
        # zlib does not return what a failing call decoded; a copy (2 us) can repeat it.
        before = self._stream.copy()
        room = FEED_LIMIT + 1 - len(decoded)
        try:
            # One byte more than allowed distinguishes "over" from "full"; 0 would mean no bound.
            decoded += self._stream.decompress(window, room)
        except zlib.error as error:
            decoded += _before_the_fault(before.decompress, window, room)
            raise EncodingError(f"broken compressed data: {error}") from error
        if len(decoded) > FEED_LIMIT:
            raise EncodingError(f"compressed data that decodes to more than {FEED_LIMIT} bytes")
        if not self._stream.eof:
            return len(window)
        self._begun = False
        return len(window) - len(self._stream.unused_data)

    def _begin(self, first: int) -> None:
        self._begun = True
        if self._stream.eof:
            # gzip is a series of members (RFC 1952, section 2.2), deflate is one stream.
            if not self._gzip:
                raise EncodingError("bytes after the end of the compressed data")
            self._stream = zlib.decompressobj(_GZIP)
        # Some servers send "deflate" without its zlib wrapper, which begins with the method, 8
        # (RFC 1950, section 2.2). Bare data with these bits would be a stored block with
        # non-zero padding (RFC 1951, section 3.2.4), which no encoder writes.
        elif not self._gzip and first & 0x0F != 8:
            self._stream = zlib.decompressobj(_RAW)


def _before_the_fault(
    decompress: Callable[[bytes, int], bytes], window: bytes, room: int
) -> bytearray:
    decoded = bytearray()
    try:
        for place in range(len(window)):
            decoded += decompress(window[place : place + 1], room - len(decoded))
    except zlib.error:
        pass
    return decoded


def content_decoder(headers: Mapping[str, str]) -> ContentDecoder | None:
    """Return the decoder for a response's body, None if it is not encoded.

    Raises EncodingError for any coding except gzip and deflate, and for several at once.
    """
    given = headers.get("content-encoding")
    if given is None:
        return None
    each = (coding.strip(" \t") for coding in given.lower().split(","))
    codings = [name for name in each if name not in _NOT_ENCODED]
    if not codings:
        return None
    if codings in (["gzip"], ["x-gzip"], ["deflate"]):
        return ContentDecoder(gzip=codings != ["deflate"])
    shown = one_line(", ".join(codings), 80)
    raise EncodingError(f"a content coding that is not supported: {shown}")
