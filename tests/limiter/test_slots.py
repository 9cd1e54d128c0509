"""Places that are lent, given back for a while, and come home."""

from __future__ import annotations

import contextlib

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import Limiter
from penstock._limiter.lent import lent, lent_slots
from penstock._limiter.slots import Slot
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


async def stand(limiter: Limiter, seconds: float = 0.0) -> float:
    """Make a request that takes so long; gives the time at which it started."""
    slot = Slot(limiter.line)
    await slot.acquire()
    started = anyio.current_time()
    await anyio.sleep(seconds)
    slot.release()
    return started


@pytest.mark.parametrize("depth", [1, 2, 3])
async def test_each_request_of_an_item_is_a_start_of_its_own(depth: int) -> None:
    limiter = Limiter(1, per_second=1)
    with contextlib.ExitStack() as stack:
        for _ in range(depth):
            slot = await limiter.acquire()
            stack.callback(slot.release)
            stack.enter_context(lent(slot))
        # The first one is the start that the place was given for.
        assert [await stand(limiter) for _ in range(3)] == pytest.approx([0, 1, 2])
        assert limiter.statistics().in_flight == 1
    assert limiter.statistics().in_flight == 0


async def test_a_pause_that_ends_now_costs_no_second_start() -> None:
    limiter = Limiter(1, per_second=1)
    item = await limiter.acquire()
    limiter.pause(0)
    with lent(item):
        assert await stand(limiter) == pytest.approx(0)
    item.release()


@pytest.mark.parametrize("per_second", [None, 1])
async def test_an_item_keeps_its_place_from_one_request_to_the_next(
    per_second: float | None,
) -> None:
    limiter = Limiter(1, per_second=per_second)
    item = await limiter.acquire()
    others: list[float] = []

    async def other() -> None:
        others.append(await stand(limiter))

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        with lent(item):
            # Also when the pace lets it start only just now.
            assert [await stand(limiter, 1) for _ in range(3)] == pytest.approx([0, 1, 2])
            assert others == []
            await anyio.sleep(1)
        item.release()
    assert others == [pytest.approx(4)]


@pytest.mark.parametrize("waits_from", [0, 1, 2])
async def test_an_offered_place_is_lent_until_somebody_waits(waits_from: int) -> None:
    limiter = Limiter(1)
    feeder = await limiter.acquire()
    others: list[float] = []

    async def other() -> None:
        await anyio.sleep(waits_from + 0.25)
        others.append(await stand(limiter))

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        with lent(feeder), feeder.offered():
            for second in range(5):
                # The source makes a request, then does something else.
                assert await stand(limiter, 0.5) == pytest.approx(second)
                assert limiter.statistics().in_flight == (second != waits_from)
                await anyio.sleep(0.5)
        await feeder.acquire()
        feeder.release()
    # Next after the request that stood in it.
    assert others == [pytest.approx(waits_from + 0.5)]


async def test_an_offered_place_is_taken_at_the_pace_of_its_limiter() -> None:
    limiter = Limiter(1, per_second=2)
    feeder = await limiter.acquire()
    with feeder.offered():
        assert await stand(limiter, 2) == pytest.approx(0.5)
        assert limiter.statistics().in_flight == 0
    await feeder.acquire()
    feeder.release()
    assert limiter.statistics().in_flight == 0


async def test_an_ended_place_inside_of_another_is_passed_over() -> None:
    limiter = Limiter(1)
    outer = await limiter.acquire()
    with lent(outer):
        inner = await limiter.acquire()
        with lent(inner):
            inner.release()
            assert await stand(limiter) == 0
            # It stood in the outer one, which has the place again.
            assert limiter.statistics().in_flight == 1
    outer.release()
    assert limiter.statistics().in_flight == 0


async def test_a_place_of_one_limiter_is_none_of_another() -> None:
    limiter, other = Limiter(1), Limiter(1)
    item = await other.acquire()
    with lent(item):
        request = Slot(limiter.line)
        await request.acquire()
        assert (limiter.statistics().in_flight, other.statistics().in_flight) == (1, 1)
        request.release()
        assert (limiter.statistics().in_flight, other.statistics().in_flight) == (0, 1)
    item.release()


