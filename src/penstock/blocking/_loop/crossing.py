"""From a thread that waits to the event loop and back: one coroutine, one waiting thread.

In place of `asyncio.run_coroutine_threadsafe`, whose future costs a third more CPU, and
which does not say when a cancelled call is really over.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakSet

import anyio

from ...errors import PenstockError, StreamClosedError

__all__ = ["CLOSED", "CallGroup", "Crossing", "Shore", "cancel_once", "current_group"]

R = TypeVar("R")

# How long an interrupted thread waits for the call's connection to be closed.
GRACE = 1.0


CLOSED = "the client was closed while it was in use"

_cancelled: WeakSet[asyncio.Task[Any]] = WeakSet()


def cancel_once(task: asyncio.Task[Any]) -> None:
    """Cancel a task, unless this has been called with it before.

    Several may want a call to end: an interrupted thread, the block that it was made in,
    the end of the loop. A second cancellation would break off the clean-up that the first
    one started. `Task.cancelling` does not tell, since cancel scopes count there as well.
    """
    if task not in _cancelled:
        _cancelled.add(task)
        task.cancel()


class Shore(Protocol):
    """Where crossings go: an event loop in another thread."""

    loop: asyncio.AbstractEventLoop
    stopping: bool
    exiting: bool
    """Whether it ends with the interpreter."""
    pending: set[Crossing[Any]]
    """Those not finished; whoever ends the loop calls `lost` on them."""
    threadless: bool
    """Whether the loop has no thread of its own, and runs only in `run_here`."""

    def run_here(self, call: Crossing[Any], seconds: float | None = None) -> None:
        """Run the loop in this thread until the call is over, or for so many seconds."""
        ...


class Crossing(Generic[R]):
    """One call of an async function on the loop, for a thread that waits for its outcome."""

    __slots__ = (
        "_args",
        "_done",
        "_error",
        "_finished",
        "_fn",
        "_shore",
        "_task",
        "_value",
        "_why_cancelled",
    )

    _value: R

    def __init__(
        self, shore: Shore, fn: Callable[..., Coroutine[Any, Any, R]], args: tuple[Any, ...]
    ) -> None:
        self._shore = shore
        self._fn = fn
        self._args = args
        self._task: asyncio.Task[None] | None = None
        self._error: BaseException | None = None
        self._why_cancelled: str | None = None
        self._finished = False
        # A bare lock is all that one waiter needs.
        self._done = threading.Lock()
        self._done.acquire()

    # --- in the thread that waits ---

    def run(self) -> R:
        """Run it and wait for its outcome.

        An exception in this thread, KeyboardInterrupt above all, ends the wait at once and
        cancels the call, which is over, its connection closed, when the exception goes on.
        StreamClosedError when the call was ended from elsewhere.
        """
        try:
            # Known before it is sent off: either the loop finishes it, or who ends the loop.
            self._shore.pending.add(self)
            try:
                self._shore.loop.call_soon_threadsafe(self._start)
            except RuntimeError:  # the loop is closed
                self._shore.pending.discard(self)
                raise StreamClosedError("the client is closed") from None
            self._wait()
        except BaseException:
            self._interrupt()
            raise
        error = self._error
        if error is None:
            return self._value
        self._error = None
        try:
            if isinstance(error, PenstockError):
                raise error.with_traceback(None)  # without the loop's frames, which are our own
            if not isinstance(error, asyncio.CancelledError):
                raise error
            if self._why_cancelled is None and not self._shore.stopping:
                raise RuntimeError("the call raised a cancellation that nobody had asked for")
            raise StreamClosedError(self._why_cancelled or CLOSED) from None
        finally:
            # No cycle of the error, its traceback and this frame.
            del error

    @property
    def is_over(self) -> bool:
        """Whether there is an outcome."""
        return self._finished

    def _wait(self) -> None:
        if self._shore.threadless:
            self._shore.run_here(self)
        elif sys.platform == "win32":
            # Ctrl-C does not interrupt a lock there (bpo-35935).
            while not self._done.acquire(timeout=0.05):
                pass
        else:
            self._done.acquire()

    def _interrupt(self) -> None:
        if not self._finished:
            try:
                self._shore.loop.call_soon_threadsafe(self.cancel, "interrupted")
            except RuntimeError:
                return
            if self._shore.threadless:
                self._shore.run_here(self, GRACE)
            else:
                self._done.acquire(timeout=GRACE)

    # --- on the loop ---

    def _start(self) -> None:
        if self._why_cancelled is not None or self._shore.stopping:
            self.lost()
        else:
            self._task = self._shore.loop.create_task(self._run())

    async def _run(self) -> None:
        # Nothing is raised: SystemExit would end the loop, for everybody.
        try:
            self._value = await self._fn(*self._args)
        except BaseException as error:  # noqa: BLE001, ASYNC103 - raised in the thread that waits
            self._error = error
        # From here, not from a callback of the task's, which takes another turn of the loop.
        self._finish()

    def cancel(self, why: str) -> asyncio.Task[None] | None:
        """Cancel it, once; gives the task that ends with it, if it has begun."""
        self._why_cancelled = self._why_cancelled or why
        task = self._task
        if task is not None and not self._finished:
            # One that is cancelled before its first step never comes to its end.
            task.add_done_callback(lambda _: self.lost())
            cancel_once(task)
        return task

    def lost(self) -> None:
        """It will not be finished any more, unless it is already."""
        if not self._finished:
            self._error = asyncio.CancelledError()
            self._finish()

    def _finish(self) -> None:
        self._finished = True
        self._shore.pending.discard(self)
        if self._shore.threadless:
            # When the loop ends, it has more to do than this.
            if not self._shore.stopping:
                self._shore.loop.stop()
        elif not self._shore.exiting:
            # At the interpreter's exit only daemons wait, and those just vanish.
            self._done.release()


class CallGroup:
    """The calls of one function that runs in a worker thread: they end with it."""

    def __init__(self) -> None:
        self._calls: set[Crossing[Any]] = set()
        self._ended = False

    def run(self, call: Crossing[R]) -> R:
        """Run one of its calls. StreamClosedError when the group has been ended."""
        # In this order, as `end` has the opposite one.
        self._calls.add(call)
        try:
            if self._ended:
                raise StreamClosedError(_LEFT)
            return call.run()
        finally:
            self._calls.discard(call)

    async def end(self) -> None:
        """Cancel the calls there are, wait for their end, and refuse any further one."""
        self._ended = True
        tasks = [task for call in list(self._calls) if (task := call.cancel(_LEFT)) is not None]
        if tasks:
            with anyio.CancelScope(shield=True):
                await asyncio.wait(tasks)


_LEFT = "the block that this call was made in has been left"

current_group: ContextVar[CallGroup | None] = ContextVar("penstock_call_group", default=None)
"""The group of the calls that this thread makes."""
