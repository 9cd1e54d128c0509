"""uvloop in virtual time does not sleep, is exact, and says so when nothing can happen any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest
import uvloop

from penstock.testing import clock
from penstock.testing.clock import DeadlockError

from .virtual_uvloop import run_virtually


def run(function: Callable[[], Awaitable[Any]]) -> Any:
    return run_virtually("uvloop", function)


def test_a_day_takes_no_time() -> None:
    async def main() -> float:
        assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
        for _ in range(3):
            await anyio.sleep(86400.1)  # noqa: ASYNC116
        with anyio.move_on_after(1e6):
            await anyio.sleep_forever()
        return anyio.current_time()

    start = time.monotonic()
    for _ in range(2):
        assert run(main) == pytest.approx(1259200.3)
    assert time.monotonic() - start < 1


def test_timers_fire_in_order_and_not_when_cancelled() -> None:
    async def main() -> list[float]:
        fired: list[float] = []
        loop = asyncio.get_running_loop()

        def fire() -> None:
            fired.append(loop.time())

        for seconds in (5, 1, 3, 2, 0):
            loop.call_later(seconds, fire)
        loop.call_later(4, fire).cancel()
        loop.call_later(3, lambda: loop.call_soon(fire))
        together = loop.call_at(6, fire)
        loop.call_at(6, fire)
        loop.call_at(5, together.cancel)
        await asyncio.sleep(7)
        return fired

    assert run(main) == [0, 1, 2, 3, 3, 5, 6]


def test_time_stands_still_while_a_task_can_run() -> None:
    async def main() -> None:
        with anyio.move_on_after(1) as scope:
            for _ in range(10_000):
                await asyncio.sleep(0)
        assert not scope.cancelled_caught
        assert anyio.current_time() == 0

    run(main)


def test_a_deadlock_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "DEADLOCK_AFTER", 0.05)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            await anyio.Event().wait()

    with pytest.raises(DeadlockError):
        run(main)


def test_a_thread_is_waited_for() -> None:
    async def main() -> str:
        await anyio.to_thread.run_sync(time.sleep, 0.03)
        return "done"

    assert run(main) == "done"
