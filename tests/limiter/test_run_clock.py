"""`RunClock`: time that goes on, whatever the clocks of the runs say."""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from penstock import Limiter
from penstock._limiter.run_clock import RunClock
from penstock.testing.clock import virtual


@pytest.fixture(autouse=True)
def still(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Real time, which passes only where a test says so."""
    now = [1000.0]
    monkeypatch.setattr("penstock._limiter.run_clock.time.monotonic", lambda: now[0])
    assert time.monotonic() == 1000.0
    return now


def run_trio(begin: float, work: Callable[[], Awaitable[Any]]) -> Any:
    """Run it on a trio whose clock begins there."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    clock.jump(begin)
    return anyio.run(work, backend="trio", backend_options={"clock": clock})


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_in_the_first_run_it_is_the_loops(backend: str) -> None:
    async def work() -> None:
        clock = RunClock()
        for _ in range(10):
            assert clock.now() == anyio.current_time()
            await anyio.sleep(0.1)

    name, options = virtual(backend)
    anyio.run(work, backend=name, backend_options=options)


@given(
    begins=st.lists(st.floats(0, 1e6), min_size=1, max_size=5),
    within=st.floats(0, 1e4),
    between=st.floats(0, 1e4),
)
def test_it_goes_on_through_runs_that_begin_anywhere(
    begins: list[float], within: float, between: float
) -> None:
    real = [0.0]
    clock = RunClock()

    async def work() -> None:
        seen.append(clock.now())
        await anyio.sleep(within)
        seen.append(clock.now())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("penstock._limiter.run_clock.time.monotonic", lambda: real[0])
        seen: list[float] = []
        for begin in begins:
            run_trio(begin, work)
            real[0] += between
            seen.append(clock.now())
    steps = [after - before for before, after in itertools.pairwise(seen)]
    expected = [within, between, 0.0] * len(begins)
    assert steps == pytest.approx(expected[: len(steps)], abs=1e-6)


def test_a_limiter_knows_its_pause_without_a_loop(still: list[float]) -> None:
    limiter = Limiter(1)
    limiter.pause(30)
    still[0] += 10
    assert limiter.statistics().paused_for == pytest.approx(20)


@pytest.mark.parametrize("begin", [0, 1e6])
def test_a_limiter_keeps_its_pace_in_the_next_run(begin: float, still: list[float]) -> None:
    # A pause or a pace that was noted at the hours of one trio clock holds nobody for days.
    limiter = Limiter(1, per_second=0.5)

    async def pause() -> None:
        async with limiter:
            limiter.pause(30)

    async def wait() -> float:
        began = anyio.current_time()
        async with limiter:
            return anyio.current_time() - began

    run_trio(500_000, pause)
    still[0] += 10
    assert limiter.statistics().paused_for == pytest.approx(20)
    assert run_trio(begin, wait) == pytest.approx(20)
