"""Each case is fed whole, cut at every byte, and byte by byte, and has to come out the same."""

from __future__ import annotations

import json
from typing import Any, ClassVar, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._wire.accumulate import Accumulator
from penstock._wire.completion import CompletionDecoder
from penstock._wire.token import has_token
from penstock.errors import APIResponseError, IncompleteStreamError, PenstockError, StreamError
from penstock.types import ChatCompletion, ChatCompletionChunk, Usage

from .pieces import in_pieces

SSE = "text/event-stream"


class Outcome(NamedTuple):
    chunks: list[ChatCompletionChunk]
    answer: ChatCompletion
    error: PenstockError | None
    """What the stream would raise: found while reading, or at the end."""
    done: bool
    finished_all: bool
    events: int

    @property
    def text(self) -> str:
        choices = self.answer.choices
        return (choices[0].message.content or "") if choices else ""


def read(pieces: list[bytes], content_type: str | None, max_event_bytes: int) -> Outcome:
    decoder = CompletionDecoder(content_type, max_event_bytes=max_event_bytes)
    assert not decoder.token_seen
    accumulator = Accumulator()
    chunks: list[ChatCompletionChunk] = []
    for piece in pieces:
        fresh = decoder.feed(piece)
        accumulator.extend(fresh)
        assert decoder.token_seen == any(map(has_token, fresh))
        chunks += fresh
    in_flow = decoder.error
    fresh = decoder.end()
    accumulator.extend(fresh)
    chunks += fresh
    at_end = decoder.error
    assert in_flow is None or at_end is in_flow
    assert decoder.done == (at_end is None)
    assert decoder.feed(b'data: {"choices":[{"delta":{"content":"late"}}]}\n\n') == []
    assert not decoder.token_seen
    assert (decoder.end(), decoder.error) == ([], at_end)
    return Outcome(
        chunks,
        accumulator.completion(),
        at_end,
        decoder.done,
        decoder.finished_all,
        decoder.events,
    )


def comparable(outcome: Outcome) -> Any:
    error = outcome.error
    return outcome._replace(error=None), type(error), str(error), vars(error) if error else None


def outcome_of(
    body: bytes | str, content_type: str | None = SSE, *, max_event_bytes: int = 2**24
) -> Outcome:
    data = body.encode() if isinstance(body, str) else body
    whole = read([data], content_type, max_event_bytes)
    expected = repr(comparable(whole)), comparable(whole)[0]
    for pieces in in_pieces(data):
        outcome = read(pieces, content_type, max_event_bytes)
        same = comparable(outcome)
        assert (repr(same), same[0]) == expected, pieces
    return whole


def event(payload: Any, newline: str = "\n") -> str:
    data = payload if isinstance(payload, str) else json.dumps(payload, separators=(",", ":"))
    return f"data: {data}{newline}{newline}"


def token(
    content: str | None = None, index: int = 0, finish: str | None = None, **more: Any
) -> str:
    choice = {"index": index, "delta": {"content": content}, "finish_reason": finish}
    return event({"choices": [choice], **more})


DONE = event("[DONE]")


def test_a_usual_stream() -> None:
    outcome = outcome_of(
        event({"id": "c1", "choices": [{"index": 0, "delta": {"role": "assistant"}}]})
        + token("Hello")
        + token(" wörld \u2028")
        + token(None, finish="stop")
        + event({"choices": [], "usage": {"total_tokens": 3}})
        + DONE
    )
    assert outcome.error is None
    assert outcome.done
    assert outcome.finished_all
    assert (len(outcome.chunks), outcome.events) == (5, 5)
    assert outcome.text == "Hello wörld \u2028"
    assert outcome.answer.usage == Usage(total_tokens=3)
    assert outcome.chunks[1].raw == token("Hello").removeprefix("data: ").strip().encode()


@pytest.mark.parametrize(("count", "others"), [(8, ""), (9, " and others"), (1000, " and others")])
def test_many_unfinished_choices_make_no_long_message(count: int, others: str) -> None:
    decoder = CompletionDecoder(SSE)
    decoder.feed("".join(token("a", index) for index in range(count)).encode())
    assert decoder.end() == []
    error = decoder.error
    assert isinstance(error, IncompleteStreamError)
    assert str(error).endswith(f" choice 0, 1, 2, 3, 4, 5, 6, 7{others}")


@pytest.mark.parametrize("newline", ["\n", "\r", "\r\n"])
def test_each_line_end(newline: str) -> None:
    outcome = outcome_of(
        "\ufeff: ping" + newline * 2 + event({"choices": [{"delta": {"content": "a"}}]}, newline)
        + event("[DONE]", newline)
    )  # fmt: skip
    assert (outcome.text, outcome.error, outcome.done) == ("a", None, True)


