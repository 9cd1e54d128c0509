"""What is alive: tasks, async generators, the scope a task is in; and a task for one call."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import sniffio

__all__ = ["generators", "in_a_task", "innermost_scope", "tasks"]


async def in_a_task(function: Callable[[], Awaitable[Any]]) -> Any:
    """What the function returns or raises, in a task of its own."""
    result: list[Any] = []
    error: list[Exception] = []

    async def call() -> None:
        try:
            result.append(await function())
        except Exception as caught:  # noqa: BLE001 -- raised below
            error.append(caught)

    async with anyio.create_task_group() as group:  # noqa: ASYNC112 - by another task
        group.start_soon(call)
    if error:
        raise error[0]
    return result[0]


def tasks() -> set[Any]:
    """Every task of the event loop."""
    if sniffio.current_async_library() == "asyncio":
        return set(asyncio.all_tasks())
    import trio

    root = trio.lowlevel.current_root_task()
    found: set[Any] = set()
    left = [root]
    while left:
        task = left.pop()
        found.add(task)
        for nursery in task.child_nurseries if task is not None else ():
            left.extend(nursery.child_tasks)
    return found


@contextmanager
def generators() -> Iterator[list[AsyncGenerator[Any, Any]]]:
    """Every async generator that is begun inside the block."""
    before = sys.get_asyncgen_hooks()
    begun: list[AsyncGenerator[Any, Any]] = []
    sys.set_asyncgen_hooks(firstiter=begun.append)
    try:
        yield begun
    finally:
        sys.set_asyncgen_hooks(*before)


def innermost_scope() -> object:
    """The innermost cancel scope that the calling task is in."""
    if sniffio.current_async_library() == "asyncio":
        from anyio._backends._asyncio import _task_states

        task = asyncio.current_task()
        assert task is not None
        state = _task_states.get(task)
        return None if state is None else state.cancel_scope
    import trio

    return trio.lowlevel.current_task()._cancel_status
