"""Places that are lent, given back for a while, and come home."""

from __future__ import annotations

import anyio
import pytest

from penstock import Limiter
from penstock._flow.slots import Slot, lent, lent_slots
from penstock.testing.plugin import virtual_backend as anyio_backend

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio


async def test_a_request_stands_in_the_place_of_its_item() -> None:
    limiter = Limiter(1)
    item = await limiter.acquire()
    with lent(item):
        for _ in range(3):
            request = Slot(limiter.line)
            with anyio.fail_after(0):
                await request.acquire()
            assert limiter.statistics().in_flight == 1
            request.release()
            request.release()
    item.release()
    assert limiter.statistics().in_flight == 0


async def test_two_requests_of_one_item_take_turns_and_the_place_comes_home() -> None:
    limiter = Limiter(1)
    item = await limiter.acquire()
    running = most = 0

    async def request() -> None:
        nonlocal running, most
        slot = Slot(limiter.line)
        await slot.acquire()
        running += 1
        most = max(most, running)
        await anyio.sleep(1)
        running -= 1
        slot.release()

    with lent(item):
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(request)
    assert most == 1
    assert anyio.current_time() == pytest.approx(3)
    assert limiter.statistics().in_flight == 1
    item.release()
    assert limiter.statistics().in_flight == 0


async def test_a_place_that_was_stepped_aside_from_is_anybodys() -> None:
    limiter = Limiter(1)
    item = await limiter.acquire()
    with lent(item):
        request = Slot(limiter.line)
        await request.acquire()
        request.step_aside()
        assert limiter.statistics().in_flight == 0
        async with limiter:
            assert limiter.statistics().in_flight == 1
        await request.acquire()
        request.release()
        # Home again: the item goes on in its place.
        assert limiter.statistics().in_flight == 1
    item.release()
    assert limiter.statistics().in_flight == 0


async def test_a_request_that_outlives_its_item_keeps_the_place() -> None:
    limiter = Limiter(1)
    item = await limiter.acquire()
    request = Slot(limiter.line)
    with lent(item):
        await request.acquire()
    item.release()
    assert limiter.statistics().in_flight == 1
    request.release()
    assert limiter.statistics().in_flight == 0


async def test_an_offered_place_goes_to_whoever_waits() -> None:
    limiter = Limiter(1)
    feeder = await limiter.acquire()
    got: list[float] = []

    async def other() -> None:
        async with limiter:
            got.append(anyio.current_time())
            await anyio.sleep(2)

    async with anyio.create_task_group() as group:
        with feeder.offered():
            group.start_soon(other)
            await anyio.sleep(1)
        await feeder.acquire()
        assert anyio.current_time() == pytest.approx(2)
    assert got == [pytest.approx(0)]
    feeder.release()
    assert limiter.statistics().in_flight == 0


async def test_a_pause_holds_for_a_lent_place_as_well() -> None:
    limiter = Limiter(2)
    item = await limiter.acquire()
    limiter.pause(5)
    with lent(item):
        request = Slot(limiter.line)
        await request.acquire()
    assert anyio.current_time() == pytest.approx(5)
    request.release()
    item.release()


async def test_what_is_lent_is_known_within_only() -> None:
    limiter = Limiter(1)
    item = await limiter.acquire()
    assert lent_slots() == ()
    with lent(item):
        assert lent_slots() == (item,)
    assert lent_slots() == ()
    item.release()


async def test_a_cancelled_wait_leaves_nothing_behind() -> None:
    limiter = Limiter(1)
    async with limiter:
        waiting = Slot(limiter.line)
        with anyio.move_on_after(1) as scope:
            await waiting.acquire()
        assert scope.cancelled_caught
        assert limiter.statistics().waiting == 0
        waiting.release()
    assert limiter.statistics().in_flight == 0
