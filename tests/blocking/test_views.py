"""A blocking stream seen as its text or as its tool calls; no generator, which an error ends."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock import Function, ToolCall
from penstock._wire.decode import decode_chunk
from penstock.blocking.views import TextView, ToolCallView
from penstock.types import ChatCompletionChunk

CHOICES = st.tuples(st.integers(0, 2), st.none() | st.sampled_from(["", "a", "bc", " "]))
# The fixture of this folder looks at threads and needs no fresh start.
quickly = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def chunk_of(*deltas: tuple[int, str | None]) -> ChatCompletionChunk:
    choices = [{"index": index, "delta": {"content": text}} for index, text in deltas]
    return decode_chunk(msgspec.json.encode({"choices": choices}))


def call(name: object) -> ToolCall:
    return ToolCall(id=str(name), function=Function(name="f", arguments="{}"))


class Source:
    """What a view reads: chunks, lists of calls that a chunk completes, errors, an end."""

    def __init__(self, steps: Iterable[Any], at_the_end: Iterable[ToolCall] = ()) -> None:
        self._steps = list(steps)
        self._calls: list[ToolCall] = []
        self._at_the_end = list(at_the_end)

    def __next__(self) -> ChatCompletionChunk:
        if not self._steps:
            self._calls += self._at_the_end
            self._at_the_end = []
            raise StopIteration
        step = self._steps.pop(0)
        if isinstance(step, BaseException):
            raise step
        if isinstance(step, list):
            self._calls += step
            return chunk_of()
        chunk: ChatCompletionChunk = step
        return chunk

    def take_tool_call(self) -> ToolCall | None:
        return self._calls.pop(0) if self._calls else None


@quickly
@given(chunks=st.lists(st.lists(CHOICES, max_size=3, unique_by=lambda choice: choice[0])))
def test_the_text_is_choice_0s_and_never_empty(
    chunks: list[list[tuple[int, str | None]]],
) -> None:
    view = TextView(Source(chunk_of(*choices) for choices in chunks))
    expected = [text for choices in chunks for index, text in choices if not index and text]
    assert list(view) == expected
    assert list(view) == []


@quickly
@given(batches=st.lists(st.integers(0, 3), max_size=6), late=st.integers(0, 2))
def test_every_call_comes_once_in_its_order(batches: list[int], late: int) -> None:
    names = iter(range(100))
    steps = [[call(next(names)) for _ in range(n)] for n in batches]
    view = ToolCallView(Source(steps, [call(next(names)) for _ in range(late)]))
    assert [each.id for each in view] == [str(n) for n in range(sum(batches) + late)]
    assert list(view) == []


@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyboardInterrupt()], ids=repr)
def test_reading_goes_on_after_an_error(error: BaseException) -> None:
    texts = TextView(Source([chunk_of((0, "a")), error, chunk_of((0, "b"))]))
    assert next(texts) == "a"
    with pytest.raises(type(error)):
        next(texts)
    assert list(texts) == ["b"]
    calls = ToolCallView(Source([[call(1)], error, [call(2)]]))
    assert next(calls).id == "1"
    with pytest.raises(type(error)):
        next(calls)
    assert [each.id for each in calls] == ["2"]


def test_a_call_that_is_there_needs_no_read() -> None:
    calls = ToolCallView(Source([[call(1), call(2)], ZeroDivisionError()]))
    assert [next(calls).id, next(calls).id] == ["1", "2"]
    with pytest.raises(ZeroDivisionError):
        next(calls)


def test_a_view_is_its_own_iterator_and_no_generator() -> None:
    views: list[Any] = [TextView(Source([])), ToolCallView(Source([]))]
    for view in views:
        assert iter(view) is view
        assert not inspect.isgenerator(view)
