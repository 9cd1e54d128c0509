"""Functions of a blocking fan-out that run event loops of their own: no slot crosses over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest
import trio

from penstock import AsyncClient, Limiter
from penstock import fan_out as async_fan_out
from penstock.blocking import fan_out
from penstock.testing.replies import error_reply, sse_reply, tokens
from penstock.testing.script import RecordedRequest, Reply
from penstock.testing.server import serve_in_thread
from tests.support.blocking import client_of, saying

ITEMS = 12


def refusing_first() -> Callable[[RecordedRequest], Reply]:
    """Answer the first request of every third item with a 429."""
    seen: set[str] = set()

    def script(request: RecordedRequest) -> Reply:
        text: str = request.json["messages"][-1]["content"]
        if text not in seen and int(text) % 3 == 0:
            seen.add(text)
            return error_reply(429, headers={"retry-after-ms": "20"})
        return sse_reply(tokens(text))

    return script


@pytest.mark.parametrize("run", [asyncio.run, anyio.run, trio.run])
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("nested", ["one by one", "fan-out", "blocking"])
def test_an_agent_in_a_loop_of_its_own(run: Any, ordered: bool, nested: str) -> None:
    with serve_in_thread(refusing_first()) as server, client_of(server) as client:

        async def agent(item: int) -> str:
            async with AsyncClient(server.base_url, api_key="k", limiter=Limiter(1)) as own:
                if nested == "fan-out":
                    async with async_fan_out(own.complete, [saying(item)] * 2) as results:
                        said, _ = [each.unwrap() async for each in results]
                else:
                    said = await own.complete(saying(item))
            return said.choices[0].message.content or ""

        def work(item: int) -> str:
            if nested == "blocking" and item % 2:
                return client.complete(saying(item)).choices[0].message.content or ""

            async def main() -> str:
                return await agent(item)

            answer: str = asyncio.run(main()) if run is asyncio.run else run(main)
            return answer

        limiter = Limiter(2)
        with fan_out(work, range(ITEMS), limit=limiter, buffer=4, ordered=ordered) as results:
            said = [each.unwrap() for each in results]
        assert sorted(said, key=int) == [str(item) for item in range(ITEMS)]
        assert limiter.statistics().in_flight == 0


@pytest.mark.parametrize("run", [asyncio.run, anyio.run, trio.run])
@pytest.mark.parametrize("ordered", [False, True])
def test_blocking_clients_in_a_fan_out_of_an_event_loop(run: Any, ordered: bool) -> None:
    # In threads with the slot's context, here and there directly, and beside an async client.
    with (
        serve_in_thread(refusing_first()) as server,
        client_of(server, limiter=(below := Limiter(2))) as first,
        client_of(server, limiter=below) as second,
    ):

        async def main() -> list[str]:
            async with AsyncClient(server.base_url, api_key="k", limiter=limiter) as own:

                async def ask(item: int) -> str:
                    if item % 4 == 0:
                        said = await own.complete(saying(item))
                    elif item % 4 == 1:
                        said = second.complete(saying(item))
                    else:
                        said = await anyio.to_thread.run_sync(first.complete, saying(item))
                    return said.choices[0].message.content or ""

                fan = async_fan_out(ask, range(ITEMS), limit=limiter, buffer=4, ordered=ordered)
                async with fan as results:
                    return [each.unwrap() async for each in results]

        limiter = Limiter(3)
        said = asyncio.run(main()) if run is asyncio.run else run(main)
        assert sorted(said, key=int) == [str(item) for item in range(ITEMS)]
        assert limiter.statistics().in_flight == below.statistics().in_flight == 0


def test_blocking_fan_outs_within_fan_outs_share_a_limiter() -> None:
    limiter = Limiter(2)
    with (
        serve_in_thread(refusing_first()) as server,
        client_of(server, limiter=limiter) as first,
        client_of(server, limiter=limiter) as second,
    ):

        def inner(item: int) -> list[str]:
            client = (first, second)[item % 2]
            with fan_out(client.complete, [saying(item)] * 2, limit=limiter) as results:
                return [each.unwrap().choices[0].message.content or "" for each in results]

        with fan_out(inner, range(6), limit=limiter) as results:
            said = [text for each in results for text in each.unwrap()]
        assert sorted(said) == sorted(2 * [str(item) for item in range(6)])
        assert limiter.statistics().in_flight == 0
