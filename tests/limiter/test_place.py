"""`Limiter.place()`: one call, or several, in a place of the caller's."""

from __future__ import annotations

import anyio
import pytest

from penstock import Limiter, RateLimitError
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import error_reply, sse_reply, tokens
from tests.support.chat import REQUEST, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

HELLO = sse_reply(tokens("Hel", "lo"))


async def test_a_request_made_within_uses_the_place() -> None:
    network = MemoryNetwork(HELLO)
    limiter = Limiter(1)
    async with client_on(network, limiter=limiter) as client:
        for _ in range(2):
            async with limiter.place():
                assert limiter.statistics().in_flight == 1
                await client.complete(REQUEST)
                await client.complete(REQUEST)
                assert limiter.statistics().in_flight == 1
            assert limiter.statistics().in_flight == 0
    assert len(network.requests) == 4


@pytest.mark.parametrize("calls", [1, 20])
async def test_places_are_bounded_and_given_back_on_every_way_out(calls: int) -> None:
    limiter = Limiter(3)
    live = peak = 0

    async def call(number: int) -> None:
        nonlocal live, peak
        with anyio.move_on_after(2.5 if number % 3 == 0 else 99):
            async with limiter.place():
                live += 1
                peak = max(peak, live)
                try:
                    await anyio.sleep(1)
                    if number % 5 == 4:
                        raise KeyError
                finally:
                    live -= 1

    async def safely(number: int) -> None:
        try:
            await call(number)
        except KeyError:
            pass

    async with anyio.create_task_group() as group:
        for number in range(calls):
            group.start_soon(safely, number)
    assert peak == min(3, calls)
    assert (limiter.statistics().in_flight, limiter.statistics().waiting) == (0, 0)


async def test_the_place_learns_from_what_happens_in_it() -> None:
    network = MemoryNetwork([error_reply(429, headers={"retry-after": "7"}), HELLO])
    limiter = Limiter(8, adaptive=True)
    async with client_on(network, limiter=limiter, max_retries=0) as client:
        with pytest.raises(RateLimitError):
            async with limiter.place():
                await client.complete(REQUEST)
        assert limiter.statistics().limit < 8
        start = anyio.current_time()
        async with limiter.place():
            assert anyio.current_time() - start == pytest.approx(7)
            await client.complete(REQUEST)


async def test_a_place_is_entered_once() -> None:
    place = Limiter(2).place()
    async with place:
        with pytest.raises(RuntimeError, match="once"):
            await place.__aenter__()
