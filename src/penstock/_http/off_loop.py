"""Slow work that is done once, such as large imports: in a worker thread, so the loop runs on."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Final, TypeVar

import anyio
import anyio.lowlevel

__all__ = ["forks_wait", "run_off_loop", "turn"]

T = TypeVar("T")

_turn: anyio.lowlevel.RunVar[anyio.Lock] = anyio.lowlevel.RunVar("penstock's slow work")

forks_wait: Final = threading.Lock()
"""Held by such work: it is done once for the process, and no fork happens meanwhile.

Python locks a module while it is imported. A process that forked then would find it locked by a
thread that it does not have, and wait for ever.
"""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=forks_wait.acquire,
        after_in_parent=forks_wait.release,
        after_in_child=forks_wait.release,
    )


def turn() -> anyio.Lock:
    """Return the lock of this event loop's tasks that have slow work done.

    One thread does it, whatever the number of tasks that wait for it.
    """
    # The first use of anyio in an event loop imports its backend.
    lock = _turn.get(None)
    if lock is None:
        lock = anyio.Lock()
        _turn.set(lock)
    return lock


async def run_off_loop(work: Callable[[], T]) -> T:
    """Return what `work` returns in a worker thread. Cancelled, the thread goes on."""
    # Not one of the program's threads: all of them may wait for the request that needs this work.
    limiter = anyio.CapacityLimiter(1)
    try:
        return await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=limiter)
    except RuntimeError:
        # The interpreter is shutting down, or the system is at its limit: no thread starts.
        return work()
