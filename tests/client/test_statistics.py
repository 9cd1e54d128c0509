from __future__ import annotations

import anyio
import pytest

from penstock import AsyncClient, ClientStatistics, InsufficientCreditsError, Limiter
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import error_reply, sse_reply, tokens
from penstock.testing.server import serve
from tests.support.chat import REQUEST, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

HELLO = sse_reply(tokens("Hel", "lo"))


async def test_calls_and_connections() -> None:
    async with client_on(MemoryNetwork(HELLO.after(5))) as client:

        def now() -> tuple[int, int, int]:
            """Open calls, idle and active connections."""
            figures = client.statistics()
            return figures.open_calls, figures.idle_connections, figures.active_connections

        assert client.statistics() == ClientStatistics(*(0,) * 8)
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(client.complete, REQUEST)
            await anyio.sleep(1)
            assert now() == (3, 0, 3)
        assert now() == (0, 3, 0)
        async with client.chat.completions.stream(**REQUEST) as stream:
            await stream.__anext__()
            assert now() == (1, 2, 1)
        await anyio.sleep(60)
        assert now() == (0, 0, 0)
    assert now() == (0, 0, 0)


async def test_what_was_done_so_far() -> None:
    limiter = Limiter(1)
    network = MemoryNetwork([HELLO, error_reply(500), HELLO, error_reply(402), HELLO])
    async with client_on(network, limiter=limiter) as client:
        await client.complete(REQUEST)
        await client.complete(REQUEST)
        with pytest.raises(InsufficientCreditsError):
            await client.complete(REQUEST)
        async with client.chat.completions.stream(**REQUEST) as stream:
            await stream.__anext__()
        async with limiter:
            with anyio.move_on_after(1):
                await client.complete(REQUEST)
        figures = client.statistics()
    assert (figures.calls, figures.attempts) == (5, 6)
    assert (figures.completed, figures.failed) == (2, 1)
    assert figures.connections_made == len(network.connections)


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
