from __future__ import annotations

import gzip
import zlib
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._wire import encoding
from penstock._wire.encoding import ContentDecoder, EncodingError, content_decoder
from penstock.headers import Headers

from .linear import growth

if TYPE_CHECKING:
    from collections.abc import Callable


def decoder(coding: str) -> ContentDecoder:
    found = content_decoder(Headers([("Content-Encoding", coding)]))
    assert found is not None
    return found


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


def feed_all(body: ContentDecoder, pieces: list[bytes], into: bytearray) -> None:
    for piece in pieces:
        into += body.feed(piece)


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "raw deflate": raw_deflate,
}
each_coding = pytest.mark.parametrize("coding", ENCODERS)


@pytest.mark.parametrize(
    "lines", [[], ["identity"], [""], ["Identity ,", " identity"], ["none"], ["None, identity"]]
)
def test_no_coding_needs_no_decoder(lines: list[str]) -> None:
    assert content_decoder(Headers([("content-encoding", line) for line in lines])) is None


@pytest.mark.parametrize(
    "coding", ["br", "zstd", "gzip, br", "gzip, gzip", "compress", "gzip\xa0", "\xa0"]
)
def test_other_codings_are_named(coding: str) -> None:
    with pytest.raises(EncodingError, match=f"supported: {coding.strip()}$"):
        decoder(coding)


def test_codings_are_named_in_any_case() -> None:
    assert decoder(" GZip, identity").feed(gzip.compress(b"hello")) == b"hello"


@given(st.sampled_from(list(ENCODERS)), st.binary(max_size=300), st.data())
def test_any_data_at_any_splits(coding: str, plain: bytes, data: st.DataObject) -> None:
    coded = ENCODERS[coding](plain)
    cuts = data.draw(st.lists(st.integers(0, len(coded)), max_size=8))
    body = decoder(coding.removeprefix("raw "))
    decoded = b""
    for a, b in pairwise([0, *sorted(cuts), len(coded)]):
        decoded += body.feed(coded[a:b])
        assert body.eof() is (b in (0, len(coded)))
    assert decoded == plain


def test_nothing_is_held_back_after_a_flush() -> None:
    # Servers that compress event streams flush after each event.
    compressor = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    body = decoder("gzip")
    for event in (b"data: a\n\n", b"data: b\n\n"):
        coded = compressor.compress(event) + compressor.flush(zlib.Z_SYNC_FLUSH)
        assert body.feed(coded) == event
        assert not body.eof()
    assert body.feed(compressor.flush()) == b""
    assert body.eof()


def test_several_gzip_members() -> None:
    coded = b"".join(gzip.compress(part) for part in (b"one", b"", b"two"))
    assert decoder("gzip").feed(coded) == b"onetwo"
    body = decoder("gzip")
    assert b"".join(body.feed(coded[i : i + 1]) for i in range(len(coded))) == b"onetwo"
    assert body.eof()
    assert body.feed(b"\x1f") == b""
    assert not body.eof()


def test_no_bytes_are_a_complete_body() -> None:
    body = decoder("gzip")
    assert body.feed(b"") == b""
    assert body.eof()


@each_coding
def test_a_body_cut_short_is_not_complete(coding: str) -> None:
    coded = ENCODERS[coding](b"hello" * 20)
    for end in range(1, len(coded)):
        body = decoder(coding.removeprefix("raw "))
        assert (b"hello" * 20).startswith(body.feed(coded[:end]))
        assert not body.eof()


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_broken_data(coding: str) -> None:
    with pytest.raises(EncodingError, match="broken"):
        decoder(coding).feed(b"\xff<html>")


@pytest.mark.parametrize("coding", ["deflate", "raw deflate"])
def test_deflate_is_one_stream(coding: str) -> None:
    coded = ENCODERS[coding](b"hello")
    with pytest.raises(EncodingError, match="after the end") as caught:
        decoder("deflate").feed(coded + coded)
    assert caught.value.payload == b"hello"


def test_what_came_before_a_fault_is_not_lost() -> None:
    with pytest.raises(EncodingError, match="broken") as caught:
        decoder("gzip").feed(gzip.compress(b"hello") + b"junk")
    assert caught.value.payload == b"hello"


@each_coding
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_what_one_gets_before_a_fault_does_not_depend_on_the_splits(coding: str, size: int) -> None:
    # Of gzip the checksum at the end is wrong; bare data has none, so a wrong block follows.
    plain = b"hello" * 20
    compressor = zlib.compressobj(wbits={"deflate": 15, "raw deflate": -15}.get(coding, 31))
    coded = compressor.compress(plain) + compressor.flush(zlib.Z_SYNC_FLUSH)
    coded += b"\x07" if "deflate" in coding else compressor.flush()[:-8] + b"checksum"
    body = decoder(coding.removeprefix("raw "))
    decoded = bytearray()
    pieces = [coded[i : i + size] for i in range(0, len(coded), size)]
    with pytest.raises(EncodingError, match="broken") as caught:
        feed_all(body, pieces, into=decoded)
    assert decoded + caught.value.payload == plain


@each_coding
def test_one_feed_is_bounded(coding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "FEED_LIMIT", 1000)
    body = decoder(coding.removeprefix("raw "))
    assert body.feed(ENCODERS[coding](b"x" * 1000)) == b"x" * 1000
    with pytest.raises(EncodingError, match="more than 1000 bytes") as caught:
        decoder(coding.removeprefix("raw ")).feed(ENCODERS[coding](b"x" * 1_000_000))
    assert len(caught.value.payload) <= 1001


def test_the_bound_counts_what_the_feed_has_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "FEED_LIMIT", 20_000)
    member = gzip.compress(b"x" * 19_000)
    with pytest.raises(EncodingError, match="more than 20000 bytes") as caught:
        decoder("gzip").feed(member * 2)
    assert len(caught.value.payload) == 20_001


def test_many_tiny_members_cost_linear_time() -> None:
    member = gzip.compress(b"")
    assert growth(lambda count: decoder("gzip").feed(member * count), small=2000) < 3
