"""What comes from outside while an operation is under way: cancellations of every kind, closing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import sniffio

__all__ = ["disturbed"]

Opened = Callable[[Any], None]


class _SiblingFailed(Exception):
    pass


async def disturbed(kind: str, when: float, work: Callable[[Opened], Awaitable[None]]) -> None:
    """Do the work, disturbed after `when` seconds. What is said to be `opened` may be closed."""
    if kind in ("native", "twice") and sniffio.current_async_library() != "asyncio":
        kind = "scope"
    await _KINDS[kind](when, work)


def _ignore(opened: Any) -> None:
    pass


async def _not_at_all(when: float, work: Callable[[Opened], Awaitable[None]]) -> None:
    await work(_ignore)


async def _by_scope(when: float, work: Callable[[Opened], Awaitable[None]]) -> None:
    with anyio.move_on_after(when):
        await work(_ignore)


async def _natively(when: float, work: Callable[[Opened], Awaitable[None]]) -> None:
    await _cancel(work, [when])


async def _natively_twice(when: float, work: Callable[[Opened], Awaitable[None]]) -> None:
    await _cancel(work, [when, when + 0.0005])


async def _cancel(work: Callable[[Opened], Awaitable[None]], moments: list[float]) -> None:
    task = asyncio.ensure_future(work(_ignore))
    loop = asyncio.get_running_loop()
    timers = [loop.call_later(moment, task.cancel) for moment in moments]
    try:
        await asyncio.wait([task])
    finally:
        for timer in timers:
            timer.cancel()
    if not task.cancelled():
        task.result()


async def _by_a_sibling(when: float, work: Callable[[Opened], Awaitable[None]]) -> None:
    async def fail() -> None:
        await anyio.sleep(when)
        raise _SiblingFailed

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(fail)
            await work(_ignore)
            group.cancel_scope.cancel()
    except* _SiblingFailed:
        pass


async def _by_closing(when: float, work: Callable[[Opened], Awaitable[None]]) -> None:
    things: list[Any] = []

    async def close() -> None:
        await anyio.sleep(when)
        for thing in list(things):
            await thing.aclose()

    async with anyio.create_task_group() as group:
        group.start_soon(close)
        await work(things.append)
        group.cancel_scope.cancel()


_KINDS = {
    "none": _not_at_all,
    "scope": _by_scope,
    "native": _natively,
    "twice": _natively_twice,
    "failure": _by_a_sibling,
    "close": _by_closing,
}
