"""What the generated fan-outs and races stand on: a plain `with` around an async one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from .block import Block

__all__ = ["Entered", "Feeding", "FeedingInBatches"]

R = TypeVar("R")
_END: Any = object()


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
        try:
            self._forget()
            self._block.leave(exc)
        except BaseException as error:
            if not isinstance(error, Exception):
                self._block.drop()
            raise

    def _forget(self) -> None:
        """Drop what was not taken."""


class Feeding(Entered):
    """A fan-out but for its members' types and docstrings."""

    def __init__(self, block: Block[Any], original: Any) -> None:
        super().__init__(block, original)
        # Filled on the loop: an interruption of the thread that waits loses nothing.
        self._ready: deque[Any] = deque()

    def __enter__(self) -> Self:
        """Begin. RuntimeError when entered again."""
        try:
            self._block.enter()
            return self
        except BaseException as error:
            if not isinstance(error, Exception):  # an interruption, perhaps after it was entered
                self._block.drop()
            raise

    def __iter__(self) -> Self:
        return self

    def _next(self) -> Any:
        while True:
            try:
                return self._ready.popleft()
            except IndexError:
                pass
            if not self._block.loop.run(self._fill):
                raise StopIteration

    async def _fill(self) -> bool:
        # StopAsyncIteration would mean something else to the task that it ends.
        item = await anext(self._async, _END)
        if item is _END:
            return False
        self._ready.append(item)
        return True

    def _forget(self) -> None:
        self._ready.clear()

    def _look(self, look: Callable[[], R]) -> R:
        """Return what `look` sees, between two steps of the loop while there is one."""
        if not self._block.loop.is_running:
            return look()

        async def looked() -> R:
            return look()

        return self._block.loop.run(looked)


class FeedingInBatches(Feeding):
    """A fan-out whose events cross over from the loop in batches."""

    async def _fill(self) -> bool:
        events = await self._async.read_batch()
        self._ready.extend(events)
        return bool(events)
