from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import weakref

import anyio
import anyio.lowlevel
import pytest

from penstock._http.turns import AT_ONCE, Turns
from penstock._loops import in_trio
from penstock.testing.plugin import virtual_backend as anyio_backend

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

MANY = 10 * AT_ONCE + 1


async def test_a_few_go_on_in_each_iteration_in_order() -> None:
    turns = Turns()
    came: list[int] = []
    gone: list[int] = []
    counts = [0]

    async def one(number: int) -> None:
        came.append(number)
        await turns.take()
        gone.append(number)

    async with anyio.create_task_group() as group:
        for number in range(MANY):
            group.start_soon(one, number)
        while len(gone) < MANY:
            await anyio.lowlevel.checkpoint()
            counts.append(len(gone))
    # trio shuffles the tasks of an iteration, so two of them may lie between two counts.
    most = 2 * AT_ONCE if in_trio() else AT_ONCE
    assert max(after - before for before, after in itertools.pairwise(counts)) <= most
    for start in range(0, MANY, AT_ONCE):
        assert set(gone[start : start + AT_ONCE]) == set(came[start : start + AT_ONCE])


@pytest.mark.parametrize("steps", range(5))
async def test_who_is_cancelled_holds_up_nobody(steps: int) -> None:
    turns = Turns()
    gone: set[int] = set()
    scopes = [anyio.CancelScope() for _ in range(MANY)]

    async def one(number: int) -> None:
        with scopes[number]:
            await turns.take()
            gone.add(number)

    async with anyio.create_task_group() as group:
        for number in range(MANY):
            group.start_soon(one, number)
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
        for number in range(0, MANY, 2):
            scopes[number].cancel()
    assert gone >= set(range(1, MANY, 2))
    # And all places are free again.
    counts = 0

    async def another() -> None:
        nonlocal counts
        await turns.take()
        counts += 1

    async with anyio.create_task_group() as group:
        for _ in range(AT_ONCE):
            group.start_soon(another)
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        assert counts == AT_ONCE


def test_event_loops_do_not_wait_for_one_another() -> None:
    turns = Turns()
    gone: list[None] = []
    barrier = threading.Barrier(3)

    async def main() -> None:
        async def one() -> None:
            await turns.take()
            gone.append(None)

        async with anyio.create_task_group() as group:
            for _ in range(MANY):
                group.start_soon(one)
            barrier.wait(10)

    backends = ("asyncio", "asyncio", "trio")
    threads = [
        threading.Thread(target=anyio.run, args=(main,), kwargs={"backend": each})
        for each in backends
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(gone) == 3 * MANY


def test_no_event_loop_is_kept() -> None:
    turns = Turns()

    async def main() -> weakref.ref[asyncio.AbstractEventLoop]:
        await turns.take()
        return weakref.ref(asyncio.get_running_loop())

    loop = asyncio.run(main())
    gc.collect()
    assert loop() is None
