"""Events that careless servers separate by single line ends: read live, wherever they are cut."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._wire.sse import EventStreamDecoder, NamedEvent
from penstock.errors import IncompleteStreamError

from .linear import growth
from .test_completion import DONE, event, outcome_of, token

Event = bytes | NamedEvent


def read(*fed: bytes, objects: bool = True) -> list[Event]:
    decoder = EventStreamDecoder(1 << 20, objects=objects)
    return [event for piece in fed for event in decoder.feed(piece)]


def lines(*data: str, end: str = "\n") -> str:
    return "".join(f"data: {each}{end}" for each in data)


LINES = [json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}) for text in "abc"]
LAST = json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})


class TestAnswers:
    @pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
    @pytest.mark.parametrize("tail", ["", "\n", "\n\n"])
    def test_with_the_sentinel(self, newline: str, tail: str) -> None:
        body = lines(*LINES, LAST, "[DONE]", end=newline) + tail.replace("\n", newline)
        outcome = outcome_of(body)
        assert (outcome.error, outcome.text, outcome.done) == (None, "abc", True)
        assert outcome.events == 4

    @pytest.mark.parametrize("tail", ["", "\n"])
    def test_without_the_sentinel(self, tail: str) -> None:
        outcome = outcome_of(lines(*LINES, LAST) + tail)
        assert (outcome.error, outcome.text) == (None, "abc")
        outcome = outcome_of(lines(*LINES) + tail)
        assert type(outcome.error) is IncompleteStreamError
        assert outcome.text == "abc"

    def test_without_the_last_line_end(self) -> None:
        for last in (LAST, "[DONE]"):
            outcome = outcome_of(lines(*LINES, last).rstrip())
            assert (outcome.error, outcome.text) == (None, "abc")
        cut = outcome_of(lines(*LINES, LAST)[:-10])
        assert type(cut.error) is IncompleteStreamError
        assert cut.text == "abc"

    def test_with_proper_ones_between(self) -> None:
        body = token("x") + lines(LINES[0], LINES[1]) + "\n" + token("y") + lines(LINES[2], LAST)
        assert outcome_of(body + DONE).text == "xabyc"

    def test_with_names_comments_and_ids(self) -> None:
        body = "".join(
            f"event: chunk\nid: {n}\ndata: {data}\n: ping\n" for n, data in enumerate(LINES)
        )
        assert outcome_of(body + lines(LAST, "[DONE]")).text == "abc"

    def test_an_error_among_them(self) -> None:
        outcome = outcome_of(lines(LINES[0], '{"error": {"message": "boom"}}', LINES[1], "[DONE]"))
        assert str(outcome.error) == "boom"
        assert outcome.text == "a"

    def test_json_over_several_lines_stays_one_event(self) -> None:
        pretty = json.dumps(json.loads(LAST), indent=1).split("\n")
        outcome = outcome_of(event(LINES[0]) + lines(*pretty) + "\n")
        assert (outcome.error, outcome.text, outcome.events) == (None, "a", 2)


def test_a_line_is_there_with_its_last_byte() -> None:
    decoder = EventStreamDecoder(objects=True)
    assert decoder.feed(b"data: {1}\n") == []  # it may go on
    assert decoder.feed(b"data: {2}") == []
    assert decoder.feed(b"\n") == [b"{1}", b"{2}"]
    assert decoder.feed(b"data: {3}\nda") == [b"{3}"]
    assert decoder.feed(b"ta: [DONE]\n") == [b"[DONE]"]


def test_two_ends_are_two_events_however_they_come() -> None:
    stream = b"data: [DONE]\ndata: [DONE]\n\n"
    for cut in range(len(stream)):
        assert read(stream[:cut], stream[cut:]) == [b"[DONE]", b"[DONE]"]


def test_a_name_belongs_to_the_line_behind_it() -> None:
    stream = b"event: a\ndata: {1}\nevent: b\ndata: {2}\n\n"
    for cut in range(len(stream)):
        assert read(stream[:cut], stream[cut:]) == [
            NamedEvent("a", b"{1}"),
            NamedEvent("b", b"{2}"),
        ]


def test_elsewhere_they_are_one_event() -> None:
    assert read(b"data: {1}\ndata: {2}\n\n", objects=False) == [b"{1}\n{2}"]


TOKENS = [
    *("data: {}\n", "data:{1}\n", "data: [DONE]\n", 'data: {"a":\n', "data: 1}\n", "data: x\n"),
    *("event: e\n", ": ping\n", ": }\n", "id: 1\n", "\n", "data: {2}\n\n", "data: {}", "data"),
]


@given(st.lists(st.sampled_from(TOKENS), max_size=12).map("".join), st.data())
def test_any_splits_give_the_same(stream: str, data: st.DataObject) -> None:
    whole = stream.encode()
    cuts = data.draw(st.lists(st.integers(0, len(whole)), max_size=8))
    fed = [whole[a:b] for a, b in itertools.pairwise([0, *sorted(cuts), len(whole)])]
    # An empty line ends what is left, so nothing is merely late.
    assert read(*fed, b"\n\n") == read(whole, b"\n\n") == read(whole + b"\n\n")


@given(
    st.lists(
        st.lists(st.dictionaries(st.text(max_size=3), st.integers(), max_size=2), min_size=1),
        max_size=4,
    ),
    st.integers(1, 9),
)
def test_they_are_what_proper_ones_would_be(blocks: list[list[dict[str, int]]], size: int) -> None:
    texts = [[json.dumps(each).encode() for each in block] for block in blocks]
    single = b"\n".join(b"".join(b"data: %b\n" % text for text in block) for block in texts)
    proper = b"".join(b"data: %b\n\n" % text for block in texts for text in block)
    fed = [single[start : start + size] for start in range(0, len(single), size)]
    assert read(*fed, b"\n") == read(proper)


def test_time_is_linear_whatever_the_splits() -> None:
    def bytewise(size: int) -> None:
        stream = b"data: {}\n" * (size // 9)
        pieces = [stream[at : at + 1] for at in range(len(stream))]
        assert len(read(*pieces)) == size // 9

    def one_event(size: int) -> None:
        assert read(*[b'data: "x"\n'] * (size // 10)) == []

    assert growth(bytewise, small=20_000) < 3
    assert growth(one_event, small=20_000) < 3
    assert growth(lambda size: read(b"data: {}\n" * size), small=10_000) < 3
