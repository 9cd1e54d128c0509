"""Many calls at once, out of one `async with` and `async for`: what all fan-outs share.

A feeder task takes a slot, then pulls one item, then starts its child: never an item that
cannot start. Children post what they have; the consumer takes it, in the task of the
`async with`. Nothing is handed to a task that may be cancelled: posts lie in the feed
until the consumer has them, so a cancelled read loses nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Generator, Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from .._limiter.limiter import Limiter
from .._limiter.slots import Slot, lent
from ..errors import StreamBusyError, StreamClosedError
from .cancellation import cancelled_by_itself, scope_cancelled, sole
from .wakeup import Wakeup, new_wakeup

__all__ = ["Feed", "Source"]

T = TypeVar("T")
P = TypeVar("P")

Source = Iterable[T] | AsyncIterable[T]


class Feed(ABC, Generic[T, P]):
    """Runs a child for each item of `source`, at most `limit` at once; P is what they post."""

    def __init__(self, source: Source[T], limit: int | Limiter) -> None:
        if not isinstance(source, (Iterable, AsyncIterable)):
            raise TypeError(f"{type(source).__name__} is neither iterable nor async iterable")
        if isinstance(limit, bool) or not isinstance(limit, (int, Limiter)):
            raise TypeError(f"limit must be a number or a Limiter, not {limit!r}")
        self._source = source
        self._limiter = Limiter(limit) if isinstance(limit, int) else limit
        self._group: TaskGroup | None = None
        self._posts: deque[P] = deque()
        self._news: Wakeup | None = None
        self._pulling = True
        self._source_error: Exception | None = None
        self._closing_error: Exception | None = None
        self._cut = False
        """True once a child was cancelled; the results are then incomplete."""
        self._pulled = 0
        self._running = 0
        self._slots: set[Slot] = set()
        self._room: anyio.Event | None = None

    @abstractmethod
    async def _child(self, index: int, item: T, slot: Slot) -> None:
        """Work on one item and post what comes of it; the slot may be released early."""

    # --- the block ---

    async def __aenter__(self) -> Self:
        if self._group is not None:
            raise RuntimeError("a fan-out is entered once")
        group = anyio.create_task_group()
        await group.__aenter__()
        self._group = group
        group.start_soon(self._pull)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        group = self._group
        assert group is not None
        group.cancel_scope.cancel()
        self._leave()
        cancelled = isinstance(exc, anyio.get_cancelled_exc_class())
        try:
            # The group is told of a cancellation, which is its business. Any other exception
            # of the body goes past it: it leaves the block as itself, in no ExceptionGroup.
            if cancelled:
                await group.__aexit__(exc_type, exc, traceback)  # noqa: ASYNC102 - cancelled, the group still waits for its children
            else:
                await group.__aexit__(None, None, None)  # noqa: ASYNC102 - cancelled, the group still waits for its children
        except BaseExceptionGroup as errors:
            raise sole(errors) from None
        except anyio.get_cancelled_exc_class():  # noqa: ASYNC103 - a cancelled scope tells again
            # The body's exception goes first: a cancelled scope stays cancelled and tells
            # again. asyncio's own cancellation is told once and has to be passed on.
            if exc is None or cancelled or not scope_cancelled():
                raise
        finally:
            # Of children that were cancelled before they ran.
            for slot in self._slots:
                slot.release()
        if exc is None and self._closing_error is not None:
            raise self._closing_error

    def _leave(self) -> None:
        """The block is being left: what was not taken is dropped."""
        self._posts.clear()

    # --- pulling ---

    async def _pull(self) -> None:
        try:
            if isinstance(self._source, AsyncIterable):
                await self._pull_async(aiter(self._source))
            else:
                await self._pull_sync(iter(self._source))
        except Exception as error:  # noqa: BLE001 - raised in its place among the results
            self._source_failed(error)
        except anyio.get_cancelled_exc_class():  # noqa: ASYNC103 - whoever was not cancelled goes on
            # Else its results would look like all there are.
            if not cancelled_by_itself():
                self._cut = True
                raise
            self._source_failed(
                RuntimeError("the source raised a cancellation nobody had asked for")
            )
        except BaseExceptionGroup as errors:
            raise sole(errors) from None
        finally:
            self._pulling = False
            self._tell()

    def _source_failed(self, error: Exception) -> None:
        assert self._group is not None
        if self._group.cancel_scope.cancel_called:
            # No result is asked for any more: an error of the source's clean-up.
            self._closing_error = error
        else:
            self._source_error = error

    async def _pull_sync(self, source: Iterator[T]) -> None:
        try:
            while True:
                slot = await self._admit()
                try:
                    with lent(slot):
                        item = next(source)
                except BaseException as error:
                    slot.release()
                    if isinstance(error, StopIteration):
                        return  # noqa: ASYNC104 - at the end of the source alone
                    raise
                self._start(item, slot)
        finally:
            if isinstance(source, Generator):
                source.close()

    async def _pull_async(self, source: AsyncIterator[T]) -> None:
        # Around all that the source does: it may have scopes and task groups of its own
        # open when it is closed, and scopes have to be left in the order of a stack.
        with anyio.CancelScope() as scope:
            try:
                while True:
                    slot = await self._admit()
                    try:
                        with lent(slot), slot.offered():
                            item = await anext(source)
                        # Where others used the place meanwhile, another one.
                        await slot.acquire()
                    except BaseException as error:
                        slot.release()
                        if isinstance(error, StopAsyncIteration):
                            return  # noqa: ASYNC104 - at the end of the source alone
                        raise
                    self._start(item, slot)
            finally:
                scope.shield = True
                await _close(source)  # noqa: ASYNC102 - the scope is a shield now; the source has its time

    async def _admit(self) -> Slot:
        """Wait until one more may start."""
        while not self._may_pull():
            self._room = anyio.Event()
            self._balance_changed()
            try:
                await self._room.wait()
            finally:
                self._room = None
                self._balance_changed()
        slot = await self._limiter.acquire()
        try:
            # A turn for the others, also where slots are plenty: the source may be endless.
            # And after the wait: a cancellation does not reach a task whose wait is over,
            # and nothing may be pulled when the block has been left.
            await anyio.lowlevel.checkpoint()
        except BaseException:
            slot.release()
            raise
        return slot

    @property
    def _limit(self) -> int:
        """How many items may be in flight now."""
        return self._limiter.line.limit.limit

    @abstractmethod
    def _may_pull(self) -> bool:
        """Whether one more item may be pulled, by what was taken and has ended so far."""

    def _consumed(self) -> None:
        """Something was taken, or has ended: perhaps another item may be pulled."""
        if self._room is not None and self._may_pull():
            self._room.set()

    def _balance_changed(self) -> None:
        """Something was posted or taken, or pulling stopped or went on; for statistics."""

    def _start(self, item: T, slot: Slot) -> None:
        assert self._group is not None
        index = self._pulled
        self._pulled += 1
        self._running += 1
        self._slots.add(slot)
        self._group.start_soon(self._run, index, item, slot)

    async def _run(self, index: int, item: T, slot: Slot) -> None:
        assert self._group is not None
        try:
            # A task begins even when it was cancelled before, and could send a request yet.
            if self._group.cancel_scope.cancel_called:
                return
            with lent(slot):
                await self._child(index, item, slot)
        except anyio.get_cancelled_exc_class():
            self._cut = True
            raise
        except BaseExceptionGroup as errors:
            raise sole(errors) from None
        finally:
            slot.release()
            self._slots.discard(slot)
            self._running -= 1
            self._consumed()
            self._tell()

    # --- posts ---

    def _post(self, post: P) -> None:
        self._posts.append(post)
        self._balance_changed()
        self._tell()

    def _tell(self) -> None:
        if self._news is not None:
            self._news.set()

    async def _next_post(self) -> P | None:
        """The oldest post; None when all is over. Raises the source's error in its place."""
        if self._group is None:
            raise RuntimeError("enter it first: `async with fan_out...(...) as results:`")
        if self._news is not None:
            raise StreamBusyError("another task is reading this fan-out: one reader at a time")
        while not self._posts:
            if not self._pulling and not self._running:
                if self._cut:
                    # The children may have been cancelled together with this task, and first.
                    await anyio.lowlevel.checkpoint_if_cancelled()
                if self._source_error is not None:
                    raise self._source_error
                if self._cut or self._group.cancel_scope.cancel_called:
                    raise StreamClosedError("the block of this fan-out has been left")
                return None
            self._news = news = new_wakeup()
            try:
                await news.wait()
            finally:
                self._news = None
        return self._take()

    def _take(self) -> P:
        return self._posts.popleft()


async def _close(source: AsyncIterator[Any]) -> None:
    aclose: Any = getattr(source, "aclose", None)
    if aclose is None:
        return
    try:
        await aclose()
    except BaseExceptionGroup as errors:
        # A task group inside a generator wraps up the very exception that closes it.
        rest = errors.split(GeneratorExit)[1]
        if rest is not None:
            raise rest from None
