"""What the generated fan-outs and races stand on: a plain `with` around an async one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from .block import Block

__all__ = ["Entered", "Feeding", "FeedingInBatches", "next_of"]

R = TypeVar("R")


class Entered:
    """A block of the blocking face, around an async one on the loop."""

    def __init__(self, block: Block[Any], original: Any) -> None:
        self._block = block
        self._async = original

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._block.leave(exc)


class Feeding(Entered):
    """A fan-out but for its reading."""

    def __enter__(self) -> Self:
        """Begin. RuntimeError inside a running event loop, and when entered again."""
        self._block.enter()
        return self

    def __iter__(self) -> Self:
        return self

    def _look(self, look: Callable[[], R]) -> R:
        """Return what `look` sees, between two steps of the loop while there is one."""
        if not self._block.loop.is_running:
            return look()

        async def looked() -> R:
            return look()

        return self._block.loop.run(looked)


class FeedingInBatches(Feeding):
    """A fan-out whose events cross over from the loop in batches."""

    def __init__(self, block: Block[Any], original: Any) -> None:
        super().__init__(block, original)
        self._events: deque[Any] = deque()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._events.clear()
        super().__exit__(exc_type, exc, traceback)

    def _next(self) -> Any:
        while True:
            try:
                return self._events.popleft()
            except IndexError:
                events = self._block.loop.run(self._async.read_batch)
            if not events:
                raise StopIteration
            self._events.extend(events)


async def next_of(feed: Any) -> Any:
    """Return the next item of a feed, None at its end."""
    # StopAsyncIteration would mean something else to the task that it ends.
    return await anext(feed, None)