class TestRule1Done:
    @pytest.mark.parametrize(
        "sentinel",
        [
            "data: [DONE]\n\n", "data:[DONE]\n\n", "data:  [DONE] \t\n\n",
            "event: x\ndata: [DONE]\n\n",
            "data: [DONE]\n", "data: [DONE]", ": ping\ndata:[DONE]", "id: 1\rdata: [DONE]\r",
        ],
    )  # fmt: skip
    def test_it_ends_the_answer(self, sentinel: str) -> None:
        outcome = outcome_of(token("a") + sentinel)
        assert (outcome.error, outcome.done, outcome.text) == (None, True, "a")
        assert not outcome.finished_all

    def test_whatever_follows_is_ignored(self) -> None:
        outcome = outcome_of(
            token("a") + DONE + token("b") + event({"error": "late"}) + event("no JSON") + "x"
        )
        assert (outcome.error, outcome.done, outcome.text) == (None, True, "a")
        assert outcome.events == 1

    def test_at_once_and_alone(self) -> None:
        outcome = outcome_of(DONE)
        assert (outcome.error, outcome.done, outcome.chunks) == (None, True, [])

    @pytest.mark.parametrize("data", ["[DONE", "[done]", "DONE", '"[DONE]"'])
    def test_what_is_not_it(self, data: str) -> None:
        outcome = outcome_of(token("a") + event(data))
        assert type(outcome.error) is APIResponseError
        assert not outcome.done


class TestRule2EndWithoutDone:
    def test_every_choice_had_its_reason(self) -> None:
        outcome = outcome_of(token("a", finish="stop") + token("b", 1, finish="length"))
        assert (outcome.error, outcome.done, outcome.finished_all) == (None, True, True)

    def test_one_choice_had_none(self) -> None:
        outcome = outcome_of(token("a", finish="stop") + token("b", 1) + token("c", 7))
        assert type(outcome.error) is IncompleteStreamError
        assert "after 3 events" in str(outcome.error)
        assert "finish_reason of choice 1, 7" in str(outcome.error)
        assert outcome.text == "a"

    @pytest.mark.parametrize("reason", ["", None])
    def test_empty_reasons_are_none(self, reason: str | None) -> None:
        assert type(outcome_of(token("a", finish=reason)).error) is IncompleteStreamError

    def test_text_and_usage_may_follow_the_reason(self) -> None:
        outcome = outcome_of(
            token("a", finish="new_kind")
            + token("b")
            + token(None, finish="")
            + token("c", finish="new_kind")
            + event({"choices": [], "usage": {"total_tokens": 3}})
        )
        assert outcome.error is None
        assert outcome.text == "abc"
        assert outcome.answer.choices[0].finish_reason == "new_kind"

    def test_no_choice_at_all(self) -> None:
        outcome = outcome_of(event({"choices": [], "usage": {"total_tokens": 3}}))
        assert type(outcome.error) is IncompleteStreamError
        assert "without any choice" in str(outcome.error)

    def test_an_unterminated_event_is_discarded(self) -> None:
        outcome = outcome_of(token("a") + token("b", finish="stop").rstrip())
        assert type(outcome.error) is IncompleteStreamError
        assert outcome.text == "a"
        assert outcome_of(token("a", finish="stop") + 'data: {"choi').error is None

    @pytest.mark.parametrize(
        "body", ["", "\n\n", "\ufeff", ": ping\n\n: ping\n\n", "data:\n\n", "dat"]
    )
    def test_an_event_stream_without_events(self, body: str) -> None:
        outcome = outcome_of(body)
        assert type(outcome.error) is IncompleteStreamError
        assert outcome.events == 0


