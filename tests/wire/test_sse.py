from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._wire.sse import MAX_LINES, EventStreamDecoder, EventTooLargeError, NamedEvent

from .linear import growth
from .reference_sse import decode_events
from .work import calls_in

Event = bytes | NamedEvent

# Whatever a rule of the standard is about, and what other splitters take for a line end.
TOKENS = [
    *(
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b":",
        b" ",
        b"a",
        b"\x00",
        b"\xff",
        b"\xef",
        b"\xbb",
        b"\xbf",
    ),
    *(b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\xc2\x85", b"\x0b", b"\x0c", b"\x1c", b"\xe2", b"\x80"),
    *(b"data", b"data:", b"data: ", b"data: x\n\n", b"data:y\r\n\r\n", b"\n\ndata: ", b"event"),
    *(b"event:", b"event: message\n", b"event: ping\n", b"id: 1\n", b"retry: 9\n", b": ping\n\n"),
]
STREAMS = st.one_of(
    st.lists(st.sampled_from(TOKENS), max_size=40).map(b"".join),
    st.lists(st.sampled_from(TOKENS), max_size=8).map(lambda t: b"\xef\xbb\xbf" + b"".join(t)),
    st.binary(max_size=60),
)


@st.composite
def pieces(draw: st.DrawFn) -> list[bytes]:
    stream = draw(STREAMS)
    cuts = draw(st.lists(st.integers(0, len(stream)), max_size=12))
    return [stream[a:b] for a, b in itertools.pairwise([0, *sorted(cuts), len(stream)])]


def read(*fed: bytes, max_event_bytes: int = 1 << 20) -> list[Event]:
    decoder = EventStreamDecoder(max_event_bytes)
    return [event for piece in fed for event in decoder.feed(piece)]


def bytewise(stream: bytes) -> list[bytes]:
    return [stream[i : i + 1] for i in range(len(stream))]


def expected(stream: bytes) -> list[tuple[str, str]]:
    # That empty data is nothing is a rule of ours.
    return [(name, data) for name, data in decode_events(stream) if data]


def as_text(events: list[Event]) -> list[tuple[str, str]]:
    named = [e if isinstance(e, NamedEvent) else NamedEvent("message", e) for e in events]
    return [(name, data.decode("utf-8", "replace")) for name, data, _ in named]


@given(pieces())
def test_agrees_with_the_standard_at_any_splits(fed: list[bytes]) -> None:
    assert as_text(read(*fed)) == expected(b"".join(fed))


@given(STREAMS)
def test_agrees_with_the_standard_byte_by_byte(stream: bytes) -> None:
    assert as_text(read(*bytewise(stream))) == expected(stream)


@given(STREAMS)
def test_agrees_with_the_standard_in_one_piece(stream: bytes) -> None:
    assert as_text(read(stream)) == expected(stream)


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        pytest.param(b"data: a\n\ndata: b\n\n", [b"a", b"b"], id="two"),
        pytest.param(b"data: a\r\rdata: b\r\r", [b"a", b"b"], id="cr"),
        pytest.param(b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"], id="crlf"),
        pytest.param(b"data: a\n\r\ndata: b\r\r\n", [b"a", b"b"], id="mixed line ends"),
        pytest.param(b"data: a\n\n\n\n\ndata: b\n\n\n", [b"a", b"b"], id="more empty lines"),
        pytest.param(b"\n\n\ndata: a\n\n", [b"a"], id="empty lines first"),
        pytest.param(b"\xef\xbb\xbfdata: a\n\n", [b"a"], id="one BOM is dropped"),
        pytest.param(b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", [], id="but not a second one"),
        pytest.param(b"\n\xef\xbb\xbfdata: a\n\n", [], id="nor one further on"),
        pytest.param(b"data:a\n\n", [b"a"], id="the space is optional"),
        pytest.param(b"data:  a \n\n", [b" a "], id="only one space is dropped"),
        pytest.param(b"data:\ta\n\n", [b"\ta"], id="a tab is no space"),
        pytest.param(b"data: a\ndata: b\n\n", [b"a\nb"], id="lines are joined"),
        pytest.param(b"data\ndata: b\ndata\n\n", [b"\nb\n"], id="a field without a colon"),
        pytest.param(b"data\n\ndata:\n\ndata: \n\n", [], id="empty data is nothing"),
        pytest.param(b"data: a\n\ndata: \n\ndata: b\n\n", [b"a", b"b"], id="nothing in between"),
        pytest.param(b"data\ndata\n\n", [b"\n"], id="two empty lines are a line end"),
        pytest.param(b": ping\n\ndata: a\n: c\n\n:\n\n", [b"a"], id="comments"),
        pytest.param(b"id: 1\nretry: 5\nDATA: x\n data: y\ndata : z\n\n", [], id="other fields"),
        pytest.param(b"id: 1\ndata: a\nretry: 2\nx: y\nz\n\n", [b"a"], id="among other fields"),
        pytest.param(b"event: message\ndata: a\n\n", [b"a"], id="the default name"),
        pytest.param(b"event:\ndata: a\n\n", [b"a"], id="an empty name"),
        pytest.param(b"event: e\ndata: a\n\n", [NamedEvent("e", b"a")], id="named"),
        pytest.param(b"data: a\nevent:e\n\n", [NamedEvent("e", b"a")], id="named at its end"),
        pytest.param(b"event: x\nevent: e\ndata: a\n\n", [NamedEvent("e", b"a")], id="last name"),
        pytest.param(b"event: e\n\ndata: a\n\n", [b"a"], id="the name does not outlive the event"),
        pytest.param(b"event: e\xff\ndata: a\n\n", [NamedEvent("e\ufffd", b"a")], id="bad name"),
        pytest.param(b"data: a\xff\n\n", [b"a\xff"], id="data stays bytes"),
        pytest.param(
            b"data: a\xe2\x80\xa8b\xc2\x85c\x0b\x0c\x1c\n\n",
            [b"a\xe2\x80\xa8b\xc2\x85c\x0b\x0c\x1c"],
            id="no other line ends",
        ),
        pytest.param(b"data: a\n\ndata: b\n", [b"a"], id="an unfinished event is nothing"),
    ],
)
def test_rules(stream: bytes, events: list[Event]) -> None:
    assert read(stream) == events
    assert read(*bytewise(stream)) == events
    # A live stream comes an event at a time.
    assert read(*re.split(rb"(?<=\n\n)", stream)) == events
    for cut in range(len(stream)):
        assert read(stream[:cut], stream[cut:]) == events


def test_an_event_is_there_with_its_last_byte() -> None:
    decoder = EventStreamDecoder()
    assert decoder.feed(b"data: a\r\n\r") == [b"a"]
    assert decoder.feed(b"\ndata: b\r\r") == [b"b"]
    assert decoder.feed(b"") == []
    assert decoder.feed(b"\ndata: c\r") == []
    assert decoder.feed(b"") == []
    assert decoder.feed(b"\ndata: d\n") == []
    assert decoder.feed(b"\n") == [b"c\nd"]


@pytest.mark.parametrize("cut", range(25))
@pytest.mark.parametrize(
    ("block", "event"),
    [(b"data: 12\n: 3456\ndata: 7", b"12\n7"), (b"data: 12345678901234567", b"12345678901234567")],
)
@pytest.mark.parametrize("before", [b"data: a\n\n", b"data: a\n\n\n", b"data: a\n\n\n\n", b"\n"])
def test_the_bound_does_not_depend_on_the_splits(
    before: bytes, block: bytes, event: bytes, cut: int
) -> None:
    stream = block + b"\n\n"
    first: list[Event] = [b"a"] if b"a" in before else []
    fed = [before + stream[:cut], stream[cut:]]
    assert read(*fed, max_event_bytes=23) == [*first, event]

    decoder = EventStreamDecoder(22)
    got: list[Event] = []

    def read_all() -> None:
        for piece in fed:
            got.extend(decoder.feed(piece))

    with pytest.raises(EventTooLargeError, match="more than 22 bytes") as caught:
        read_all()
    assert [*got, *caught.value.events] == first


@pytest.mark.parametrize("flood", [b"x", b"data: xxxx\n", b": ping\n", b"data: xxxx\r", b"\xef"])
@pytest.mark.parametrize("size", [1, 7, 400])
def test_an_endless_event_is_not_buffered_beyond_the_bound(flood: bytes, size: int) -> None:
    decoder = EventStreamDecoder(500)
    stream = flood * 1000
    fed = itertools.count(size, size)

    def read_on() -> None:
        for end in fed:
            decoder.feed(stream[end - size : end])

    with pytest.raises(EventTooLargeError):
        read_on()
    assert next(fed) <= 503 + 2 * size


def test_endless_empty_lines_and_comments_are_not_an_event() -> None:
    decoder = EventStreamDecoder(10)
    for _ in range(1000):
        assert decoder.feed(b"\n: ping\n\n") == []
        assert decoder.feed(b"\r") == []
        assert decoder.feed(b"\n\n\r\n") == []


def test_a_batch_may_be_larger_than_an_event_may() -> None:
    assert read(b"data: abc\n\n" * 100, max_event_bytes=9) == [b"abc"] * 100


def test_time_is_linear_whatever_the_splits() -> None:
    def one_event(size: int) -> None:
        assert len(read(*bytewise(b"data: " + b"x" * size + b"\n\n"))) == 1

    def small_events(size: int) -> None:
        assert len(read(*bytewise(b"data:x\n\n" * (size // 8)))) == size // 8

    def many_lines(size: int) -> None:
        assert len(read(*bytewise(b"data:x\r\n" * (size // 8) + b"\r\n"))) == 1

    assert growth(one_event, small=20_000) < 3
    assert growth(small_events, small=20_000) < 3
    assert growth(many_lines, small=20_000) < 3
    assert growth(lambda size: read(b"data: x\n\n" * size), small=10_000) < 3


@pytest.mark.parametrize("line", [b":", b"data", b"id: 12", b"x"])
def test_an_event_of_too_many_lines_is_refused_without_work_for_each(line: bytes) -> None:
    stream = (line + b"\n") * 300_000 + b"\n"
    decoder = EventStreamDecoder()

    def read_it() -> None:
        with pytest.raises(EventTooLargeError, match=r"299999|300000") as caught:
            decoder.feed(b"data: a\n\n" + stream)
        assert caught.value.events == [b"a"]

    assert calls_in(read_it) < 1000


def test_an_event_may_have_many_lines() -> None:
    lines = b"data: 1,\n" * MAX_LINES
    assert read(lines + b"\n") == [b"\n".join([b"1,"] * MAX_LINES)]
    long = b"data: " + b"x" * 20 + b"\n"
    assert len(read(long * (2 * MAX_LINES) + b"\n", max_event_bytes=1 << 24)) == 1


@pytest.mark.parametrize(
    "event", [b"data: x\n\n", b"data:x\n\n", b": ping\n\n", b"\n\n", b"event: e\ndata: x\n\n"]
)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_calls_for_each_byte_are_bounded(event: bytes, size: int) -> None:
    stream = event * 2000
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    # A dozen for each piece, and as many for each event.
    assert calls_in(lambda: read(*pieces)) <= 13 * len(pieces) + 13 * 2000 + 100
