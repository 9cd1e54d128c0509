"""Many calls at once out of one `async with` and `async for`: what all fan-outs share.

    the caller's task                 the host's task
    ─────────────────                 ───────────────────────────────────────────
    async with feed:        start     task group
        async for ...    <─────────── ├─ _pull:   slot -> item -> start a child
            __anext__    ───────────> ├─ _run(0): _child(item 0) ── _post ──┐
                           _consumed  ├─ _run(1): _child(item 1) ── _post ──┤
                                      └─ ...                                │
            _next_post   <── _posts: a deque <──────────────────────────────┘
    __aexit__            ── cancel, wait ──>

`_pull` takes a slot, then one item from the source, then starts a child with both: an item that
cannot start is never taken. `_may_pull` of the subclass says whether there is room, by what was
pulled, delivered and has ended. A child posts what comes of its item. The caller takes the posts
in its own task.

What this defends against:

- **A cancelled read loses something.** Nothing is handed to a task that may be cancelled. Posts
  stay in the deque until the caller takes one, after its last await. `_news` only wakes it.
- **A read that ends too early.** The posts are complete when the host has ended by itself. If it
  was cancelled (the block was left, the event loop shuts down), a read raises StreamClosedError:
  it must not look like the end of the results.
- **The task group in a generator.** A user may write the block into an async generator, and drop
  the generator. Then another task leaves the block. The task group would cancel a task that has
  nothing to do with it, so it lives in a task of its own: see `host`. The children are therefore
  not in the caller's cancel scopes: a cancellation reaches them when the caller leaves the block,
  which it does at its next wait.
- **Exception groups.** An Exception of a child or a source becomes a value where it is raised. The
  host collects whatever else there is (KeyboardInterrupt) as one exception, and the next read, or
  leaving the block, raises it. An exception of the body passes by: it leaves the block unchanged.
- **Ctrl-C between two steps.** On trio it strikes in whatever code runs, unless that is protected:
  see `interrupts`.
- **Items pulled too late.** A task that was cancelled while it was about to run still begins. So
  `_run` and `_admit` check first whether the block was left.
- **Slots of children that never ran.** A task group drops tasks that were cancelled before their
  first step. `_slots` knows their slots, and leaving the block releases them.
- **A loop that never waits.** A caller may find a post ready at each read, or be woken so often
  that a cancellation never meets it waiting. Every `reads_per_turn` reads it has a checkpoint: the
  other tasks have a turn, and a cancelled scope ends the loop.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Generator, Iterable, Iterator
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from .._limiter.lent import lent
from .._limiter.limiter import Limiter
from .._limiter.slots import Slot
from ..errors import StreamBusyError, StreamClosedError
from ..observing.events import GroupKind
from ..observing.groups import Group
from .cancellation import cancelled_by_itself, outcome_of, sole
from .host import Host
from .interrupts import protect
from .wakeup import Wakeup, new_wakeup

__all__ = ["Feed", "Source"]

T = TypeVar("T")
P = TypeVar("P")

Source = Iterable[T] | AsyncIterable[T]


class Feed(ABC, Generic[T, P]):
    """Runs a child for each item of `source`, at most `limit` at once; children post a P each."""

    kind: ClassVar[GroupKind] = "fan_out"
    """What observers are told that it is."""
    reads_per_turn: ClassVar[int] = 8
    """Reads after which the reader has given the other tasks a turn."""

    def __init__(self, source: Source[T], limit: int | Limiter) -> None:
        if not isinstance(source, (Iterable, AsyncIterable)):
            raise TypeError(f"{type(source).__name__} is neither iterable nor async iterable")
        if isinstance(limit, bool) or not isinstance(limit, (int, Limiter)):
            raise TypeError(f"limit must be a number or a Limiter, not {limit!r}")
        self._source = source
        self._limiter = Limiter(limit) if isinstance(limit, int) else limit
        self._host: Host | None = None
        self._requests: Group | None = None
        """All requests that the children make, for observers; None until the block is entered."""
        self._group: TaskGroup | None = None
        self._posts: deque[P] = deque()
        self._news: Wakeup | None = None
        """What the reader waits for; None if no task is reading."""
        self._reads_left = self.reads_per_turn
        self._source_error: Exception | None = None
        self._closing_error: Exception | None = None
        self._pulled = 0
        self._running = 0
        self._slots: set[Slot] = set()
        self._room: anyio.Event | None = None
        """What `_pull` waits for before the next item; None if it is not waiting."""

    @abstractmethod
    async def _child(self, index: int, item: T, slot: Slot) -> None:
        """Work on one item and post what comes of it; it may release the slot early."""

    # --- the block ---

    async def __aenter__(self) -> Self:
        if self._host is not None:
            raise RuntimeError("a fan-out can be entered only once")
        steps: Any = Feed
        protect(steps.__aenter__, steps.__aexit__, steps._pull, steps._run)
        self._host = Host(self._live, on_end=self._tell)
        self._requests = Group(self.kind)
        self._requests.begin(anyio.current_time())
        with self._requests.entered():
            self._host.start()
        return self

    async def _live(self) -> None:
        async with anyio.create_task_group() as group:
            self._group = group
            group.start_soon(self._pull)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        host = self._host
        assert host is not None
        outcome = outcome_of(exc, whole=host.returned and not self._posts)
        self._leave()
        try:
            await host.end()  # noqa: ASYNC102 - shielded inside
        finally:
            # Again, for what children posted whose reads were over when they were cancelled.
            self._leave()
            # Of children that were cancelled before they ran.
            for slot in self._slots:
                slot.release()
            if self._requests is not None:
                self._requests.finish(outcome, anyio.current_time())
        if host.error is not None and host.error is not exc:
            raise host.error
        if exc is None:
            if self._closing_error is not None:
                raise self._closing_error
            await anyio.lowlevel.checkpoint_if_cancelled()  # noqa: ASYNC102 - nothing is left to close

    def _leave(self) -> None:
        """Drop what was not taken: the block is being left."""
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
        except anyio.get_cancelled_exc_class():  # noqa: ASYNC103 - a task that was not cancelled goes on
            if not cancelled_by_itself():
                raise
            self._source_failed(
                RuntimeError("the source raised a cancellation that nobody had requested")
            )
        except BaseException as error:  # noqa: BLE001 - raised by the block
            raise self._crash(error) from None

    def _source_failed(self, error: Exception) -> None:
        assert self._host is not None
        if self._host.ending:
            # No result is asked for any more: an error of the source's clean-up.
            self._closing_error = error
        else:
            self._source_error = error

    def _crash(self, error: BaseException) -> BaseException:
        """Start nothing more, and return what to raise: KeyboardInterrupt, for instance."""
        assert self._host is not None
        self._host.cancel()
        if isinstance(error, BaseExceptionGroup):
            return sole(cast("BaseExceptionGroup[BaseException]", error))
        return error

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
        # A scope around all that the source does: it may have scopes and task groups of its own
        # open when it is closed, and scopes must be left in the order of a stack.
        with anyio.CancelScope() as scope:
            try:
                while True:
                    slot = await self._admit()
                    try:
                        with lent(slot), slot.offered():
                            item = await anext(source)
                        # Another place if others use it now.
                        await slot.acquire()
                    except BaseException as error:
                        slot.release()
                        if isinstance(error, StopAsyncIteration):
                            return  # noqa: ASYNC104 - at the end of the source alone
                        raise
                    self._start(item, slot)
            finally:
                scope.shield = True
                await _close(source)  # noqa: ASYNC102 - the scope is a shield now: the source may take its time

    async def _admit(self) -> Slot:
        """Wait until one more item may start; return its slot."""
        while not self._may_pull():
            self._room = anyio.Event()
            self._balance_changed()
            try:
                await self._room.wait()
            finally:
                self._room = None
                self._balance_changed()
        # An item is no request yet, and the end of the source may come in its place.
        slot = Slot(self._limiter.line, reserves=False)
        await slot.acquire()
        try:
            # A turn for the others, however many slots there are: the source may be endless.
            # It comes after the wait, since a cancellation does not reach a task whose wait is
            # over, and nothing may be pulled once the block has been left.
            await anyio.lowlevel.checkpoint()
        except BaseException:
            slot.release()
            raise
        return slot

    @property
    def _limit(self) -> int:
        """Items that may be in flight now."""
        return self._limiter.line.limit.limit

    @abstractmethod
    def _may_pull(self) -> bool:
        """Return True if one more item may be pulled, by what was delivered and has ended."""

    def _consumed(self) -> None:
        """Say that something was taken or has ended: perhaps another item may be pulled."""
        if self._room is not None and self._may_pull():
            self._room.set()

    def _balance_changed(self) -> None:
        """Say that something was posted or taken, or that pulling stopped or went on."""

    def _start(self, item: T, slot: Slot) -> None:
        assert self._group is not None
        index = self._pulled
        self._pulled += 1
        self._running += 1
        self._slots.add(slot)
        self._group.start_soon(self._run, index, item, slot)

    async def _run(self, index: int, item: T, slot: Slot) -> None:
        assert self._host is not None
        try:
            # A task that was cancelled before it began still begins, and could send a request.
            if self._host.ending:
                return
            with lent(slot):
                await self._child(index, item, slot)
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # noqa: BLE001 - raised by the block
            raise self._crash(error) from None
        finally:
            slot.release()
            self._slots.discard(slot)
            self._running -= 1
            self._consumed()

    # --- posts ---

    def _post(self, post: P) -> None:
        self._posts.append(post)
        self._balance_changed()
        self._tell()

    def _tell(self) -> None:
        if self._news is not None:
            self._news.set()

    async def _next_post(self) -> P | None:
        """Return the oldest post; None at the end. Raises the source's error after the last."""
        host = self._host
        if host is None:
            raise RuntimeError("enter it first: `async with fan_out...(...) as results:`")
        if self._news is not None:
            raise StreamBusyError("another task is reading this fan-out: one reader at a time")
        if self._reads_left:
            self._reads_left -= 1
        else:
            self._reads_left = self.reads_per_turn
            await anyio.lowlevel.checkpoint()
        while not self._posts:
            if host.ended:
                if host.error is not None:
                    raise host.error
                if host.broken_off or host.ending:
                    raise StreamClosedError("the block of this fan-out has been left")
                if self._source_error is not None:
                    raise self._source_error
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
