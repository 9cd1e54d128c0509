"""Agents on the embedded model: they call a tool, and are cancelled in the middle of the answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

import penstock
from tests.frameworks.drivers import Driver
from tests.frameworks.gateway import gateway
from tests.support.real_server import RealServer, real_server, slots

pytestmark = pytest.mark.timeout(300)

SETTINGS = {"max_tokens": 1500, "ignore_eos": True}


@pytest.fixture(scope="module")
def model() -> Iterator[RealServer]:
    with real_server(1) as server:
        yield server


@dataclass
class Stopping:
    """What became of the model's work after a cancellation."""

    seconds: float
    """From the cancellation until no slot was at work."""
    interval: float
    """Seconds from one piece of the answer to the next, before."""

    @property
    def in_time(self) -> bool:
        return self.seconds <= max(0.1, 3 * self.interval)


async def pieces(heard: list[str], number: int, task: asyncio.Task[Any]) -> None:
    """Wait for so many pieces of the answer; raise the error of a task that has none."""
    while len(heard) < number:
        if task.done():
            raise AssertionError(f"it ended with {task.result()} after {heard}")
        await asyncio.sleep(0.002)


async def cancelled(framework: type[Driver], base_url: str, model: RealServer) -> Stopping:
    cities: list[str] = []

    def get_weather(city: str) -> str:
        """Return the weather of a city.

        Args:
            city: The name of the city.
        """
        cities.append(city)
        return f"It rains in {city}."

    driver = framework(base_url, tool=get_weather, settings=SETTINGS)
    heard: list[str] = []
    async with penstock.AsyncClient(model.root, proxy="") as observer:
        task = asyncio.create_task(driver.read("Do I need an umbrella in Oslo?", heard))
        await pieces(heard, 2, task)
        began, before = time.monotonic(), len(heard)
        await pieces(heard, before + 4, task)
        interval = (time.monotonic() - began) / (len(heard) - before)
        assert len(cities) == 1
        assert [slot["is_processing"] for slot in await slots(observer)] == [True]
        left = time.monotonic()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        while any(slot["is_processing"] for slot in await slots(observer)):
            # Not in a tight loop: it answers these before it looks at anything else.
            await asyncio.sleep(0.01)
        stopping = Stopping(time.monotonic() - left, interval)
    await driver.aclose()
    return stopping


@pytest.mark.needs("tools", "cancel")
def test_an_agent_is_cancelled_in_its_answer(framework: type[Driver], model: RealServer) -> None:
    # On a machine that others use as well a single measurement may be late: the best of five.
    found: list[Stopping] = []
    with gateway(model.base_url) as base_url:
        while not found or (not found[-1].in_time and len(found) < 5):
            found.append(asyncio.run(cancelled(framework, base_url, model)))
    assert found[-1].in_time, found
