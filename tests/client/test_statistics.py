from __future__ import annotations

import anyio
import pytest

from penstock import AsyncClient, ClientStatistics
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import sse_reply, tokens
from penstock.testing.server import serve
from tests.support.chat import REQUEST, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

HELLO = sse_reply(tokens("Hel", "lo"))


async def test_calls_and_connections() -> None:
    async with client_on(MemoryNetwork(HELLO.after(5))) as client:
        assert client.statistics() == ClientStatistics(open_calls=0, idle_connections=0)
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(client.complete, REQUEST)
            await anyio.sleep(1)
            assert client.statistics() == ClientStatistics(open_calls=3, idle_connections=0)
        assert client.statistics() == ClientStatistics(open_calls=0, idle_connections=3)
        async with client.chat.completions.stream(**REQUEST) as stream:
            await stream.__anext__()
            assert client.statistics() == ClientStatistics(open_calls=1, idle_connections=2)
        await anyio.sleep(60)
        assert client.statistics() == ClientStatistics(open_calls=0, idle_connections=0)
    assert client.statistics() == ClientStatistics(open_calls=0, idle_connections=0)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_connections_that_the_server_has_closed_are_not_counted_or_kept(backend: str) -> None:
    async def main() -> None:
        async with serve(sse_reply(tokens("Hi"))) as server:
            client = AsyncClient(server.base_url, proxy="")
            async with anyio.create_task_group() as group:
                for _ in range(20):
                    group.start_soon(client.complete, REQUEST)
            assert client.statistics().idle_connections > 0
        # The server has gone, and with it all connections.
        with anyio.fail_after(5):
            while client.statistics().idle_connections:  # noqa: ASYNC110 - only a look tells
                await anyio.sleep(0.01)
        assert not client._connections._idle
        await client.aclose()

    anyio.run(main, backend=backend)
