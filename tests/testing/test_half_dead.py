"""Answers before the end of a request, and idle connections that are dead, as clients meet them."""

from __future__ import annotations

import anyio
import pytest

import penstock
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import error_reply, sse_reply, tokens
from penstock.testing.script import End, Fault, Reset, Stall
from penstock.testing.server import serve
from tests.support.chat import REQUEST, URL

pytestmark = pytest.mark.anyio


LARGE = {"model": "m", "messages": [{"role": "user", "content": "x" * 1_000_000}]}


@pytest.mark.parametrize("reads_on", [False, True])
@pytest.mark.parametrize("early", [0, 300_000])
async def test_in_memory_an_answer_before_the_end_of_the_request(
    early: int, reads_on: bool
) -> None:
    refusal = error_reply(413, "too large")
    network = MemoryNetwork(refusal, early=early, reads_on=reads_on)
    async with penstock.AsyncClient(URL, network=network, max_retries=0) as client:
        with pytest.raises(penstock.APIStatusError, match="too large"):
            await client.complete(LARGE)
        (request,) = network.requests
        assert early <= len(request.body) < 1_000_000
        if not reads_on:  # or else the upload may have been over in no time
            assert network.open_connections == 0
        # A small request is whole at once.
        with pytest.raises(penstock.APIStatusError, match="too large"):
            await client.complete(REQUEST)
        assert network.open_connections == 1


@pytest.mark.parametrize("fault", [Reset(), End(), Stall()])
async def test_in_memory_idle_connections_that_are_half_dead(fault: Fault) -> None:
    network = MemoryNetwork(sse_reply(tokens("Hi")))
    timeouts = penstock.Timeouts(read=0.2)
    async with penstock.AsyncClient(
        URL, network=network, max_retries=0, timeouts=timeouts
    ) as client:
        await client.complete(REQUEST)
        assert network.kill_idle(fault) == 1
        if isinstance(fault, Stall):
            with pytest.raises(penstock.ReadTimeout):
                await client.complete(REQUEST)
        else:
            await client.complete(REQUEST)
            assert len(network.connections) == 2
    assert network.kill_idle() == 0


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("reads_on", [False, True])
async def test_an_answer_before_the_end(reads_on: bool, tls: bool) -> None:
    large = {"model": "m", "messages": [{"role": "user", "content": "x" * 10_000_000}]}
    async with serve(
        error_reply(413, "too large"), early=100_000, reads_on=reads_on, tls=tls
    ) as server:
        context = server.client_ssl_context() if tls else None
        async with penstock.AsyncClient(
            server.base_url, ssl_context=context, max_retries=0, proxy=""
        ) as client:
            with pytest.raises(penstock.APIStatusError, match="too large"):
                await client.complete(large)
        await server.wait_closed()
        assert server.connections[0].bytes_received < 10_000_000


@pytest.mark.parametrize("fault", [Reset(), End(), Stall()])
async def test_idle_connections_that_are_half_dead(fault: Fault) -> None:
    async with serve(sse_reply(tokens("Hi"))) as server:
        timeouts = penstock.Timeouts(read=0.2)
        async with penstock.AsyncClient(
            server.base_url, max_retries=0, timeouts=timeouts, proxy=""
        ) as client:
            await client.complete(REQUEST)
            await server.wait_until(lambda: not server.in_flight)
            assert server.kill_idle(fault) == 1
            if isinstance(fault, Stall):
                with pytest.raises(penstock.ReadTimeout):
                    await client.complete(REQUEST)
            else:
                await client.complete(REQUEST)
                assert len(server.connections) == 2


@pytest.mark.sampled(0.34)
@pytest.mark.parametrize("fault", [Reset(), End()])
@pytest.mark.parametrize("max_retries", [0, 2])
async def test_many_half_dead_connections_on_sockets(max_retries: int, fault: Fault) -> None:
    """Each call meets one of them at most, and no call fails."""
    async with (
        serve(sse_reply(tokens("Hi"))) as server,
        penstock.AsyncClient(server.base_url, max_retries=max_retries, proxy="") as client,
    ):
        for way in ("complete", "race", "fan-out"):
            async with anyio.create_task_group() as group:
                for _ in range(20):
                    group.start_soon(client.complete, REQUEST)
            await server.wait_until(lambda: not server.in_flight)
            assert server.kill_idle(fault) > 1
            if way == "complete":
                await client.complete(REQUEST)
            elif way == "race":
                async with penstock.race(client, [REQUEST] * 3) as winner:
                    await winner.collect()
            else:
                async with penstock.fan_out(client.complete, [REQUEST] * 30) as results:
                    assert len([result.unwrap() async for result in results]) == 30
