"""A stack is remembered, and told by the user's own frames."""

from __future__ import annotations

import json
import types
from typing import TYPE_CHECKING

from penstock.testing.stacks import Stack, capture, describe, suspended

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator


def outer() -> Stack:
    return inner()


def inner() -> Stack:
    return capture()


def test_the_innermost_frames_last_as_in_a_traceback() -> None:
    text = describe(outer(), frames=2)
    lines = text.splitlines()
    assert [line.rpartition(" in ")[2] for line in lines[::2]] == ["outer", "inner"]
    assert lines[3].strip() == "return capture()"
    assert __file__ in lines[0]


def test_frames_of_libraries_are_left_out() -> None:
    stacks: list[Stack] = []

    def hook(pairs: object) -> object:
        stacks.append(capture())
        return pairs

    json.loads('{"a": 1}', object_pairs_hook=hook)
    assert "json" in repr(stacks[0])
    assert "/json/" not in describe(stacks[0])


def test_frames_of_libraries_are_better_than_none() -> None:
    only = tuple(frame for frame in outer() if "pytest" in frame[0].co_filename)
    assert "pytest" in describe(only)


def test_where_a_coroutine_waits() -> None:
    @types.coroutine
    def pause() -> Generator[None]:
        yield

    async def numbers() -> AsyncGenerator[int]:  # noqa: ASYNC900
        await pause()
        yield 1

    async def outer() -> None:
        async for _ in numbers():  # the outermost
            pass

    coroutine = outer()
    coroutine.send(None)
    names = [code.co_name for code, _ in suspended(coroutine)]
    assert names[-1] == "outer"
    assert "# the outermost" in describe(suspended(coroutine))
    coroutine.close()
    assert suspended(coroutine) == ()


def test_where_a_coroutine_waits_through_all_that_it_awaits() -> None:
    @types.coroutine
    def pause() -> Generator[None]:
        yield

    async def inner() -> None:
        await pause()

    async def outer() -> None:
        await inner()

    coroutine = outer()
    coroutine.send(None)
    assert [code.co_name for code, _ in suspended(coroutine)] == ["pause", "inner", "outer"]
    coroutine.close()
