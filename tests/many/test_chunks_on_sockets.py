"""`fan_out_chunks` on real sockets: what the server sees of it, on every event loop."""

from __future__ import annotations

import gc

import anyio
import anyio.lowlevel
import pytest

from penstock import ChunkEvent, Limiter, ResultEvent, fan_out_chunks
from penstock.testing.replies import sse_event, sse_reply, tokens
from penstock.testing.script import Repeat, Stall
from penstock.testing.server import Server, serve
from tests.support.chat import REQUEST, client_of

pytestmark = pytest.mark.anyio

(TOKEN,) = tokens("x" * 1000, finish=None, role_first=False)
ENDLESS = sse_reply([Repeat(sse_event(TOKEN) * 16)], done=False)
HANGING = sse_reply([*tokens("a", finish=None), Stall()], done=False)
# A connection's kernel buffers on both sides (loopback grows them to some MiB each).
KERNEL = 12 * 1024 * 1024


def sent(server: Server) -> int:
    return sum(connection.bytes_sent for connection in server.connections)


async def settled(server: Server) -> int:
    """The bytes sent, once they no longer grow."""
    with anyio.fail_after(20):
        before = -1
        while before != sent(server) or not before:
            before = sent(server)
            for _ in range(5):
                await anyio.sleep(0.02)
    return before


async def test_a_stalled_consumer_of_endless_streams_stops_the_servers() -> None:
    async with (
        serve(ENDLESS) as server,
        client_of(server) as client,
        fan_out_chunks(client, [REQUEST] * 4, limit=4, buffer=2) as events,
    ):
        assert isinstance(await anext(events), ChunkEvent)
        stopped_at = await settled(server)
        assert stopped_at < 4 * KERNEL
        # It goes on when the consumer does.
        with anyio.fail_after(20):
            while sent(server) == stopped_at:
                for _ in range(500):
                    await anext(events)
                await anyio.sleep(0.001)


async def test_a_stalled_reader_of_one_stream_stops_its_server() -> None:
    async with (
        serve(ENDLESS) as server,
        client_of(server) as client,
        client.chat.completions.stream(**REQUEST) as stream,
    ):
        await anext(stream)
        assert await settled(server) < KERNEL


@pytest.mark.parametrize("way", ["break", "raise", "cancel"])
async def test_every_connection_is_closed_when_the_block_is_left(way: str) -> None:
    limiter = Limiter(20)
    async with serve(HANGING) as server, client_of(server, limiter=limiter) as client:
        with anyio.CancelScope() as scope:
            try:
                async with fan_out_chunks(client, [REQUEST] * 50, limit=limiter) as events:
                    seen: set[int] = set()
                    async for event in events:
                        seen.add(event.index)
                        if len(seen) == 20:
                            break
                    if way == "raise":
                        raise KeyError
                    if way == "cancel":
                        scope.cancel()
                        await anyio.lowlevel.checkpoint()
            except KeyError:
                assert way == "raise"
        assert limiter.statistics().in_flight == 0
        await server.wait_closed(20)
        assert len(server.connections) == 20
        assert {connection.ended for connection in server.connections} == {"client closed"}


async def test_many_at_once() -> None:
    answer = sse_reply(tokens(*"abcde"))
    async with (
        serve(answer) as server,
        client_of(server) as client,
        fan_out_chunks(client, [REQUEST] * 300, limit=50) as events,
    ):
        results = [event async for event in events if isinstance(event, ResultEvent)]
        assert len(server.connections) <= 50
    assert len(results) == 300
    contents = {result.unwrap().choices[0].message.content for result in results}
    assert contents == {"abcde"}


async def test_a_forgotten_client_cuts_its_idle_connections() -> None:
    async with serve(sse_reply(tokens("a"))) as server:
        client = client_of(server)
        await client.complete(REQUEST)
        assert server.open_connections == 1
        kept = [client]
        del client
        with pytest.warns(ResourceWarning, match="unclosed <AsyncClient"):
            kept.clear()
        gc.collect()
        await server.wait_closed()
