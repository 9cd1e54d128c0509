"""A signal from one task to another, cheap enough for every network read.

`anyio.Event` costs 2 to 3 us more than a bare future of asyncio, or than a task of trio's that
sleeps until it is rescheduled: a twelfth of the cost of an event that arrives alone in a merged
feed.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Protocol

from .._loops import in_trio

if TYPE_CHECKING:
    import asyncio

    import trio

__all__ = ["Wakeup", "new_wakeup"]


class Wakeup(Protocol):
    """A signal that one task awaits once; any task may set it, any number of times."""

    def set(self) -> None:
        """Wake the waiter; a later `wait` returns at once."""

    def wait(self) -> Awaitable[object]:
        """Return the awaitable for the one task. A cancelled wait cannot be repeated."""
        ...


class _FutureWakeup:
    # One waiter only: cancelling a task cancels the future that it awaits.
    __slots__ = ("_future",)

    def __init__(self) -> None:
        import asyncio  # there, as it runs

        self._future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def set(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    def wait(self) -> Awaitable[None]:
        return self._future


class _TaskWakeup:
    # One waiter only, which is rescheduled once: by `set`, or by its cancellation.
    __slots__ = ("_is_set", "_task", "_trio")

    def __init__(self) -> None:
        import trio  # there, as it runs

        self._trio = trio.lowlevel
        self._task: trio.lowlevel.Task | None = None
        self._is_set = False

    def set(self) -> None:
        self._is_set = True
        task, self._task = self._task, None
        if task is not None:
            self._trio.reschedule(task)

    async def wait(self) -> None:
        if self._is_set:
            return
        try:
            self._task = self._trio.current_task()
            await self._trio.wait_task_rescheduled(self._abort)
        finally:
            # Ctrl-C may strike before the wait: a task that does not wait must not be rescheduled.
            self._task = None

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return self._trio.Abort.SUCCEEDED


def new_wakeup() -> Wakeup:
    """Return a signal for the running event loop."""
    return _TaskWakeup() if in_trio() else _FutureWakeup()