async def test_of_two_places_taken_for_one_that_was_given_up_only_one_comes_home() -> None:
    limiter = Limiter(2)
    item = await limiter.acquire()
    limiter.pause(5)
    with lent(item):
        async with anyio.create_task_group() as group:
            for seconds in (1, 2):
                group.start_soon(stand, limiter, seconds)
            await anyio.sleep(1)
            assert limiter.statistics().in_flight == 0
            await anyio.sleep(4.5)
            assert limiter.statistics().in_flight == 2
        assert limiter.statistics().in_flight == 1
    item.release()
    assert limiter.statistics().in_flight == 0


async def test_a_place_that_is_given_back_to_a_slot_that_queues_goes_to_the_line() -> None:
    limiter = Limiter(2)
    item = await limiter.acquire()
    limiter.pause(1)
    async with anyio.create_task_group() as group:
        with lent(item):
            # The pause parks the item, and the request has a place that is to come home.
            group.start_soon(stand, limiter, 2)
            await anyio.sleep(1.5)
        async with limiter:
            group.start_soon(item.acquire)
            await anyio.sleep(3)
    assert limiter.statistics().in_flight == 1
    item.release()
    assert limiter.statistics().in_flight == 0


requests = st.tuples(
    st.integers(0, 3),  # when it is made, after the item has its place
    st.integers(0, 3),  # how long it takes
    st.none() | st.integers(0, 3),  # how long it waits for a second attempt
    st.none() | st.integers(0, 4),  # when it is cancelled
)


@given(
    limit=st.integers(1, 3),
    per_second=st.none() | st.sampled_from([1, 2]),
    items=st.lists(st.tuples(st.integers(0, 3), st.lists(requests, max_size=3)), max_size=4),
    depth=st.integers(1, 2),
    pause=st.none() | st.tuples(st.integers(0, 4), st.integers(0, 3)),
)
async def test_whatever_items_and_their_requests_do(
    limit: int,
    per_second: float | None,
    items: list[tuple[int, list[tuple[int, int, int | None, int | None]]]],
    depth: int,
    pause: tuple[int, int] | None,
) -> None:
    limiter = Limiter(limit, per_second=per_second)
    began = anyio.current_time()
    starts: list[float] = []
    running = 0

    async def attempt(slot: Slot, seconds: float) -> None:
        nonlocal running
        await slot.acquire()
        starts.append(anyio.current_time() - began)
        running += 1
        try:
            assert running <= limiter.statistics().in_flight <= limit
            await anyio.sleep(seconds)
        finally:
            running -= 1

    async def request(after: int, takes: int, again: int | None, patience: int | None) -> None:
        slot = Slot(limiter.line)
        with anyio.move_on_after(patience):
            try:
                await anyio.sleep(after)
                await attempt(slot, takes)
                if again is not None:
                    slot.step_aside()
                    await anyio.sleep(again)
                    await attempt(slot, takes)
            finally:
                slot.release()

    async def item(level: int, made: list[tuple[int, int, int | None, int | None]]) -> None:
        slot = await limiter.acquire()
        try:
            with lent(slot):
                if level > 1:
                    await item(level - 1, made)
                async with anyio.create_task_group() as group:
                    for each in made:
                        group.start_soon(request, *each)
        finally:
            slot.release()

    async def arrive(at: int, made: list[tuple[int, int, int | None, int | None]]) -> None:
        await anyio.sleep(at)
        await item(depth, made)

    with anyio.fail_after(1000):  # nobody waits for itself
        async with anyio.create_task_group() as group:
            for each in items:
                group.start_soon(arrive, *each)
            if pause is not None:
                await anyio.sleep(pause[0])
                limiter.pause(pause[1])
    assert limiter.statistics().in_flight == limiter.statistics().waiting == 0
    if per_second is not None:
        for number, time in enumerate(starts):
            assert time >= number / per_second - 1e-6
    if pause is not None:
        assert not any(pause[0] < time < sum(pause) for time in starts)