class TestRule3Errors:
    ERROR: ClassVar = {"error": {"message": "overloaded", "type": "t", "param": "p", "code": 503}}

    @pytest.mark.parametrize("more", [{}, {"choices": []}, {"choices": [{"delta": None}]}])
    def test_an_object(self, more: dict[str, Any]) -> None:
        outcome = outcome_of(token("a") + event({**self.ERROR, **more}) + token("b") + DONE)
        error = outcome.error
        assert type(error) is StreamError
        assert str(error) == "503: overloaded"
        assert (error.code, error.type, error.param, error.status_code) == (503, "t", "p", 503)
        assert error.body == {**self.ERROR, **more}
        assert (outcome.text, len(outcome.chunks), outcome.done) == ("a", 1, False)
        assert outcome.events == 2

    def test_a_string(self) -> None:
        error = outcome_of(token("a") + event({"error": "down"})).error
        assert type(error) is StreamError
        assert str(error) == "down"

    def test_object_error(self) -> None:
        flat = {"object": "error", "message": "no", "code": 400, "type": "BadRequestError"}
        error = outcome_of(event(flat)).error
        assert type(error) is StreamError
        assert (str(error), error.status_code) == ("400: no", 400)

    def test_of_an_odd_kind(self) -> None:
        odd = '{"id":7,"choices":null,"x":NaN,"error":{"message":"no"}}'
        error = outcome_of(event(odd)).error
        assert type(error) is StreamError
        assert str(error) == "no"

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ('{"message": "no"}', "no"),
            ('{"error": {"message": "no"}}', "no"),
            ("plain words", "plain words"),
            ("no UTF-8: \udcff", "no UTF-8: \ufffd"),
            ('{"cut', '{"cut'),
            ('{"x": 5}', '{"x": 5}'),
        ],
    )
    def test_a_named_event(self, data: str, message: str) -> None:
        body = token("a") + "event: error\n" + event(data)
        outcome = outcome_of(body.encode("utf-8", "surrogateescape"))
        assert type(outcome.error) is StreamError
        assert str(outcome.error) == message
        assert outcome.text == "a"

    @pytest.mark.parametrize("payload", [{"error": {"x": 5}}, {"x_groq": {"error": {"x": 5}}}])
    def test_one_without_words_shows_the_event(self, payload: dict[str, Any]) -> None:
        error = outcome_of(event(payload)).error
        assert type(error) is StreamError
        assert json.loads(str(error)) == payload

    def test_at_groq(self) -> None:
        error = outcome_of(event({"choices": [], "x_groq": {"error": "over capacity"}})).error
        assert type(error) is StreamError
        assert str(error) == "over capacity"

    def test_tokens_beside_it_come_first(self) -> None:
        outcome = outcome_of(token("a") + token("b", error="no"))
        assert type(outcome.error) is StreamError
        assert outcome.text == "ab"
        assert len(outcome_of(token("", finish="error", error="no")).chunks) == 0

    @pytest.mark.parametrize("nothing", [None, "", {}, [], False])
    def test_what_is_none(self, nothing: Any) -> None:
        outcome = outcome_of(token("a", finish="stop", error=nothing, x_groq={"error": nothing}))
        assert outcome.error is None
        assert outcome.text == "a"


class TestRule4NoEventStream:
    @pytest.mark.parametrize("content_type", [SSE, "application/json", None])
    def test_a_json_error(self, content_type: str | None) -> None:
        error = outcome_of('{\n "error": {"message": "no", "code": "c"}\n}\n', content_type).error
        assert type(error) is StreamError
        assert str(error) == "c: no"

    @pytest.mark.parametrize("content_type", [SSE, "application/json", None])
    @pytest.mark.parametrize(
        ("body", "said"),
        [
            ('{"object":"chat.completion","choices":[{}]}', "ignores stream=true"),
            ("<!doctype html>\n\n<title>Log in</title>\n\n", "Log in"),
            ("Internal error\n", "Internal error"),
            ('{"choices":[]}\n{"choices":[]}\n', "not an event stream"),
        ],
    )
    def test_other_bodies(self, content_type: str | None, body: str, said: str) -> None:
        outcome = outcome_of(body, content_type)
        assert type(outcome.error) is APIResponseError
        assert said in str(outcome.error)
        assert outcome.error.body is not None
        assert outcome.chunks == []

    @pytest.mark.parametrize("body", ["", "\n", "dat", "\ufeff"])
    def test_an_empty_body_that_was_not_declared(self, body: str) -> None:
        assert type(outcome_of(body, "application/json").error) is APIResponseError

    @pytest.mark.parametrize("content_type", [None, "", "text/plain", "application/json"])
    @pytest.mark.parametrize(
        "prefix", ["", "\ufeff", "\r\n\n", ": ping\n\n", "id: 1\n", "event: x\n"]
    )
    def test_events_of_an_odd_type_are_read(self, content_type: str | None, prefix: str) -> None:
        outcome = outcome_of(prefix + token("a") + DONE, content_type)
        assert (outcome.error, outcome.text) == (None, "a")

    def test_declared_events_are_read_after_an_unknown_field(self) -> None:
        outcome = outcome_of("x: y\n" + token("a") + DONE)
        assert (outcome.error, outcome.text) == (None, "a")

    def test_a_long_body_is_not_read_to_its_end(self) -> None:
        decoder = CompletionDecoder("video/mp4")
        errors: list[PenstockError | None] = []
        for piece in (b"x" * 65_535, b"x"):
            assert decoder.feed(piece) == []
            errors.append(decoder.error)
        assert errors[0] is None
        assert type(errors[1]) is APIResponseError
        assert "video/mp4" in str(errors[1])
        assert (decoder.end(), decoder.error) == ([], errors[1])

    def test_a_long_body_declared_as_events_takes_bounded_memory(self) -> None:
        decoder = CompletionDecoder(SSE)
        for _ in range(100):
            decoder.feed(b"x\n\n" * 10_000)
        assert decoder._head is not None
        assert len(decoder._head) == 65_536
        assert decoder.end() == []
        assert isinstance(decoder.error, APIResponseError)

    @pytest.mark.parametrize("before", [" ", "\t", "x", "X", "\n ", "\ufeff\ufeff"])
    def test_a_field_begins_its_line(self, before: str) -> None:
        assert type(outcome_of(before + token("a"), None).error) is APIResponseError

    def test_blanks_without_end_are_no_event_stream(self) -> None:
        assert type(outcome_of("\n" * 1100 + token("a"), None).error) is APIResponseError

    def test_a_field_begins_within_1024_bytes(self) -> None:
        for blanks, error in ((1020, IncompleteStreamError), (1021, APIResponseError)):
            assert type(read([b"\n" * blanks + b"dat"], SSE, 2**24).error) is error


