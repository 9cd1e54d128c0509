"""`fan_out`: an async function on every item of a source, at most `limit` at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sized
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import anyio
import msgspec

from .._limiter.limiter import Limiter
from .._limiter.slots import Slot
from .cancellation import cancelled_by_itself
from .feed import Feed, Source
from .interrupts import interruptible
from .results import Result as OneResult

if TYPE_CHECKING:
    # In two classes, of which type checkers choose one when they see `error` compared with None.
    from .results import AnyResult as Result
else:
    from .results import Result

__all__ = ["FanOut", "FanOutStatistics", "Result", "fan_out"]

T = TypeVar("T")
R = TypeVar("R")


class FanOutStatistics(msgspec.Struct, frozen=True):
    """A fan-out at one moment."""

    total: int | None
    """Items in all, if the source has a length; else None."""
    pulled: int
    """Items taken from the source so far."""
    running: int
    """Calls that run now."""
    waiting: int
    """Results that wait to be taken, including those held back by order."""
    held_back: int
    """Results that wait for an earlier one (ordered mode)."""
    done: int
    """Calls that ended, with a value or an error."""
    failed: int
    """Calls that ended with an error."""
    delivered: int
    """Results handed out so far."""
    blocked_on_consumer: float
    """Seconds in which no item was pulled because results waited to be taken."""


class FanOut(Feed[T, "Result[T, R]"], Generic[T, R]):
    """Async iterator of `Result`; made by `fan_out`."""

    def __init__(
        self,
        fn: Callable[[T], Awaitable[R]],
        items: Source[T],
        limit: int | Limiter,
        buffer: int,
        ordered: bool,
        window: int | None,
        total: int | None,
    ) -> None:
        super().__init__(items, limit)
        if not callable(fn):
            raise TypeError(f"fn must be an async function, not {fn!r}")
        if buffer < 0:
            raise ValueError(f"buffer is {buffer}: give 0 or a positive number")
        if window is not None and not ordered:
            raise ValueError("window is for ordered=True: unordered results wait for nobody")
        if window is not None and window < 1:
            raise ValueError(f"window is {window}: give a positive number")
        self._fn = fn
        self._total = total
        self._buffer = buffer
        self._ordered = ordered
        self._window = window
        # Ordered mode: the results that wait for an earlier one, by index, and the first
        # index that is missing.
        self._early: dict[int, Result[T, R]] = {}
        self._frontier = 0
        self._done = self._failed = self._delivered = 0
        self._blocked_at: float | None = None
        self._blocked = 0.0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Result[T, R]:
        """Return the next result. Cancelled, it loses nothing."""
        result = await self._next_post()
        if result is None:
            raise StopAsyncIteration
        self._delivered += 1
        self._consumed()
        self._balance_changed()
        return result

    def statistics(self) -> FanOutStatistics:
        """Return the figures of this moment."""
        return FanOutStatistics(
            total=self._total,
            pulled=self._pulled,
            running=self._running,
            waiting=len(self._posts) + len(self._early),
            held_back=len(self._early),
            done=self._done,
            failed=self._failed,
            delivered=self._delivered,
            blocked_on_consumer=self._blocked + self._blocked_lately(),
        )

    def _balance_changed(self) -> None:
        blocked = self._room is not None and bool(self._posts)
        if blocked and self._blocked_at is None:
            self._blocked_at = anyio.current_time()
        elif not blocked and self._blocked_at is not None:
            self._blocked += self._blocked_lately()
            self._blocked_at = None

    def _blocked_lately(self) -> float:
        since = self._blocked_at
        return 0.0 if since is None else anyio.current_time() - since

    async def _child(self, index: int, item: T, slot: Slot) -> None:
        if slot.begins:
            await slot.begin()
        started = anyio.current_time()
        value: Any = None
        error: Exception | None = None
        try:
            call = self._fn(item)
            if not isawaitable(call):
                raise TypeError(
                    f"fn must be an async function: {self._fn!r} returned a {type(call).__name__}"
                )
            value = await interruptible(self._fn, call)
        except Exception as caught:  # noqa: BLE001 - errors are values here
            error = caught
        except anyio.get_cancelled_exc_class():  # noqa: ASYNC103 - a task that was not cancelled goes on
            if not cancelled_by_itself():
                raise
            error = RuntimeError("the call raised a cancellation that nobody had requested")
        slot.release()
        self._done += 1
        self._failed += error is not None
        result: Any = OneResult(index, item, value, error, started, anyio.current_time())
        if not self._ordered:
            self._post(result)
            return
        self._early[index] = result
        while self._frontier in self._early:
            self._post(self._early.pop(self._frontier))
            self._frontier += 1

    def _may_pull(self) -> bool:
        ahead = self._pulled - self._delivered
        limit = self._limit
        if self._ordered:
            # Calls go on ahead of a slow oldest result, as far as the window.
            return ahead <= (2 * limit if self._window is None else self._window)
        return ahead < limit + self._buffer

    def _leave(self) -> None:
        super()._leave()
        self._early.clear()


def fan_out(
    fn: Callable[[T], Awaitable[R]],
    items: Source[T],
    *,
    limit: int | Limiter = 64,
    buffer: int = 0,
    ordered: bool = False,
    window: int | None = None,
) -> FanOut[T, R]:
    """Call `fn`, for instance `client.complete`, on every item, at most `limit` at once.

        async with fan_out(client.complete, requests, limit=32) as results:
            async for result in results:
                completion = result.unwrap()

    `items` is an iterable or async iterable, pulled lazily: an item is taken only when it can
    start, and never more than `limit + buffer` beyond the results delivered. Results come as
    they are completed; with `ordered` in the order of the items, while calls go on up to
    `window` items (default: 2 x `limit`) ahead of the oldest result not delivered. `limit` is a
    number, or a `Limiter` shared with others.

    Errors are values: look at `result.error`, or fail fast with `result.unwrap()`. An error of
    the source is raised after the last result. An async source is closed before the block is
    left, in the task that pulled from it. Leaving the block, by `break`, an exception or a
    cancellation, cancels every call first; an exception of the body leaves the block unchanged.
    A cancelled read loses nothing. The block may be entered, read and left by different tasks,
    and so be part of an async generator.

    Raises TypeError for a source, function or limit of another type, ValueError for a `buffer`
    below 0, a `window` below 1 or one without `ordered`. One task reads at a time, else
    StreamBusyError; reading after the block was left raises StreamClosedError.
    """
    total = len(items) if isinstance(items, Sized) else None
    return FanOut(fn, items, limit, buffer, ordered, window, total)
