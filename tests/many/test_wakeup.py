"""A wakeup: one wait, woken by another task, whatever comes first."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from penstock._many.wakeup import Wakeup, new_wakeup
from penstock.testing.clock import virtual
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.sweep import cancel_sweep

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio


async def test_it_waits_until_it_is_set() -> None:
    wakeup = new_wakeup()
    woken: list[float] = []

    async def wait() -> None:
        await wakeup.wait()
        woken.append(anyio.current_time())

    start = anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.sleep(2)
        assert woken == []
        wakeup.set()
        wakeup.set()
    assert woken == [start + 2]


async def test_what_is_set_before_is_not_waited_for() -> None:
    wakeup = new_wakeup()
    wakeup.set()
    start = anyio.current_time()
    await wakeup.wait()
    assert anyio.current_time() == start


async def test_a_cancelled_wait_is_over_and_setting_it_then_is_nothing() -> None:
    wakeup = new_wakeup()
    with anyio.move_on_after(1) as scope:
        await wakeup.wait()
    assert scope.cancelled_caught
    wakeup.set()


async def test_a_wait_that_is_set_in_the_turn_of_a_cancellation_ends_either_way() -> None:
    wakeup = new_wakeup()
    ends: list[str] = []

    async def wait() -> None:
        try:
            await wakeup.wait()
        except anyio.get_cancelled_exc_class():
            ends.append("cancelled")
            raise
        ends.append("woken")

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        wakeup.set()
        group.cancel_scope.cancel()
    assert len(ends) == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelled_at_every_point_the_next_one_works(backend: Any) -> None:
    async def scenario() -> None:
        for _ in range(3):
            wakeup = new_wakeup()
            async with anyio.create_task_group() as group:
                group.start_soon(_later, wakeup)
                await wakeup.wait()

    async def _later(wakeup: Wakeup) -> None:
        await anyio.sleep(1)
        wakeup.set()

    points = cancel_sweep(backend, scenario)
    assert points["scope"] > 0
    name, options = virtual(backend)
    anyio.run(scenario, backend=name, backend_options=options)
