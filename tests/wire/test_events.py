"""Events of any endpoint: each case is fed whole, cut at every byte, and byte by byte."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._wire.events import Event, EventDecoder
from penstock.errors import APIResponseError, IncompleteStreamError, PenstockError, StreamError

from .pieces import in_pieces

SSE = "text/event-stream"


def read(
    pieces: list[bytes], done: Collection[str] = (), content_type: str | None = SSE
) -> tuple[list[Event], PenstockError | None, int]:
    decoder = EventDecoder(content_type, done, max_event_bytes=1 << 20)
    events: list[Event] = []
    for piece in pieces:
        fresh = decoder.feed(piece)
        assert decoder.token_seen == bool(fresh)
        assert not decoder.finished_all
        events += fresh
    assert decoder.end() == []
    assert decoder.done == (decoder.error is None)
    assert decoder.feed(b"data: late\n\n") == []
    return events, decoder.error, decoder.events


def outcome_of(
    body: str, done: Collection[str] = (), content_type: str | None = SSE
) -> tuple[list[Event], PenstockError | None]:
    data = body.encode()
    events, error, count = read([data], done, content_type)
    assert count == len(events)
    for pieces in in_pieces(data):
        again, same, _ = read(pieces, done, content_type)
        assert again == events, pieces
        assert (type(same), str(same)) == (type(error), str(error)), pieces
    return events, error


def named(name: str, payload: Any, id: str | None = None) -> str:
    said = payload if isinstance(payload, str) else json.dumps(payload)
    return f"event: {name}\n" + (f"id: {id}\n" if id is not None else "") + f"data: {said}\n\n"


def plain(payload: Any) -> str:
    return f"data: {payload if isinstance(payload, str) else json.dumps(payload)}\n\n"


def test_names_data_and_ids() -> None:
    body = plain("a") + named("x", {"n": 1}, id="7") + ": ping\n\n" + plain("b") + named("y", "c")
    events, error = outcome_of(body)
    assert error is None
    assert events == [
        Event("message", b"a"),
        Event("x", b'{"n": 1}', "7"),
        Event("message", b"b", "7"),  # the last id stays, as WHATWG says
        Event("y", b"c", "7"),
    ]
    assert events[1].json() == {"n": 1}


def test_data_of_several_lines_is_one_event() -> None:
    assert outcome_of('data: {"a": 1}\ndata: {"b": 2}\n\n')[0] == [
        Event("message", b'{"a": 1}\n{"b": 2}')
    ]


@pytest.mark.parametrize("data", [b"", b"sk-secret", b'{"sk-secret', b"sk-secret \xff"])
def test_data_that_is_not_json(data: bytes) -> None:
    with pytest.raises(APIResponseError, match=f"of {len(data)} bytes is not JSON") as caught:
        Event("x", data).json()
    # Nothing masks the key here; the data itself is at hand.
    assert "sk-secret" not in f"{caught.value} {vars(caught.value)}"
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_an_event_is_a_value() -> None:
    event = Event("x", b"1", "2")
    assert event == Event("x", b"1", "2")
    assert msgspec.structs.asdict(event) == {"event": "x", "data": b"1", "id": "2"}
    with pytest.raises(AttributeError):
        event.event = "y"  # type: ignore[misc]


class TestWhereItEnds:
    @pytest.mark.parametrize("done", [(), ("stop",), ("other", "stop")])
    def test_the_sentinel_always_ends_it(self, done: Collection[str]) -> None:
        for sentinel in ("data: [DONE]\n\n", "data:[DONE] \r\n\r\n", "event: x\ndata: [DONE]\n\n"):
            events, error = outcome_of(plain("a") + sentinel + plain("late"), done)
            assert (events, error) == ([Event("message", b"a")], None)

    @pytest.mark.parametrize(
        "sentinel", ["data: [DONE]\n", "data: [DONE]", "id: 1\rdata: [DONE]\r"]
    )
    def test_it_needs_no_empty_line(self, sentinel: str) -> None:
        assert outcome_of(plain("a") + sentinel, ("stop",))[1] is None

    def test_a_named_ending_is_handed_out_and_is_the_last(self) -> None:
        body = named("delta", {"t": "a"}) + named("stop", {}) + named("late", {})
        events, error = outcome_of(body, ("stop",))
        assert [event.event for event in events] == ["delta", "stop"]
        assert error is None

    def test_without_names_a_proper_end_is_an_end(self) -> None:
        for body in (plain("a"), plain("a") + ": ping\n\n", plain("a") + "data: cut"):
            assert outcome_of(body) == ([Event("message", b"a")], None)

    def test_with_names_any_other_end_is_incomplete(self) -> None:
        for last in ("", named("stopped", {}), "event: stop\ndata: {}\n", "event: stop\n\n"):
            events, error = outcome_of(named("delta", {}) + last, ("stop", "fin"))
            assert type(error) is IncompleteStreamError
            assert f"after {len(events)} events" in str(error)
            assert "without fin, stop" in str(error)

    def test_no_event_at_all(self) -> None:
        assert outcome_of("") == ([], None)
        assert type(outcome_of("", ("stop",))[1]) is IncompleteStreamError


class TestErrors:
    @pytest.mark.parametrize(
        ("event", "said", "code"),
        [
            (
                named("error", {"type": "error", "error": {"type": "t", "message": "no"}}),
                "no",
                None,
            ),
            (named("error", {"message": "no", "code": 5}), "no", 5),
            (named("error", "plain words"), "plain words", None),
            (named("error", ""), "", None),
            (plain({"error": {"message": "no", "code": "c"}}), "no", "c"),
            (plain({"error": "no"}), "no", None),
            (plain({"type": "error", "message": "no", "code": "c"}), "no", "c"),
            (named("x", {"type": "error", "message": "no"}), "no", None),
        ],
    )
    def test_inside(self, event: str, said: str, code: Any) -> None:
        events, error = outcome_of(plain("a") + event + plain("b") + plain("[DONE]"), ("stop",))
        if not said:  # empty data is no event
            assert error is None
            return
        assert type(error) is StreamError
        assert said in str(error)
        assert error.code == code
        assert events == [Event("message", b"a")]

    @pytest.mark.parametrize(
        "payload",
        [
            {"error": None},
            {"error": False, "stop": True},
            {"response": {"error": {"message": "of another"}}},
            {"text": 'they said "error"'},
            {"type": "errors"},
            '["error"]',
            '"error"',
            'not JSON, "error"',
        ],
    )
    def test_what_is_none(self, payload: Any) -> None:
        events, error = outcome_of(plain(payload))
        assert error is None
        assert len(events) == 1


class TestOtherBodies:
    @pytest.mark.parametrize("content_type", ["application/json", None])
    def test_an_error_in_json(self, content_type: str | None) -> None:
        error = outcome_of('{"error": {"message": "boom"}}', (), content_type)[1]
        assert type(error) is StreamError
        assert str(error) == "boom"

    @pytest.mark.parametrize("body", ["<html>no</html>", '{"answer": 1}', "words", ""])
    def test_something_else(self, body: str) -> None:
        events, error = outcome_of(body, (), "text/plain")
        assert events == []
        assert type(error) is APIResponseError

    @pytest.mark.parametrize("content_type", ["application/json", "text/plain", None])
    def test_events_of_an_odd_type_are_read(self, content_type: str | None) -> None:
        for before in ("", "\ufeff", ": ping\n\n", "\n"):
            assert outcome_of(before + plain("a"), (), content_type)[1] is None

    def test_a_long_body_is_not_read_to_its_end(self) -> None:
        decoder = EventDecoder("video/mp4")
        errors: list[PenstockError | None] = []
        for piece in (b"x" * 65_535, b"x"):
            assert decoder.feed(piece) == []
            errors.append(decoder.error)
        assert errors[0] is None
        assert type(errors[1]) is APIResponseError

    def test_an_event_over_the_bound(self) -> None:
        decoder = EventDecoder(SSE, max_event_bytes=50)
        assert decoder.feed(b"data: a\n\ndata: " + b"x" * 60) == [Event("message", b"a")]
        assert type(decoder.error) is APIResponseError
        assert "50 bytes" in str(decoder.error)


bodies = st.lists(
    st.sampled_from(
        [
            plain("a"), named("x", {"n": 1}), named("stop", {}), named("error", "no"),
            plain({"error": "no"}), plain({"error": None}), plain("[DONE]"), ": ping\n\n",
            "id: 3\n", "event: x\n", "\n", "\r", "\r\n", "data", "data: {}\n", "\ufeff", "<html>",
        ]
    ),
    max_size=8,
).map("".join)  # fmt: skip


@given(bodies, st.sampled_from([SSE, None]), st.sampled_from([(), ("stop",)]), st.data())
def test_any_body_comes_out_the_same_however_it_is_cut(
    body: str, content_type: str | None, done: Collection[str], data: st.DataObject
) -> None:
    whole = body.encode()
    places = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[a:b] for a, b in zip([0, *places], [*places, len(whole)], strict=True)]
    events, error, count = read([whole], done, content_type)
    again, same, counted = read(pieces, done, content_type)
    assert (again, type(same), str(same), counted) == (events, type(error), str(error), count)


@given(bodies, st.sampled_from([(), ("stop",)]), st.integers(0, 200))
def test_what_a_cut_body_gives_is_a_prefix(body: str, done: Collection[str], cut: int) -> None:
    data = body.encode()
    events, _, _ = read([data], done)
    part, _, _ = read([data[:cut]], done)
    assert events[: len(part)] == part
