"""The line in front of a limiter: its order, its rates, and what a cancellation costs."""

from __future__ import annotations

import math
import sys
from collections import Counter
from types import FrameType
from typing import NamedTuple

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import Limiter, fan_out
from penstock._limiter.lent import lent
from penstock._limiter.rates import Reservation
from penstock._limiter.slots import Slot
from penstock._policy.window import GRAIN, MINUTE
from penstock.testing.clock import virtual
from penstock.testing.plugin import virtual_backend as anyio_backend

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio


class Job(NamedTuple):
    arrives: float
    tokens: int
    lasts: float
    costs: int
    """Tokens that it turns out to cost, in per cent of the estimate."""
    patience: float
    """Seconds after which it is cancelled, waiting or not."""


jobs = st.lists(
    st.builds(
        Job,
        st.floats(0, 100),
        st.integers(0, 150),
        st.sampled_from([0.0, 0.5, 20.0, 90.0]),
        st.integers(0, 100),
        st.sampled_from([0.0, 1.0, 50.0, math.inf, math.inf, math.inf]),
    ),
    max_size=25,
)


@given(
    places=st.integers(1, 4),
    requests=st.none() | st.integers(1, 8),
    tokens=st.none() | st.integers(1, 200),
    jobs=jobs,
)
async def test_no_minute_gets_more_than_its_rate_and_everybody_comes_to_their_turn(
    places: int, requests: int | None, tokens: int | None, jobs: list[Job]
) -> None:
    limiter = Limiter(places, requests_per_minute=requests, tokens_per_minute=tokens)
    started: dict[int, float] = {}
    costs: dict[int, int] = {}
    asked: list[int] = []

    async def work(number: int, job: Job) -> None:
        await anyio.sleep(job.arrives)
        with anyio.move_on_after(job.patience):
            asked.append(number)
            slot = await limiter.acquire(job.tokens)
            try:
                assert limiter.statistics().in_flight <= places
                started[number] = anyio.current_time()
                costs[number] = min(job.tokens, tokens or 0)  # all that a minute has
                await anyio.sleep(job.lasts)
                cost = job.tokens * job.costs // 100
                slot.settle(cost)
                costs[number] = min(cost, tokens or 0)
            finally:
                slot.release()

    async with anyio.create_task_group() as group:
        for number, job in enumerate(jobs):
            group.start_soon(work, number, job)
    for since in started.values():
        within = [costs[number] for number, at in started.items() if since <= at <= since + 60]
        assert requests is None or len(within) <= requests
        assert tokens is None or sum(within) <= tokens
    # First come, first served; and all are.
    assert list(started) == [number for number in asked if number in started]
    assert all(number in started for number, job in enumerate(jobs) if job.patience == math.inf)
    statistics = limiter.statistics()
    assert statistics.in_flight == statistics.waiting == 0
    assert not statistics.tokens_held
    if tokens is not None:
        assert statistics.tokens_settled is not None
        assert statistics.tokens_reserved is not None
        assert statistics.tokens_settled <= statistics.tokens_reserved
    await anyio.sleep(MINUTE + GRAIN)
    assert limiter.statistics().requests_available == requests
    assert limiter.statistics().tokens_available == tokens


@given(
    tokens=st.integers(100, 1000),
    others=st.lists(st.integers(1, 100), min_size=1, max_size=20),
    size=st.integers(1, 5000),
)
async def test_nobody_waits_for_longer_than_those_before_and_one_minute(
    tokens: int, others: list[int], size: int
) -> None:
    limiter = Limiter(100, tokens_per_minute=tokens)
    waited: list[float] = []

    async def work(amount: int) -> None:
        began = anyio.current_time()
        slot = await limiter.acquire(amount)
        waited.append(anyio.current_time() - began)
        slot.release()

    async with anyio.create_task_group() as group:
        for amount in others:
            group.start_soon(work, amount)
        await anyio.lowlevel.checkpoint()
        group.start_soon(work, size)
        for amount in others:  # behind it
            group.start_soon(work, amount)
    minutes = sum(others) // (tokens // 2 + 1) + 1
    assert waited[len(others)] <= minutes * (MINUTE + GRAIN)


@pytest.mark.parametrize("when", [0, 1, 30, 61, 100])
async def test_a_cancellation_gives_everything_back(when: float) -> None:
    limiter = Limiter(2, requests_per_minute=2, tokens_per_minute=100)
    first = await limiter.acquire(100)
    first.release()
    scope = anyio.CancelScope()

    async def wait() -> None:
        with scope:
            await limiter.line.enter(Reservation(50))

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.sleep(when)
        before = limiter.statistics()
        scope.cancel()
        await anyio.sleep(0)  # noqa: ASYNC115 - a turn of the loop, whatever it runs
    after = limiter.statistics()
    assert after.waiting == 0
    if before.waiting:
        assert (after.in_flight, after.tokens_reserved) == (0, 100)
    await anyio.sleep(MINUTE)
    assert limiter.statistics().requests_available == 2


