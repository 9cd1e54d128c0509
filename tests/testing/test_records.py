"""What the scripted servers remember, the same in memory and on sockets."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Literal

import anyio
import pytest

from penstock import APIConnectionError, AsyncClient, IncompleteStreamError
from penstock.testing.answers import text_reply
from penstock.testing.cuts import cut_after_events
from penstock.testing.memory import MemoryNetwork
from penstock.testing.script import End, RecordedRequest, Reply, Script, Stall
from penstock.testing.server import Server, serve
from penstock.testing.stacks import describe
from tests.support.chat import REQUEST, client_on

pytestmark = pytest.mark.anyio

Kind = Literal["memory", "sockets"]
kinds = pytest.mark.parametrize("kind", ["memory", "sockets"])
WHOLE = text_reply("Hel", "lo")


@asynccontextmanager
async def served(
    kind: Kind, script: Script, **options: Any
) -> AsyncGenerator[tuple[AsyncClient, MemoryNetwork | Server]]:
    if kind == "memory":
        network = MemoryNetwork(script)
        async with client_on(network, **options) as client:
            yield client, network
        return
    async with serve(script) as server, AsyncClient(server.base_url, **options) as client:
        yield client, server


async def until(condition: Any) -> None:
    with anyio.fail_after(5):
        while not condition():  # noqa: ASYNC110 - of either kind
            await anyio.sleep(0.001)


@kinds
async def test_a_whole_answer_and_an_idle_connection(kind: Kind) -> None:
    async with served(kind, WHOLE) as (client, records):
        await client.complete(REQUEST)
        await until(lambda: not records.in_flight)
        (connection,) = records.connections
        assert records.open_connections == 1
        assert connection.ended is None
        assert connection.bytes_sent == len(WHOLE.data)
        assert connection.requests == records.requests
        assert connection.bytes_received > len(records.requests[0].body)
        await client.aclose()
        await until(lambda: not records.open_connections)
        assert records.connections[0].ended == "client closed"


@kinds
async def test_who_is_in_flight_and_that_the_client_left(kind: Kind) -> None:
    async with served(kind, cut_after_events(WHOLE, 2, Stall())) as (client, records):
        async with client.chat.completions.stream(**REQUEST) as stream:
            async for _ in stream.text:
                break
            assert records.in_flight == records.requests
            assert len(records.requests) == 1
        await until(lambda: not records.in_flight)
        assert [each.ended for each in records.connections] == ["client closed"]


@kinds
async def test_that_the_server_ended_it(kind: Kind) -> None:
    replies = [
        cut_after_events(text_reply("a"), 2, End()),
        cut_after_events(text_reply("a"), 2),
    ]
    async with served(kind, replies, max_retries=0) as (client, records):
        with pytest.raises((IncompleteStreamError, APIConnectionError)):
            await client.complete(REQUEST)
        with pytest.raises(APIConnectionError):
            await client.complete(REQUEST)
        await until(lambda: not records.open_connections)
        assert [each.ended for each in records.connections] == ["server closed", "reset"]
        assert records.in_flight == []


async def test_a_failing_script_is_recorded_and_breaks_the_connection() -> None:
    def script(request: RecordedRequest) -> Reply:
        raise ZeroDivisionError

    network = MemoryNetwork(script)
    async with client_on(network, max_retries=0) as client:
        with pytest.raises(APIConnectionError):
            await client.complete(REQUEST)
    assert [type(error) for error in network.errors] == [ZeroDivisionError]
    assert network.open_connections == 0


async def test_where_a_connection_was_used_last() -> None:
    network = MemoryNetwork(WHOLE)
    async with client_on(network) as client:
        for line in ("first", "second"):
            await client.complete({**REQUEST, "user": line})
            used_at = network.connections[0].used_at
            assert used_at is not None
            assert 'await client.complete({**REQUEST, "user": line})' in describe(used_at)
    assert len(network.connections) == 1
