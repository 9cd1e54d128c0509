"""Rates of a minute on real sockets: what the server has not seen is not counted."""

from __future__ import annotations

import anyio
import pytest

from penstock import Client, Limiter
from penstock.testing.replies import completion, json_reply
from penstock.testing.server import serve, serve_in_thread
from tests.support.chat import REQUEST, client_of

pytestmark = pytest.mark.anyio

ANSWER = json_reply(completion())


async def test_a_request_that_is_cancelled_before_its_first_byte_is_not_counted() -> None:
    limiter = Limiter(4, requests_per_minute=10, tokens_per_minute=1000, estimate=lambda _: 300)
    scope = anyio.CancelScope()

    async def key() -> str:
        if limiter.statistics().granted == 2:
            scope.cancel()  # felt at the next wait: of the idle connection's upload
        return "sk-test"

    async with serve(ANSWER) as server, client_of(server, limiter=limiter, api_key=key) as client:
        await client.chat.completions.create(**REQUEST)
        with scope:
            await client.chat.completions.create(**REQUEST)
        assert scope.cancelled_caught
        await anyio.sleep(0.05)
        seen = len(server.requests)
        statistics = limiter.statistics()
        assert statistics.requests_available == 10 - seen
        assert statistics.tokens_available == 998 - 300 * (seen - 1)
        assert statistics.tokens_held == 0


def test_threads_share_the_rates_of_blocking_clients() -> None:
    limiter = Limiter(4, requests_per_minute=100, tokens_per_minute=1000, estimate=lambda _: 300)
    with (
        serve_in_thread(ANSWER) as server,
        Client(server.base_url, api_key="sk-test", limiter=limiter) as client,
    ):
        with client.chat.completions.stream(**REQUEST) as stream:
            assert limiter.statistics().tokens_held == 300
            stream.collect()
        for _ in range(3):
            client.chat.completions.create(**REQUEST)
        statistics = limiter.statistics()
    assert (statistics.requests_available, statistics.tokens_available) == (96, 1000 - 4 * 2)
    assert (statistics.tokens_held, statistics.tokens_settled) == (0, 4 * 2)


def test_a_slot_may_be_settled_in_another_thread() -> None:
    limiter = Limiter(4, tokens_per_minute=1000)

    async def main() -> int | None:
        slot = await limiter.acquire(tokens=400)
        await anyio.to_thread.run_sync(slot.settle, 100)
        await anyio.to_thread.run_sync(slot.release)
        await anyio.sleep(0.05)
        return limiter.statistics().tokens_available

    assert anyio.run(main) == 900