def test_a_cancellation_costs_the_same_however_many_wait() -> None:
    def calls(waiters: int) -> float:
        """Return the calls of the limiter's functions for each of 500 cancelled waiters."""
        counted = Counter[str]()

        def note(frame: FrameType, event: str, _: object) -> None:
            if event == "call" and "penstock/_" in frame.f_code.co_filename.replace("\\", "/"):
                counted["calls"] += 1

        async def main() -> None:
            limiter = Limiter(4, requests_per_minute=1, tokens_per_minute=1000)
            async with limiter:
                pass
            scopes = [anyio.CancelScope() for _ in range(waiters)]

            async def wait(scope: anyio.CancelScope) -> None:
                with scope:
                    await limiter.acquire(10)

            async with anyio.create_task_group() as group:
                for scope in scopes:
                    group.start_soon(wait, scope)
                await anyio.sleep(0.1)
                assert limiter.statistics().waiting == waiters
                sys.setprofile(note)
                try:
                    for scope in scopes[waiters // 2 :][:500]:
                        scope.cancel()
                        await anyio.lowlevel.checkpoint()
                        await anyio.lowlevel.checkpoint()
                finally:
                    sys.setprofile(None)
                assert limiter.statistics().waiting == waiters - 500
                group.cancel_scope.cancel()

        backend, options = virtual("asyncio")
        anyio.run(main, backend=backend, backend_options=options)
        return counted["calls"] / 500

    few = calls(1000)
    assert calls(20_000) <= few * 1.1
    assert few <= 10


async def test_what_is_given_back_wakes_the_first_in_line() -> None:
    limiter = Limiter(4, tokens_per_minute=100)
    slot = await limiter.acquire(100)
    times: list[float] = []

    async def wait() -> None:
        other = await limiter.acquire(80)
        times.append(anyio.current_time())
        other.release()

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.sleep(5)
        slot.settle(10)
    assert times == pytest.approx([5])
    slot.release()


async def test_a_line_fills_many_places_in_a_few_turns_where_its_rates_allow() -> None:
    limiter = Limiter(16, requests_per_minute=1000)
    slots = [await limiter.acquire() for _ in range(16)]
    done = 0

    async def work() -> None:
        nonlocal done
        async with limiter:
            done += 1

    async with anyio.create_task_group() as group:
        for _ in range(16):
            group.start_soon(work)
        await anyio.sleep(1)
        for slot in slots:
            slot.release()
        await anyio.sleep(0.001)
        assert done == 16


# --- items and their requests ---


async def test_an_items_request_is_not_behind_those_who_came_after_the_item() -> None:
    limiter = Limiter(4, tokens_per_minute=100)
    order: list[str] = []
    (await limiter.acquire(100)).release()

    async def late() -> None:
        slot = await limiter.acquire(100)
        order.append("late")
        slot.release()

    async def item(name: str) -> None:
        slot = Slot(limiter.line, reserves=False)
        await slot.acquire()
        with lent(slot):
            await anyio.sleep(5)
            for number in range(2):
                request = Slot(limiter.line, tokens=100)
                await request.acquire()
                request.sent()
                order.append(f"{name}{number}")
                request.release()
        slot.release()

    async with anyio.create_task_group() as group:
        group.start_soon(item, "a")
        await anyio.sleep(1)
        group.start_soon(item, "b")
        await anyio.sleep(1)
        group.start_soon(late)
    # The first request of each was in line before; the second is nobody's turn yet.
    assert order == ["a0", "b0", "late", "a1", "b1"]
    assert limiter.statistics().in_flight == limiter.statistics().waiting == 0


async def test_items_that_ask_again_and_again_keep_nobody_waiting_for_ever() -> None:
    limiter = Limiter(4, tokens_per_minute=100)
    done = anyio.Event()

    async def item(_: int) -> None:
        while not done.is_set():
            slot = Slot(limiter.line, tokens=30)
            await slot.acquire()
            slot.sent()
            await anyio.sleep(1)
            slot.release()

    async def outsider() -> None:
        await anyio.sleep(0.5)  # before any of them asks again
        slot = await limiter.acquire(100)
        waited.append(anyio.current_time() - began)
        slot.release()
        done.set()

    waited: list[float] = []
    began = anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(outsider)
        async with fan_out(item, range(4), limit=limiter) as results:
            assert len([result async for result in results]) == 4
    # Three of the items' first requests, then the fourth; the outsider's is next.
    assert waited[0] <= 2 * (MINUTE + GRAIN) + 1