class TestRule5AndRule10OddChunks:
    @pytest.mark.parametrize(
        "odd",
        [
            {"choices": None}, {}, {"choices": []}, {"id": None, "model": "", "created": 1.5},
            {"choices": [{"delta": None}]}, {"choices": [{}]},
        ],
    )  # fmt: skip
    def test_they_break_nothing(self, odd: dict[str, Any]) -> None:
        outcome = outcome_of(token("a") + event(odd) + token("b") + DONE)
        assert (outcome.error, outcome.text, len(outcome.chunks)) == (None, "ab", 3)

    def test_what_msgspec_refuses(self) -> None:
        body = (
            rb'data: {"choices":[{"delta":{"content":"a\ud83d"}}],"x":NaN}' + b"\n\n"
            b'data: {"choices":[{"index":0.0,"delta":{"content":"\xff\xe2"}}]}\n\n'
            b"data: [DONE]\n\n"
        )
        outcome = outcome_of(body)
        assert (outcome.error, outcome.text) == (None, "a\ufffd\ufffd\ufffd")

    def test_json_over_several_lines(self) -> None:
        outcome = outcome_of(
            'data: {"choices":\ndata: [{"delta":\ndata:{"content":"a"}}]}\n\n' + DONE
        )
        assert (outcome.error, outcome.text) == (None, "a")

    def test_null_before_an_answer(self) -> None:
        # llama.cpp sends it before the first chunk of several choices.
        outcome = outcome_of(event("null") + token("a") + DONE)
        assert (outcome.error, outcome.text, len(outcome.chunks)) == (None, "a", 1)
        assert type(outcome_of(event("null")).error) is IncompleteStreamError

    def test_blanks_around_the_json(self) -> None:
        outcome = outcome_of(
            event('   {"choices":[{"delta":{"content":"a"}}]}  ') + event(" ") + DONE
        )
        assert (outcome.error, outcome.text) == (None, "a")

    @pytest.mark.parametrize(
        "data", ['{"choices"', "{]", "5", "null", "ping", "[1]", '{"x":' + "[" * 3000]
    )
    def test_bad_json_is_an_error_after_what_came_before(self, data: str) -> None:
        decoder = CompletionDecoder(SSE)
        chunks = decoder.feed((token("a") + event(data) + token("b")).encode())
        assert [chunk.choices[0].delta.content for chunk in chunks] == ["a"]
        assert decoder.token_seen
        error = decoder.error
        assert type(error) is APIResponseError
        assert str(error).startswith("an event is not")
        assert error.body == data
        assert (decoder.end(), decoder.error) == ([], error)

    @pytest.mark.parametrize("depth", [100, 500, *range(900, 1000, 3), 3000])
    def test_feed_raises_at_no_depth(self, depth: int) -> None:
        deep = "[" * depth + "]" * depth
        for member in ("error", "x", "object", "choices"):
            for prefix in ("", "event: error\n", "event: x\n"):
                for number in ("1", "NaN"):
                    decoder = CompletionDecoder(SSE)
                    body = f'{{"{member}":{deep},"n":{number}}}'
                    decoder.feed((prefix + event(body)).encode())
                    decoder.end()
                    CompletionDecoder(None).feed(body.encode())

    def test_every_cut_of_bad_json(self) -> None:
        outcome = outcome_of(token("a") + event('{"choices') + token("b"))
        assert type(outcome.error) is APIResponseError
        assert outcome.text == "a"


