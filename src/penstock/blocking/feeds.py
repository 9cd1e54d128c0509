"""Fan-outs and races for callers that block: plain `with` and `for`."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from .._call.stream import CompletionStream
from .._many.chunks import ChunkEvent, ChunkFeed, ResultEvent
from .._many.fan_out import FanOut, FanOutStatistics, Result
from .._many.race import Race, RaceStatistics
from ._loop.block import Block
from .stream import Stream

__all__ = ["ChunkIterator", "RaceBlock", "ResultIterator"]

T = TypeVar("T")
R = TypeVar("R")


class ResultIterator(Generic[T, R]):
    """Context manager and iterator of `Result`; made by `fan_out`."""

    def __init__(self, block: Block[Any], feed: FanOut[T, R]) -> None:
        self._block = block
        self._feed = feed

    def __enter__(self) -> Self:
        """Begin. RuntimeError inside a running event loop, and when entered again."""
        self._block.enter()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._block.leave(exc)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Result[T, R]:
        """The next result. An error of the source is raised after the last one.

        Ctrl-C ends the wait at once and loses nothing. StreamBusyError when another thread
        is reading, StreamClosedError when the block has been left.
        """
        result: Result[T, R] | None = self._block.loop.run(self._next)
        if result is None:
            raise StopIteration
        return result

    async def _next(self) -> Result[T, R] | None:
        # StopAsyncIteration would mean something else to the task that it ends.
        return await anext(self._feed, None)

    def statistics(self) -> FanOutStatistics:
        """Numbers of this moment, or of the end."""
        if not self._block.loop.is_running:
            return self._feed.statistics()

        async def statistics() -> FanOutStatistics:
            return self._feed.statistics()

        return self._block.loop.run(statistics)


class ChunkIterator:
    """Context manager and iterator of `ChunkEvent` and `ResultEvent`; by `fan_out_chunks`."""

    def __init__(self, block: Block[Any], feed: ChunkFeed) -> None:
        self._block = block
        self._feed = feed
        self._events: deque[ChunkEvent | ResultEvent] = deque()

    def __enter__(self) -> Self:
        """Begin. RuntimeError inside a running event loop, and when entered again."""
        self._block.enter()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._events.clear()
        self._block.leave(exc)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ChunkEvent | ResultEvent:
        """The next event. Raises as the iterator of `fan_out` does."""
        while True:
            try:
                return self._events.popleft()
            except IndexError:
                # All that is there comes over at once.
                events = self._block.loop.run(self._feed.read_batch)
            if not events:
                raise StopIteration
            self._events.extend(events)


class RaceBlock:
    """Context manager that gives the winning stream; made by `race`."""

    def __init__(self, race: Race, block: Block[CompletionStream]) -> None:
        self._race = race
        self._block = block
        # Not forgotten as long as the block lasts, whoever takes it.
        self._stream: Stream | None = None

    def __enter__(self) -> Stream:
        """Run the race. Raises AllAttemptsFailed; failed or interrupted, nothing stays open."""
        self._stream = stream = Stream(self._block.loop, self._block.enter())
        return stream

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._block.leave(exc)

    def statistics(self) -> RaceStatistics:
        """The attempts so far; during the block and after it."""
        return self._race.statistics()
