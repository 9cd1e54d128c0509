from __future__ import annotations

import anyio
import pytest

from penstock import APIConnectionError, AsyncClient, ConnectTimeout, Timeouts
from penstock.testing.lookups import slow_lookups
from penstock.testing.replies import sse_reply, tokens
from penstock.testing.server import serve
from tests.support.chat import REQUEST

pytestmark = pytest.mark.anyio


async def test_names_take_their_time() -> None:
    real = anyio.getaddrinfo
    async with serve(sse_reply(tokens("Hi"))) as server:
        url = server.base_url.replace("127.0.0.1", "api.test")
        with slow_lookups(0.05, {"api.test": "127.0.0.1"}) as lookups:
            async with AsyncClient(url, proxy="") as client:
                before = anyio.current_time()
                answers = []

                async def ask() -> None:
                    answers.append(await client.complete(REQUEST))

                async with anyio.create_task_group() as group:
                    for _ in range(20):
                        group.start_soon(ask)
                assert len(answers) == 20
                assert anyio.current_time() - before >= 0.05
            assert lookups.names == ["api.test"]
            async with AsyncClient("http://elsewhere.test", proxy="", max_retries=0) as client:
                with pytest.raises(APIConnectionError, match="cannot resolve"):
                    await client.complete(REQUEST)
            assert lookups.names == ["api.test", "elsewhere.test"]
    assert anyio.getaddrinfo is real


async def test_the_deadline_of_connecting_counts_it() -> None:
    with slow_lookups(60) as lookups:
        timeouts = Timeouts(connect=0.05)
        async with AsyncClient(
            "http://api.test", proxy="", timeouts=timeouts, max_retries=0
        ) as client:
            with pytest.raises(ConnectTimeout):
                await client.complete(REQUEST)
    assert lookups.names == ["api.test"]


@pytest.mark.parametrize("address", ["::1", "127.0.0.1"])
async def test_both_families(address: str) -> None:
    with slow_lookups(0, {"api.test": address}):
        ((_, _, _, _, (host, port)),) = await anyio.getaddrinfo("api.test", 80)
    assert (host, port) == (address, 80)
