"""Plain functions and plain iterables for the loop: what may block does so in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator
from typing import Any, Generic, Self, TypeVar, cast

import anyio

from .workers import Workers

__all__ = ["in_threads", "pulled_in_threads"]

T = TypeVar("T")
R = TypeVar("R")

# Iterating these blocks nobody.
_AT_HAND = (list, tuple, range, dict, set, frozenset, deque)
_END: Any = object()
# How long a block that is left waits for a source in the midst of a step.
GRACE = 0.1


def in_threads(workers: Workers, fn: Callable[[T], R]) -> Callable[[T], Awaitable[R]]:
    """A plain function as an async one that runs it in a worker thread."""

    async def call(item: T) -> R:
        return await workers.run(fn, item)

    return call


def pulled_in_threads(workers: Workers, items: Iterable[T]) -> Any:
    """An iterable whose items may take their time, as a source that does not block the loop."""
    at_hand = isinstance(items, _AT_HAND)
    source: Any = items
    return source if at_hand else _PulledInThreads(workers, iter(items))


class _PulledInThreads(Generic[T]):
    """An iterator as an async one whose items are made in worker threads."""

    def __init__(self, workers: Workers, iterator: Iterator[T]) -> None:
        self._workers = workers
        self._iterator = iterator
        self._at_work = threading.Lock()
        self._left_behind = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        try:
            item = await self._workers.run(self._next)
        except asyncio.CancelledError:
            # The step may take for ever; the block does not.
            self._left_behind = True
            raise
        if item is _END:
            raise StopAsyncIteration
        return item

    async def aclose(self) -> None:
        """Close the source if it is a generator; when the step it is in has ended."""
        if isinstance(self._iterator, Generator):
            with anyio.move_on_after(GRACE if self._left_behind else None):
                await self._workers.run(self._close)

    def _next(self) -> T:
        with self._at_work:
            return next(self._iterator, _END)

    def _close(self) -> None:
        with self._at_work:
            cast("Generator[T, None, None]", self._iterator).close()
