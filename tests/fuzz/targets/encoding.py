"""gzip and deflate undone: what zlib makes of the whole, whatever the splits."""

from __future__ import annotations

import gzip
import zlib

from penstock._wire.encoding import ContentDecoder, EncodingError, content_decoder
from penstock.headers import Headers

from ..reader import Reader, ways
from ..target import Target

CODINGS = (b"gzip", b"x-gzip", b"deflate", b"GZip, identity")


def check(data: bytes) -> None:
    reader = Reader(data)
    coding = reader.pick(CODINGS)
    how = reader.below(4)
    places = reader.places()
    stream = reader.rest() if how == 0 else coded(reader, coding)
    found = [read(pieces, coding) for pieces in ways(stream, places)]
    assert found == found[:1] * len(found), found
    assert found[0] == plainly_decoded(stream, coding), found[0]
    content_codings(reader)


def content_codings(reader: Reader) -> None:
    try:
        content_decoder(Headers([("content-encoding", reader.rest())]))
    except EncodingError:
        pass


def coded(reader: Reader, coding: bytes) -> bytes:
    """A proper stream, or several, with a flip, a cut or something after it."""
    stream = b""
    for _ in range(1 + reader.below(3)):
        plain = reader.take(reader.below(48)) * (1 + reader.below(256))
        form = reader.below(4)
        level = (-1, 0, 1, 9)[form]
        if coding != b"deflate":
            stream += gzip.compress(plain, max(level, 0), mtime=0)
        elif reader.below(2):
            stream += zlib.compress(plain, level)
        else:
            compressor = zlib.compressobj(level, wbits=-zlib.MAX_WBITS)
            stream += compressor.compress(plain)
            if form == 1:
                stream += compressor.flush(zlib.Z_SYNC_FLUSH)
            stream += compressor.flush()
    damage = reader.below(4)
    place = (reader.byte() << 8 | reader.byte()) % (len(stream) + 1)
    if damage == 1:
        stream = stream[:place]
    elif damage == 2:
        stream = stream[:place] + reader.take(2) + stream[place + 1 :]
    elif damage == 3:
        stream += reader.take(4)
    return stream


def read(pieces: list[bytes], coding: bytes) -> tuple[bytes, str]:
    decoder = content_decoder(Headers([("Content-Encoding", coding)]))
    assert isinstance(decoder, ContentDecoder)
    plain = b""
    try:
        for piece in pieces:
            plain += decoder.feed(piece)
    except EncodingError as error:
        return plain + error.payload, "refused"
    return plain, "complete" if decoder.eof() else "waiting"


def plainly_decoded(stream: bytes, coding: bytes) -> tuple[bytes, str]:
    """Byte by byte, so that all is known that stands before a fault."""
    plain = b""
    is_gzip = coding != b"deflate"
    rest = stream
    while rest:
        wbits = 16 + zlib.MAX_WBITS
        if not is_gzip:
            wbits = zlib.MAX_WBITS if rest[0] & 0x0F == 8 else -zlib.MAX_WBITS
        decoder = zlib.decompressobj(wbits)
        used = 0
        while used < len(rest) and not decoder.eof:
            try:
                plain += decoder.decompress(rest[used : used + 1])
            except zlib.error:
                return plain, "refused"
            used += 1
        rest = rest[used:]
        if not decoder.eof:
            return plain, "waiting"
        if rest and not is_gzip:
            return plain, "refused"
    return plain, "complete"


TARGET = Target(
    check,
    seeds=[
        b"\x00\x01\x00\x01\x10hello, hello, he\x02\x00",
        b"\x02\x00\x00" + zlib.compress(b"hello" * 9),
        b"\x00\x00\x00" + gzip.compress(b"hello" * 9, mtime=0)[:-3] + b"xxx",
        b"\x00\x00\x01\x00\x09" + gzip.compress(b"x" * 5000, mtime=0),
        b"\x02\x00\x00" + zlib.compressobj(wbits=-15).flush(),
    ],
    words=[b"\x1f\x8b\x08\x00", b"\x78\x9c", b"\x00\x00\xff\xff", b"\x03\x00", b"gzip", b"br"],
    max_length=512,
)
