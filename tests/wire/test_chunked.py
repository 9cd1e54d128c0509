from __future__ import annotations

import itertools
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock._wire import chunked
from penstock._wire.chunked import ChunkedBody

from .linear import growth
from .reference_chunked import Outcome, read, read_with_h11


def bytewise(stream: bytes) -> list[bytes]:
    return [stream[i : i + 1] for i in range(len(stream))]


def chunk(payload: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(payload), payload)


EXTENSIONS = st.sampled_from(
    [b"", b"", b";a", b";a=b", b';a="b;c"', b" ", b"\t ", b";\r", b"; \xff"]
)
TRAILERS = st.sampled_from(
    [
        b"A: b\r\n",
        b"a:\r\n",
        b"a:b\n",
        b"A: b\r\n c\r\n",
        b"A: \x01\xff \r\n\t\r\n",
        b"x-y: \tz \r\n",
    ]
)
SIZES = st.sampled_from([b"%x", b"%X", b"0%x", b"00000%X", b"%020x"])


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A valid chunked body and its payload."""
    stream = payload = b""
    for part in draw(st.lists(st.binary(min_size=1, max_size=40), max_size=6)):
        stream += draw(SIZES) % len(part) + draw(EXTENSIONS) + b"\r\n" + part + b"\r\n"
        payload += part
    stream += draw(st.sampled_from([b"0", b"00", b"0" * 20])) + draw(EXTENSIONS) + b"\r\n"
    stream += b"".join(draw(st.lists(TRAILERS, max_size=3)))
    return stream + draw(st.sampled_from([b"\r\n", b"\n"])), payload


@st.composite
def junk(draw: st.DrawFn) -> bytes:
    """A valid body with a few bytes changed, put in or cut out, or no body at all."""
    tokens = [b"\r\n", b"\r", b"\n", b"0", b"5", b"a", b"0x", b"+", b"-1", b"_", b" ", b"\t", b";"]
    tokens += [b":", b"A: b\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"\x00", b"\x0b", b"\xb2", b"x"]
    token = st.one_of(st.sampled_from(tokens), st.binary(max_size=2))
    if draw(st.booleans()):
        return b"".join(draw(st.lists(token, max_size=12)))
    stream = draw(bodies())[0]
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(stream)))
        stream = stream[:start] + draw(token) + stream[start + draw(st.integers(0, 3)) :]
    return stream


def cut(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    cuts = draw(st.lists(st.integers(0, len(stream)), max_size=8))
    return [stream[a:b] for a, b in pairwise([0, *sorted(cuts), len(stream)])]


@given(bodies(), st.binary(max_size=5), st.data())
def test_any_body_at_any_splits(
    body: tuple[bytes, bytes], excess: bytes, data: st.DataObject
) -> None:
    stream = body[0] + excess
    complete = Outcome("complete", body[1], excess)
    assert read_with_h11(stream) == complete
    assert read(stream) == complete
    assert read(*data.draw(st.composite(cut)(stream))) == complete
    assert read(*bytewise(stream)) == complete


@given(junk(), st.data())
@example(b"5\r\nhello\n\r\n0\r\n\r\n", None)
@example(b"0\r\n a: b\r\n\r\n", None)
def test_junk_is_read_as_h11_reads_it(stream: bytes, data: st.DataObject | None) -> None:
    outcome = read(stream)
    # What one gets does not depend on the splits.
    assert read(*bytewise(stream)) == outcome
    if data is not None:
        assert read(*data.draw(st.composite(cut)(stream))) == outcome
    theirs = read_with_h11(stream)
    if theirs.state == "complete" or outcome.state == "complete":
        assert outcome == theirs
    else:
        # Either may see sooner that nothing can come of it.
        assert outcome.payload == theirs.payload


def test_payloads_that_look_like_framing_at_all_splits() -> None:
    # Read from anywhere inside of these, the rest looks like one whole chunk of a known size.
    parts = [b"1", b"5", b"\r\n", b"1\r\nx\r\n", b"\n" + b"\r\n" * 6, b"x\r\n".ljust(17, b"1")]
    stream = b"".join(map(chunk, parts)) + b"0\r\n\r\n"
    complete = Outcome("complete", b"".join(parts))
    assert read(stream) == complete  # by now each size is known
    for first, second in itertools.combinations(range(len(stream)), 2):
        assert read(stream[:first], stream[first:second], stream[second:]) == complete


@given(st.lists(st.binary(min_size=1, max_size=40)))
def test_reads_of_one_chunk_each(parts: list[bytes]) -> None:
    fed = [chunk(part) for part in parts]
    body = ChunkedBody()
    assert [body.feed(piece) for piece in fed * 2] == parts * 2
    assert body.feed(b"0\r\n\r\n") == b""
    assert body.finished


@given(bodies())
def test_every_beginning_of_a_body_is_incomplete(body: tuple[bytes, bytes]) -> None:
    stream, payload = body
    for end in range(len(stream)):
        state, got, excess = read(stream[:end])
        assert (state, excess) == ("waiting", b"")
        assert payload.startswith(got)


@pytest.mark.parametrize(
    "line",
    [
        *(
            b"",
            b" 5",
            b"0x5",
            b"0X5",
            b"+5",
            b"-5",
            b"5_0",
            b"5 ;a",
            b"g",
            b"\xb2",
            b"5\n",
            b"5;\n",
        ),
        *(b"5 a", b"5,", b"\t5", b"5\x00", b"0" * 20 + b"5", b"f" * 21),
    ],
)
def test_a_size_is_hexadecimal_digits_only(line: bytes) -> None:
    stream = chunk(b"before") + line + b"\r\nhello\r\n0\r\n\r\n"
    assert read(stream) == Outcome("refused", b"before")
    assert read(*bytewise(stream)) == Outcome("refused", b"before")


def test_an_empty_size_line_is_refused_at_once() -> None:
    for payload in (b"h", b"hello"):
        whole = chunk(payload) + b"\r\n"
        for cut in range(len(whole) + 1):
            assert read(whole[:cut], whole[cut:]) == Outcome("refused", payload)


def test_a_chunk_must_end_with_crlf() -> None:
    for end in (b"xx", b"x", b"\n", b"\rx", b"\r\r\n", b"5\r\n"):
        assert read(b"5\r\nhello" + end) == Outcome("refused", b"hello")
        assert read(b"5\r\nhello", end) == Outcome("refused", b"hello")


@pytest.mark.parametrize(
    "line", [b" folded", b"no colon", b": no name", b"blank : x", b"a: \x00", b"a: b\rc", b"a:\x0b"]
)
def test_trailers_are_checked(line: bytes) -> None:
    stream = chunk(b"hello") + b"0\r\n" + line + b"\r\n\r\n"
    assert read(stream) == read(*bytewise(stream)) == Outcome("refused", b"hello")


def test_payload_is_given_at_once() -> None:
    body = ChunkedBody()
    assert body.feed(b"5;ext\r\nhe") == b"he"
    assert body.feed(b"l") == b"l"
    assert body.feed(b"") == b""
    assert body.feed(b"lo") == b"lo"
    assert body.feed(b"\r") == b""
    assert body.feed(b"\n5") == b""
    assert body.feed(b"\r\nworld\r\n1") == b"world"
    assert body.feed(b"0\r\n0123456789abcdef") == b"0123456789abcdef"
    assert body.feed(b"\r\n0\r\nA: b") == b""
    assert (body.finished, body.eof()) == (False, False)
    assert body.feed(b"\r\n\r\nHTTP") == b""
    assert (body.finished, body.eof()) == (True, True)
    assert body.excess == b"HTTP"
    assert body.feed(b"/1.1") == b""
    assert body.excess == b"HTTP/1.1"


def test_an_end_that_is_all_there_is() -> None:
    assert read(b"0\r\n\r\n") == Outcome("complete", b"")
    assert read(b"0\r\n\r\n", b"x") == Outcome("complete", b"", b"x")


@pytest.mark.parametrize("before", [b"", chunk(b"hello")])
@pytest.mark.parametrize("whole", [True, False])
def test_a_size_line_is_bounded(before: bytes, whole: bool) -> None:
    # MAX_LINE counts the CRLF before the line, not the one at its end.
    fits = before + b"5;".ljust(chunked.MAX_LINE - 2, b"x") + b"\r\nhello"
    too_long = fits.replace(b";", b";x")
    endless = before + b"5;".ljust(chunked.MAX_LINE, b"x")

    def fed(stream: bytes) -> list[bytes]:
        return [stream] if whole else bytewise(stream)

    payload = before and b"hello"
    assert read(*fed(fits)) == Outcome("waiting", payload + b"hello")
    assert read(*fed(too_long)) == Outcome("refused", payload)
    assert read(*fed(endless)) == Outcome("refused", payload)


@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_trailers_may_be_as_long_as_their_bounds(size: int) -> None:
    lines = [b"a:".ljust(chunked.MAX_LINE - 2, b"x") + b"\r\n"] * 3
    lines += [b"b:".ljust(chunked.MAX_LINE - 4, b"x") + b"\r\n", b"\r\n"]
    assert sum(map(len, lines)) == chunked.MAX_TRAILERS

    def state(trailers: bytes) -> str:
        stream = b"0\r\n" + trailers
        return read(*(stream[i : i + size] for i in range(0, len(stream), size))).state

    assert state(b"".join(lines)) == "complete"
    assert state(b"".join(lines).replace(b"b:", b"b:x")) == "refused"
    assert state(b"".join(lines[1:]).replace(b"a:", b"a:x", 1)) == "refused"


@pytest.mark.parametrize("size", [1000, 1 << 20])
@pytest.mark.parametrize(
    "line", [b"a: " + b"x" * 1000 + b"\r\n", b"a: " + b"x" * 20000 + b"\r\n", b"a"]
)
def test_trailers_are_bounded(line: bytes, size: int) -> None:
    stream = b"0\r\n" + line * (chunked.MAX_TRAILERS // len(line) + 1)
    assert read(*(stream[i : i + size] for i in range(0, len(stream), size))).state == "refused"


def test_only_short_plain_sizes_are_remembered() -> None:
    before = dict(chunked.known.sizes)
    assert read(b"abc\r\n" + b"x" * 0xABC + b"\r\n").state == "waiting"
    assert chunked.known.sizes.pop(b"\r\nabc") == 0xABC
    # An extension, blanks, four digits, the end: whoever sends these cannot fill the memory.
    assert read(b"1; \r\nx\r\n1 \r\nx\r\n0001\r\nx\r\n0\r\n\r\n") == Outcome("complete", b"xxx")
    before.pop(b"\r\nabc", None)
    assert chunked.known.sizes == before


def test_time_is_linear_whatever_the_splits() -> None:
    def one_chunk(size: int) -> None:
        assert read_length(chunk(b"x" * size) + b"0\r\n\r\n") == size

    def small_chunks(size: int) -> None:
        assert read_length(chunk(b"x") * (size // 6) + b"0\r\n\r\n") == size // 6

    def read_length(stream: bytes) -> int:
        body = ChunkedBody()
        length = sum(len(body.feed(piece)) for piece in bytewise(stream))
        assert body.finished
        return length

    assert growth(one_chunk, small=20_000) < 3
    assert growth(small_chunks, small=20_000) < 3
    assert growth(lambda size: ChunkedBody().feed(chunk(b"x") * size), small=20_000) < 3