class TestNamedEvents:
    def test_a_name_says_nothing(self) -> None:
        named = "".join(f"event: {name}\n" + token(name) for name in ("message", "chunk", ""))
        assert outcome_of(named + DONE).text == "messagechunk"

    @pytest.mark.parametrize("data", ["ok", "5", '{"type":"ping"}', "{}", "[1]"])
    def test_what_is_no_chunk_is_passed_over(self, data: str) -> None:
        outcome = outcome_of(token("a") + "event: ping\n" + event(data) + token("b") + DONE)
        assert (outcome.error, outcome.text, len(outcome.chunks)) == (None, "ab", 2)

    def test_usage_and_errors_are_not(self) -> None:
        outcome = outcome_of("event: x\n" + event({"usage": {"total_tokens": 3}}) + DONE)
        assert outcome.answer.usage == Usage(total_tokens=3)
        errors = [
            {"object": "error"},
            {"object": "chat.completion.chunk", "error": "no"},
            {"choices": [], "x_groq": {"error": "no"}},
            {"choices": [{"delta": {}}], "error": "no"},
        ]
        for payload in errors:
            assert type(outcome_of("event: x\n" + event(payload)).error) is StreamError

    def test_an_error_of_a_foreign_event_is_its_own(self) -> None:
        foreign = "event: mcp_tool_result\n" + event({"error": "tool not found"})
        outcome = outcome_of(token("a") + foreign + token("b", finish="stop") + DONE)
        assert (outcome.error, outcome.text) == (None, "ab")
        for alone in (foreign, foreign + DONE, event({"usage": None}) + foreign + DONE):
            error = outcome_of(alone).error
            assert type(error) is StreamError
            assert "tool not found" in str(error)

    def test_a_broken_object_is_an_error(self) -> None:
        assert type(outcome_of("event: x\n" + event('{"choi')).error) is APIResponseError


class TestSize:
    def test_an_event_over_the_bound(self) -> None:
        outcome = outcome_of(token("a") + token("b" * 200) + DONE, max_event_bytes=150)
        assert type(outcome.error) is APIResponseError
        assert "150 bytes" in str(outcome.error)
        assert outcome.text == "a"

    def test_an_event_over_the_bound_after_the_end(self) -> None:
        outcome = outcome_of(token("a") + DONE + "x" * 200, max_event_bytes=150)
        assert (outcome.error, outcome.done) == (None, True)

    def test_an_earlier_error_stays(self) -> None:
        outcome = outcome_of(event({"error": "no"}) + "x" * 200, max_event_bytes=150)
        assert type(outcome.error) is StreamError


bodies = st.lists(
    st.sampled_from(
        [
            token("a"), token("b", 1), token(None, finish="stop"), token("", 1, finish="length"),
            event({"error": "no"}), event({"choices": None}), event("{"), event(" "), DONE,
            ": ping\n\n", "event: error\n", "event: x\n", "\n", "\r", "\r\n", "data", "x: y\n",
            "{}", "\ufeff", "data: {}\ndata:\n\n", "<html>",
        ]
    ),
    max_size=8,
).map("".join)  # fmt: skip


@given(bodies | st.binary(max_size=60), st.sampled_from([SSE, None]), st.data())
def test_any_body_comes_out_the_same_however_it_is_cut(
    body: str | bytes, content_type: str | None, data: st.DataObject
) -> None:
    whole = body.encode() if isinstance(body, str) else body
    places = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[a:b] for a, b in zip([0, *places], [*places, len(whole)], strict=True)]
    outcome = read([whole], content_type, 2**24)
    assert repr(comparable(read(pieces, content_type, 2**24))) == repr(comparable(outcome))
    # Promise 1: no error means that the server finished.
    assert outcome.error is not None or outcome.done or outcome.finished_all


@given(bodies, st.integers(0, 200))
def test_the_text_of_a_cut_body_is_a_prefix(body: str, cut: int) -> None:
    data = body.encode()
    whole = read([data], SSE, 2**24)
    part = read([data[:cut]], SSE, 2**24)
    assert [c.raw for c in whole.chunks[: len(part.chunks)]] == [c.raw for c in part.chunks]
