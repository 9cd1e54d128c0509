"""A transcript is what was put into it, after any number of files; and its replies are the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.testing.cuts import cut_at
from penstock.testing.script import End, Pause, Reply, Reset, Send, Stall
from penstock.testing.transcript import Exchange, ExchangeEnd, Segment, Transcript

if TYPE_CHECKING:
    from pathlib import Path

seconds = st.floats(0, 1000, allow_nan=False)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
exchanges = st.builds(
    Exchange,
    method=st.sampled_from(["GET", "POST"]),
    target=words,
    headers=st.lists(st.tuples(words, words), max_size=3).map(tuple),
    body=st.none() | st.binary(max_size=20),
    segments=st.lists(
        st.builds(Segment, seconds, st.binary(max_size=20) | words.map(str.encode)), max_size=4
    ).map(tuple),
    end=st.sampled_from(["kept", "server closed", "reset", "client closed"]),
    ended_at=seconds,
)


@given(st.lists(exchanges, max_size=3).map(tuple), words)
def test_what_is_written_is_read_again(all_of_them: tuple[Exchange, ...], when: str) -> None:
    transcript = Transcript(all_of_them, when)
    text = transcript.dumps()
    assert Transcript.loads(text) == transcript
    # Lines of JSON also for those who read them with something else.
    assert len([json.loads(line) for line in text.split("\n")[:-1]]) == 1 + sum(
        len(each.segments) + 2 for each in all_of_them
    )


def test_a_file(tmp_path: Path) -> None:
    transcript = Transcript((Exchange("GET", "/v1/models", segments=(Segment(0.5, b"\xff"),)),))
    transcript.save(tmp_path / "run.jsonl")
    assert Transcript.load(tmp_path / "run.jsonl") == transcript


@given(exchanges)
def test_a_reply_has_every_byte_and_in_the_end_every_second(exchange: Exchange) -> None:
    for timed in (True, False):
        reply = exchange.reply(timed=timed)
        assert reply.data == exchange.data
        sent = [step.data for step in reply.steps if isinstance(step, Send)]
        assert sent == [segment.data for segment in exchange.segments]
        waited = sum(step.seconds for step in reply.steps if isinstance(step, Pause))
        times = [0.0, exchange.ended_at, *(segment.at for segment in exchange.segments)]
        assert waited == pytest.approx(max(times) if timed else 0)


@pytest.mark.parametrize(
    ("end", "last"),
    [("server closed", End()), ("reset", Reset()), ("client closed", Stall()), ("kept", None)],
)
def test_the_reply_ends_as_the_exchange_did(end: ExchangeEnd, last: object) -> None:
    exchange = Exchange("GET", "/", segments=(Segment(0.0, b"abc"),), end=end)
    expected = (Send(b"abc"),) if last is None else (Send(b"abc"), last)
    assert exchange.reply().steps == expected
    assert cut_at(exchange.reply(), 2).steps == (Send(b"ab"), Reset())


def test_the_replies_are_a_script() -> None:
    one = Exchange("GET", "/a", segments=(Segment(1.0, b"x"),), ended_at=1.0)
    two = Exchange("GET", "/b", segments=(Segment(0.0, b"y"),))
    transcript = Transcript((one, two))
    assert transcript.replies() == [Reply((Pause(1.0), Send(b"x"))), Reply((Send(b"y"),))]
    assert transcript.replies(timed=False)[0] == Reply((Send(b"x"),))


HEADER = '{"penstock_transcript": 1}\n'
REQUEST = '{"request": {"method": "GET", "target": "/", "headers": []}}\n'
END = '{"at": 0, "end": "kept"}\n'


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 1, "it is empty"),
        ("hello", 1, "JSONDecodeError"),
        ("[]", 1, "an object"),
        ("{}", 1, "penstock_transcript"),
        ('{"penstock_transcript": 2}', 1, "version 2, and this penstock reads 1"),
        (HEADER + END, 2, "a request must come first"),
        (HEADER + REQUEST, 2, "the last exchange has no end"),
        (HEADER + REQUEST + REQUEST, 3, "the exchange before has no end"),
        (HEADER + REQUEST + '{"at": 0, "end": "gone"}', 3, "no way to end: 'gone'"),
        (HEADER + REQUEST + '{"at": 0}', 3, "base64"),
        (HEADER + REQUEST + '{"at": "x", "text": ""}', 3, "could not convert"),
        (HEADER + REQUEST + '{"text": ""}', 3, "at"),
        (HEADER + REQUEST + '{"at": 0, "base64": "?"}', 3, "base64"),
        (HEADER + '{"request": null}\n' + END, 2, "NoneType"),
        (HEADER + REQUEST + "5", 3, "an object"),
    ],
)
def test_what_is_no_transcript_says_where(text: str, line: int, says: str) -> None:
    with pytest.raises(ValueError, match=f"not a transcript, line {line}: ") as caught:
        Transcript.loads(text)
    assert says in str(caught.value)


def test_unknown_members_are_for_later_versions() -> None:
    text = '{"penstock_transcript": 1, "x": 1}\n' + REQUEST + '{"at": 0, "end": "kept", "x": 1}'
    assert Transcript.loads(text).exchanges == (Exchange("GET", "/"),)
