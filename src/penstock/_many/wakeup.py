"""A task's wait for another one's signal, lean enough for every network read.

`anyio.Event` costs 2 to 3 us more than a bare future on asyncio: a twelfth of what an event costs
that comes through a merged feed by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Protocol

import anyio

from .._loops import in_trio

__all__ = ["Wakeup", "new_wakeup"]


class Wakeup(Protocol):
    """Waited for by one task, once; set by any, any number of times, before or after."""

    def set(self) -> None:
        """Wake the waiter, or let it not wait at all."""

    def wait(self) -> Awaitable[object]:
        """What the one task awaits. Cancelled, the wait is over for good."""
        ...


class _FutureWakeup:
    # One future has one waiter: cancelling a task cancels the future it waits for.
    __slots__ = ("_future",)

    def __init__(self) -> None:
        self._future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def set(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    def wait(self) -> Awaitable[None]:
        return self._future


def new_wakeup() -> Wakeup:
    """One for the running event loop."""
    return anyio.Event() if in_trio() else _FutureWakeup()
