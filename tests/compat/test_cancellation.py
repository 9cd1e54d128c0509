"""A request of httpx cancelled at each of its suspensions, in every way there is."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from penstock import Limiter
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import sse_reply, status_reply, tokens
from penstock.testing.sweep import BackendName, cancel_sweep
from tests.support.compat import Generation, client_on


class Pieces:
    """A body in pieces. No generator: httpx would leave that to the garbage collector."""

    def __init__(self) -> None:
        self._left = [b"a", b"b"]

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()


async def whole(client: Any) -> None:
    assert (await client.post("/chat/completions", json={})).content.endswith(b"[DONE]\n\n")


async def streamed(client: Any) -> None:
    async with client.stream("POST", "/chat/completions", json={}) as response:
        assert len(await response.aread()) > 100


async def uploaded(client: Any) -> None:
    await client.post("/files", content=Pieces())


@pytest.mark.sampled(0.2)
@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
@pytest.mark.parametrize("do", [whole, streamed, uploaded])
def test_nothing_stays_open(
    generation: Generation, backend: BackendName, do: Callable[[Any], Awaitable[None]]
) -> None:
    @asynccontextmanager
    async def scenario() -> AsyncGenerator[Any]:
        limiter = Limiter(1)
        network = MemoryNetwork(
            status_reply(200, b"ok")
            if do is uploaded
            else sse_reply(tokens("Hel", "lo"), one_segment_each=True)
        )
        async with client_on(generation, network, limiter=limiter) as client:

            async def body() -> None:
                await do(client)

            yield body
            assert limiter.statistics().in_flight == 0
            assert limiter.statistics().waiting == 0
            # The connection is idle and clean, or closed.
            await do(client)
        assert network.open_connections == 0

    points = cancel_sweep(backend, scenario)
    assert all(count > 3 for count in points.values())
