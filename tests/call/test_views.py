"""A stream seen as its text or as its tool calls: nothing added, nothing lost, no generator."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, cast

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import CompletionStream, Function, ToolCall
from penstock._call.views import TextView, ToolCallView, content_of
from penstock._wire.decode import decode_chunk
from penstock.types import ChatCompletionChunk
from tests.invariants.virtual_uvloop import virtual_backend as anyio_backend

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio


def chunk_of(*deltas: tuple[int, str | None]) -> ChatCompletionChunk:
    """A chunk with the content of these choices."""
    choices = [{"index": index, "delta": {"content": text}} for index, text in deltas]
    return decode_chunk(msgspec.json.encode({"choices": choices}))


class Steps:
    """What a view reads: chunks with the calls that they complete, errors, an end."""

    def __init__(self, steps: Iterable[Any]) -> None:
        self._steps = list(steps)
        self._calls: list[ToolCall] = []
        self.at_the_end: list[ToolCall] = []

    async def __anext__(self) -> ChatCompletionChunk:
        if not self._steps:
            self._calls += self.at_the_end
            self.at_the_end = []
            raise StopAsyncIteration
        step = self._steps.pop(0)
        if isinstance(step, Exception):
            raise step
        if isinstance(step, list):
            self._calls += step
            return chunk_of()
        chunk: ChatCompletionChunk = step
        return chunk

    def take_tool_call(self) -> ToolCall | None:
        return self._calls.pop(0) if self._calls else None


class SlowSteps(Steps):
    """The same with pauses, which are numbers among the steps."""

    _due: float | None = None

    async def __anext__(self) -> ChatCompletionChunk:
        while self._steps and isinstance(self._steps[0], float):
            # A read that was cancelled does not begin the pause anew.
            self._due = self._due or anyio.current_time() + self._steps[0]
            if anyio.current_time() < self._due:
                await anyio.sleep_until(self._due)
            self._steps.pop(0)
            self._due = None
        return await super().__anext__()


def text_of(source: Steps) -> TextView[Any]:
    return TextView(cast("CompletionStream[Any]", source), content_of)


def calls_of(source: Steps) -> ToolCallView:
    return ToolCallView(cast("CompletionStream[Any]", source))


def call(name: object) -> ToolCall:
    return ToolCall(id=str(name), function=Function(name="f", arguments="{}"))


CHOICES = st.tuples(st.integers(0, 2), st.none() | st.sampled_from(["", "a", "bc", " "]))


@given(chunks=st.lists(st.lists(CHOICES, max_size=3, unique_by=lambda choice: choice[0])))
async def test_the_text_is_choice_0s_and_never_empty(
    chunks: list[list[tuple[int, str | None]]],
) -> None:
    view = text_of(Steps(chunk_of(*choices) for choices in chunks))
    pieces = [piece async for piece in view]
    assert pieces == [text for choices in chunks for index, text in choices if not index and text]
    with pytest.raises(StopAsyncIteration):
        await anext(view)


@given(batches=st.lists(st.integers(0, 3), max_size=6), late=st.integers(0, 2))
async def test_every_call_comes_once_in_its_order(batches: list[int], late: int) -> None:
    names = iter(range(100))
    source = Steps([[call(next(names)) for _ in range(n)] for n in batches])
    source.at_the_end = [call(next(names)) for _ in range(late)]
    view = calls_of(source)
    assert [each.id async for each in view] == [str(n) for n in range(sum(batches) + late)]
    with pytest.raises(StopAsyncIteration):
        await anext(view)


async def test_a_call_that_is_there_is_not_waited_for() -> None:
    view = calls_of(SlowSteps([[call(1), call(2)], 1000.0]))
    assert [(await anext(view)).id for _ in range(2)] == ["1", "2"]
    assert anyio.current_time() < 1000


@pytest.mark.parametrize("kind", ["text", "calls"])
async def test_an_error_ends_no_view(kind: str) -> None:
    # As of the stream: what comes after is the stream's to say.
    if kind == "text":
        view: Any = text_of(Steps([chunk_of((0, "a")), ZeroDivisionError(), chunk_of((0, "b"))]))
        expected = ["a", "b"]
    else:
        view = calls_of(Steps([[call("a")], ZeroDivisionError(), [call("b")]]))
        expected = ["a", "b"]
    found = [await anext(view)]
    with pytest.raises(ZeroDivisionError):
        await anext(view)
    found += [each async for each in view]
    assert [getattr(each, "id", each) for each in found] == expected


@pytest.mark.parametrize("patience", [0.0, 0.3, 0.7])
async def test_a_cancelled_read_loses_nothing(patience: float) -> None:
    texts = [step for letter in "abc" for step in (1.0, chunk_of((0, letter)), chunk_of((1, "x")))]
    calls = [step for name in "abc" for step in (1.0, [call(name)], [])]
    for view in (text_of(SlowSteps(texts)), calls_of(SlowSteps(calls))):
        found: list[str] = []
        cancelled = 0
        while True:
            try:
                with anyio.move_on_after(patience) as scope:
                    each: Any = await anext(view)
                    found.append(getattr(each, "id", each))
                if scope.cancelled_caught:
                    cancelled += 1
                    await anyio.sleep(0.05)  # within 0 seconds nothing would ever come
            except StopAsyncIteration:
                break
        assert found == ["a", "b", "c"]
        assert cancelled >= 3


async def test_a_view_is_its_own_iterator_and_no_generator() -> None:
    views: list[Any] = [text_of(Steps([])), calls_of(Steps([]))]
    for view in views:
        assert aiter(view) is view
        assert not inspect.isasyncgen(view)
        assert not hasattr(view, "__dict__")
