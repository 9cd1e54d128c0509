"""One transport in several event loops, and dropped in any state."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from penstock.testing import Server, becomes_true, serve_in_thread, sse_reply, tokens
from penstock.testing.replies import status_reply
from penstock.testing.script import Reply, Send, Stall
from tests.support.compat import Generation

HANGING = Reply((Send(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc"), Stall()))


def all_closed(server: Server) -> bool:
    return becomes_true(lambda: server.open_connections == 0, 5)


async def twice(client: Any, server: Server) -> None:
    for _ in range(2):
        assert (await client.get(server.base_url)).text == "ok"


def client_of(generation: Generation) -> Any:
    return generation.httpx.AsyncClient(transport=generation.ours.AsyncTransport())


def run_asyncio(fn: Callable[..., Awaitable[None]], *args: Any) -> None:
    async def main() -> None:
        await fn(*args)

    asyncio.run(main())


def test_event_loops_one_after_another(generation: Generation) -> None:
    with serve_in_thread(status_reply(200, b"ok")) as server:
        client = client_of(generation)
        runs: list[Any] = [run_asyncio, trio.run, run_asyncio, run_asyncio]
        for number, run in enumerate(runs, 1):
            run(twice, client, server)
            # A loop's end closes its connections.
            assert all_closed(server)
            assert len(server.connections) == number
        del client
        gc.collect()


def test_event_loops_at_once(generation: Generation) -> None:
    with serve_in_thread(status_reply(200, b"ok")) as server:
        client = client_of(generation)
        threads = [
            threading.Thread(target=run, args=(twice, client, server))
            for run in (run_asyncio, trio.run, run_asyncio, trio.run)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all_closed(server)
        assert len(server.connections) == 4


@pytest.mark.parametrize("run", [run_asyncio, trio.run])
def test_a_dropped_response_closes_its_connection(
    generation: Generation, run: Callable[..., None]
) -> None:
    async def main(server: Server) -> None:
        client = client_of(generation)
        response = await client.send(client.build_request("GET", server.base_url), stream=True)
        assert server.open_connections == 1
        del response
        gc.collect()  # httpx's responses refer to themselves
        assert all_closed(server)
        assert len(server.connections) == 1

    with serve_in_thread(HANGING) as server:
        run(main, server)


@pytest.mark.parametrize("run", [run_asyncio, trio.run])
def test_a_dropped_client_closes_what_is_idle(
    generation: Generation, run: Callable[..., None]
) -> None:
    async def main(server: Server) -> None:
        client = client_of(generation)
        await twice(client, server)
        assert server.open_connections == 1
        del client
        assert all_closed(server)

    with serve_in_thread(status_reply(200, b"ok")) as server:
        run(main, server)


@pytest.mark.parametrize("run", [run_asyncio, trio.run])
def test_a_response_outlives_its_client(generation: Generation, run: Callable[..., None]) -> None:
    async def response_of(server: Server) -> Any:
        client = client_of(generation)
        return await client.send(client.build_request("GET", server.base_url), stream=True)

    async def main(server: Server) -> None:
        response = await response_of(server)
        gc.collect()
        assert b"[DONE]" in await response.aread()

    with serve_in_thread(sse_reply(tokens("Hel", "lo"))) as server:
        run(main, server)


def test_closing_closes_other_event_loops_too(generation: Generation) -> None:
    with serve_in_thread(status_reply(200, b"ok")) as server:
        client = client_of(generation)
        kept = asyncio.new_event_loop()
        kept.run_until_complete(twice(client, server))

        async def and_close() -> None:
            await twice(client, server)
            await client.aclose()

        asyncio.run(and_close())
        assert all_closed(server)
        kept.run_until_complete(asyncio.sleep(0))
        kept.close()
