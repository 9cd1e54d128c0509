"""Plain functions and iterables for the loop: nothing of theirs ever blocks it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from penstock.blocking._loop import sources
from penstock.blocking._loop.sources import in_threads, pulled_in_threads
from penstock.blocking._loop.workers import Workers


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers()
    yield made
    made.close()


async def all_of(source: Any) -> list[Any]:
    return [item async for item in source]


def test_a_function_runs_in_a_thread_with_its_item(workers: Workers) -> None:
    def name(item: int) -> tuple[int, str]:
        return item, threading.current_thread().name

    call = in_threads(workers, name)

    async def main() -> None:
        assert await asyncio.gather(*map(call, range(3))) == [
            (n, "penstock worker") for n in range(3)
        ]

    asyncio.run(main())


@pytest.mark.parametrize(
    "items",
    [[1], (1,), range(1), {1: 2}, {1}, frozenset([1]), deque([1])],
    ids=lambda items: type(items).__name__,
)
def test_what_is_at_hand_stays_as_it_is(workers: Workers, items: Iterable[int]) -> None:
    assert pulled_in_threads(workers, items) is items


def test_anything_else_is_pulled_in_threads_and_in_order(workers: Workers) -> None:
    places: set[str] = set()

    class Squares:
        def __iter__(self) -> Iterator[int]:
            for n in range(20):
                places.add(threading.current_thread().name)
                yield n * n

    async def main() -> None:
        source = pulled_in_threads(workers, Squares())
        assert aiter(source) is source
        assert await all_of(source) == [n * n for n in range(20)]
        # And it has ended, also for whoever asks again.
        assert await all_of(source) == []

    asyncio.run(main())
    assert places == {"penstock worker"}


def test_items_may_be_exceptions_or_none(workers: Workers) -> None:
    items = [None, StopIteration, StopAsyncIteration(), False]

    async def main() -> None:
        assert await all_of(pulled_in_threads(workers, iter(items))) == items

    asyncio.run(main())


def test_an_error_of_the_source_is_the_readers(workers: Workers) -> None:
    def numbers() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    async def main() -> None:
        source = pulled_in_threads(workers, numbers())
        assert await anext(source) == 1
        with pytest.raises(ZeroDivisionError):
            await anext(source)
        assert await all_of(source) == []
        await source.aclose()

    asyncio.run(main())


def test_the_loop_goes_on_while_a_source_takes_its_time(workers: Workers) -> None:
    go_on = threading.Event()

    def slow() -> Iterator[int]:
        yield int(go_on.wait(10))

    async def main() -> None:
        pull = asyncio.ensure_future(anext(pulled_in_threads(workers, slow())))
        for _ in range(10):
            await asyncio.sleep(0)
            assert not pull.done()
        go_on.set()
        assert await pull == 1

    asyncio.run(main())


# --- the end ---


class Closing:
    """A generator that says when and where it was closed."""

    def __init__(self) -> None:
        self.begun, self.go_on, self.closed = (threading.Event() for _ in range(3))
        self.place = ""

    def items(self, *, hang: bool = False) -> Iterator[int]:
        try:
            yield 1
            if hang:
                self.begun.set()
                self.go_on.wait(10)
            yield 2
        finally:
            self.place = threading.current_thread().name
            self.closed.set()


def test_a_generator_is_closed_in_a_thread(workers: Workers) -> None:
    closing = Closing()

    async def main() -> None:
        source = pulled_in_threads(workers, closing.items())
        assert await anext(source) == 1
        await source.aclose()
        assert closing.closed.is_set()
        await source.aclose()

    asyncio.run(main())
    assert closing.place == "penstock worker"


def test_what_is_no_generator_is_not_closed(workers: Workers) -> None:
    # It may be read on by its owner.
    iterator = iter([1, 2, 3])

    async def main() -> None:
        source = pulled_in_threads(workers, iterator)
        assert await anext(source) == 1
        await source.aclose()

    asyncio.run(main())
    assert list(iterator) == [2, 3]


def test_a_step_that_never_ends_holds_up_nobody(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "GRACE", 0.01)
    closing = Closing()

    async def main() -> None:
        source = pulled_in_threads(workers, closing.items(hang=True))
        assert await anext(source) == 1
        pull = asyncio.ensure_future(anext(source))
        while not closing.begun.is_set():
            await asyncio.sleep(0.001)
        pull.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pull
        started = time.monotonic()
        await source.aclose()
        assert time.monotonic() - started < 5
        assert not closing.closed.is_set()
        # Closed all the same, as soon as its step has ended.
        closing.go_on.set()
        while not closing.closed.is_set():
            await asyncio.sleep(0.001)

    asyncio.run(main())


def test_an_error_while_closing_is_told(workers: Workers) -> None:
    def stubborn() -> Iterator[int]:
        try:
            yield 1
        finally:
            raise OSError("cannot close")

    async def main() -> None:
        source = pulled_in_threads(workers, stubborn())
        await anext(source)
        with pytest.raises(OSError, match="cannot close"):
            await source.aclose()

    asyncio.run(main())
