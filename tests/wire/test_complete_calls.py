"""Which calls are complete while others still come: each one is given once, and none too early."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._wire.accumulate import Accumulator
from penstock._wire.tool_calls import ToolCalls
from penstock.types import (
    ChatCompletionChunk,
    ChoiceDelta,
    ChunkChoice,
    FunctionDelta,
    ToolCall,
    ToolCallDelta,
)

from .linear import growth

PARIS, ROME = '{"city":"Paris"}', '{"city":"Rome"}'


def piece(
    index: int | None = None,
    id: str | None = None,
    name: str | None = None,
    arguments: str | None = None,
) -> ToolCallDelta:
    return ToolCallDelta(index=index, id=id, function=FunctionDelta(name, arguments))


def taken(calls: ToolCalls, *, finished: bool = False, ended: bool = False) -> list[str]:
    return list(_taken(calls, finished, ended))


def _taken(calls: ToolCalls, finished: bool, ended: bool) -> Iterable[str]:
    while (call := calls.take_complete(finished=finished, ended=ended)) is not None:
        yield call.function.arguments


def test_a_call_is_complete_when_the_next_is_opened() -> None:
    calls = ToolCalls()
    calls.add(piece(0, "a", "weather", ""))
    calls.add(piece(0, arguments=PARIS[:5]))
    assert taken(calls) == []
    calls.add(piece(0, arguments=PARIS[5:]))
    assert taken(calls) == []
    calls.add(piece(1, "b", "weather", ""))
    assert taken(calls) == [PARIS]
    calls.add(piece(1, arguments=ROME))
    assert taken(calls) == []
    assert taken(calls, finished=True) == [ROME]
    assert taken(calls, finished=True, ended=True) == []


def test_calls_whose_pieces_come_in_turns_are_not_complete_too_early() -> None:
    calls = ToolCalls()
    calls.add(piece(0, "a", "weather", ""))
    calls.add(piece(1, "b", "weather", ""))
    assert taken(calls) == []
    calls.add(piece(0, arguments=PARIS[:5]))
    calls.add(piece(1, arguments=ROME[:5]))
    assert taken(calls) == []
    calls.add(piece(0, arguments=PARIS[5:]))
    assert taken(calls) == [PARIS]
    calls.add(piece(1, arguments=ROME[5:]))
    assert taken(calls, finished=True) == [ROME]


def test_a_finish_reason_before_the_last_pieces_completes_nothing_that_is_not_whole() -> None:
    calls = ToolCalls()
    calls.add(piece(0, "a", "weather", PARIS[:5]))
    assert taken(calls, finished=True) == []
    calls.add(piece(0, arguments=PARIS[5:]))
    assert taken(calls, finished=True) == [PARIS]


def test_the_end_completes_every_call_whatever_its_arguments_are() -> None:
    calls = ToolCalls()
    calls.add(piece(0, "a", "now", ""))
    calls.add(piece(1, "b", "weather", '{"city'))
    calls.add(piece(2, "c", "weather", "[1]"))
    assert taken(calls, finished=True) == []
    assert taken(calls, finished=True, ended=True) == ["", '{"city', "[1]"]
    assert taken(calls, finished=True, ended=True) == []


def test_nothing_comes_of_nothing() -> None:
    assert ToolCalls().take_complete(finished=True, ended=True) is None
    assert Accumulator().take_complete_call(ended=True) is None


def test_what_is_given_is_what_the_whole_has() -> None:
    calls = ToolCalls()
    calls.add(ToolCallDelta(0, "a", "function", FunctionDelta("weather", PARIS)))
    assert [calls.take_complete(finished=True, ended=False)] == calls.whole()


# --- of a choice ---


def chunk(*pieces: ToolCallDelta, index: int = 0, finish: str | None = None) -> ChatCompletionChunk:
    delta = ChoiceDelta(tool_calls=list(pieces) or None)
    return ChatCompletionChunk(
        choices=[ChunkChoice(index=index, delta=delta, finish_reason=finish)]
    )


def test_those_of_the_first_choice_alone() -> None:
    answer = Accumulator()
    answer.extend([chunk(piece(0, "x", "weather", ROME), index=1, finish="tool_calls")])
    assert answer.take_complete_call(ended=True) is None
    answer.extend([chunk(piece(0, "a", "weather", PARIS))])
    assert answer.take_complete_call(ended=False) is None
    answer.extend([chunk(finish="tool_calls")])
    call = answer.take_complete_call(ended=False)
    assert call is not None
    assert (call.id, call.function.arguments) == ("a", PARIS)
    assert answer.take_complete_call(ended=True) is None


@given(
    texts=st.lists(st.sampled_from([PARIS, ROME, "{}", "", '{"a":{"b":"}"}}', '{"cut'])),
    cuts=st.lists(st.integers(1, 6), min_size=40, max_size=40),
    looked=st.lists(st.booleans(), min_size=200, max_size=200),
)
def test_however_the_pieces_fall(texts: list[str], cuts: list[int], looked: list[bool]) -> None:
    sizes, looks = iter(cuts * 20), iter(looked * 20)
    answer = Accumulator()
    given: list[ToolCall] = []

    def look(ended: bool = False) -> None:
        while (call := answer.take_complete_call(ended=ended)) is not None:
            given.append(call)

    for index, text in enumerate(texts):
        answer.extend([chunk(piece(index, f"c{index}", "f", ""))])
        rest = text
        while rest:
            size = next(sizes)
            answer.extend([chunk(piece(index, arguments=rest[:size]))])
            rest = rest[size:]
            if next(looks):
                look()
    answer.extend([chunk(finish="tool_calls")])
    look(ended=True)
    assert sorted(call.id or "" for call in given) == sorted(f"c{n}" for n in range(len(texts)))
    assert {call.id: call.function.arguments for call in given} == {
        f"c{index}": text for index, text in enumerate(texts)
    }


@pytest.mark.sampled(0.34)
@pytest.mark.parametrize("arguments", ["{", "{}"])
@pytest.mark.parametrize("ended", [False, True])
def test_asking_after_each_piece_of_many_calls_takes_linear_time(
    arguments: str, ended: bool
) -> None:
    def work(count: int) -> None:
        calls = ToolCalls()
        for number in range(count):
            calls.add(piece(number, f"c{number}", "f", arguments))
            calls.take_complete(finished=False, ended=False)
        for number in range(count):
            calls.add(piece(number, arguments=" "))
            calls.take_complete(finished=True, ended=False)
        while calls.take_complete(finished=True, ended=ended):
            pass

    assert growth(work, small=400) < 3


some_pieces = st.builds(
    piece,
    st.sampled_from([None, 0, 1, 2]),
    st.sampled_from([None, "a", "b"]),
    st.sampled_from([None, "f"]),
    st.sampled_from(["", "{", "}", "{}", " ", "x"]),
)


@given(st.lists(some_pieces, max_size=10), st.integers(0, 10), st.lists(st.booleans(), max_size=10))
def test_whenever_it_is_asked_it_is_the_first_that_is_complete(
    pieces: list[ToolCallDelta], finish_at: int, asked: list[bool]
) -> None:
    calls = ToolCalls()
    given_before: list[int] = []

    def assert_first(*, finished: bool, ended: bool) -> None:
        opened = calls._calls
        complete = (
            number
            for number, call in enumerate(opened)
            if number not in given_before
            and (ended or finished or call is not opened[-1])
            and (ended or _is_object("".join(call.arguments)))
        )
        expected = next(complete, None)
        call = calls.take_complete(finished=finished, ended=ended)
        assert call == (None if expected is None else opened[expected].whole())
        if expected is not None:
            given_before.append(expected)

    for count, one in enumerate(pieces):
        calls.add(one)
        if count < len(asked) and asked[count]:
            assert_first(finished=count >= finish_at, ended=False)
    for _ in range(len(calls) + 1):
        assert_first(finished=True, ended=False)
    for _ in range(len(calls) + 1):
        assert_first(finished=True, ended=True)
    assert len(given_before) == len(calls)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
