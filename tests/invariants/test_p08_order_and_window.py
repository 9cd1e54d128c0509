"""Promise 8: ordered mode keeps order and window; unordered mode waits for no sibling."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._many.fan_out import fan_out

from .evidence import count
from .runs import Record, Run, runs
from .virtual_uvloop import virtual_backend as anyio_backend

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio


@given(run=runs(ordered=True))
async def test_ordered(run: Run) -> None:
    count("examples")
    record = Record(run)
    await record.play()
    assert not record.violations
    assert [r.index for r in record.results] == list(range(len(record.results)))


@given(run=runs(ordered=False, patience=None, reads=[None] * 15))
async def test_unordered_comes_as_completed(run: Run) -> None:
    count("examples")
    record = Record(run)
    await record.play()
    assert not record.violations
    ends = [r.ended for r in record.results]
    assert ends == sorted(ends)


@given(
    durations=st.lists(st.sampled_from([0.25, 0.5, 1.0, 3.0]), min_size=1, max_size=20),
    limit=st.integers(1, 5),
)
async def test_unordered_never_waits_for_a_slower_sibling(
    durations: list[float], limit: int
) -> None:
    count("examples")
    started = anyio.current_time()
    async with fan_out(anyio.sleep, durations, limit=limit) as results:
        seen = [(r.index, anyio.current_time() - started) async for r in results]
    # As many workers, each with the next item as soon as it is free, would do no better.
    free = [0.0] * limit
    due = {}
    for index, duration in enumerate(durations):
        worker = free.index(min(free))
        free[worker] += duration
        due[index] = free[worker]
    assert dict(seen) == due


@given(
    durations=st.lists(st.sampled_from([0.25, 0.5, 1.0]), min_size=0, max_size=20),
    limit=st.integers(2, 5),
    window=st.none() | st.integers(1, 12),
)
async def test_work_goes_on_ahead_of_a_slow_head(
    durations: list[float], limit: int, window: int | None
) -> None:
    count("examples")
    begun: list[int] = []

    async def call(item: tuple[int, float]) -> None:
        begun.append(item[0])
        await anyio.sleep(item[1])

    items = list(enumerate([100.0, *durations]))
    effective = 2 * limit if window is None else window
    async with fan_out(call, items, limit=limit, ordered=True, window=window) as results:
        await anyio.sleep(99)
        assert begun == list(range(min(len(items), effective + 1)))
        now = results.statistics()
        assert now.waiting == now.held_back == len(begun) - 1
        assert now.blocked_on_consumer == 0
        assert [r.index async for r in results] == list(range(len(items)))


async def test_a_window_smaller_than_the_limit() -> None:
    running = most = 0

    async def call(number: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(1)
        running -= 1

    async with fan_out(call, range(20), limit=10, ordered=True, window=2) as results:
        assert [r.index async for r in results] == list(range(20))
    assert most == 3  # the oldest undelivered, and two ahead of it
