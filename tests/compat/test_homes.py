"""One transport in several event loops, and dropped in any state."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import trio

from penstock import Limiter
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


# --- the blocking transport ---


def blocking_client(generation: Generation, **settings: Any) -> Any:
    return generation.httpx.Client(transport=generation.ours.Transport(**settings))


def test_a_blocking_client(generation: Generation) -> None:
    with serve_in_thread(status_reply(200, b"ok")) as server:
        with blocking_client(generation) as client:
            for _ in range(2):
                assert client.get(server.base_url).text == "ok"
            assert len(server.connections) == 1
            with client.stream("GET", server.base_url) as response:
                assert list(response.iter_raw()) == [b"ok"]
        assert all_closed(server)
        with pytest.raises(RuntimeError, match="closed"):
            client._transport.handle_request(generation.httpx.Request("GET", server.base_url))


def test_leaving_a_blocking_response_closes_its_connection(generation: Generation) -> None:
    limiter = Limiter(1)
    with serve_in_thread(HANGING) as server, blocking_client(generation, limiter=limiter) as client:
        with client.stream("GET", server.base_url) as response:
            raw = response.iter_raw()  # dropped, it closes the response of httpx2
            assert next(raw) == b"abc"
            assert limiter.statistics().in_flight == 1
        assert all_closed(server)
        assert limiter.statistics().in_flight == 0
        response = client.send(client.build_request("GET", server.base_url), stream=True)
        del response
        gc.collect()
        assert all_closed(server)


def test_a_blocking_client_in_threads(generation: Generation) -> None:
    with serve_in_thread(sse_reply(tokens("Hel", "lo"))) as server:
        with blocking_client(generation) as client, ThreadPoolExecutor(8) as pool:
            url = server.base_url + "/chat/completions"
            texts = list(pool.map(lambda _: client.post(url, json={}).text, range(40)))
            assert len(set(texts)) == 1
            assert len(server.connections) <= 8
        assert all_closed(server)


@pytest.mark.parametrize("run", [run_asyncio, trio.run])
def test_a_blocking_client_inside_an_event_loop(
    generation: Generation, run: Callable[..., None]
) -> None:
    async def main(server: Server) -> None:
        with blocking_client(generation) as client:
            assert client.get(server.base_url).text == "ok"
            with client.stream("GET", server.base_url) as response:
                assert response.read() == b"ok"

    with serve_in_thread(status_reply(200, b"ok")) as server:
        run(main, server)
        assert all_closed(server)


def test_a_dropped_blocking_client_closes_what_is_idle(generation: Generation) -> None:
    with serve_in_thread(status_reply(200, b"ok")) as server:
        client = blocking_client(generation)
        assert client.get(server.base_url).text == "ok"
        del client
        gc.collect()
        assert all_closed(server)


def test_a_blocking_response_outlives_its_client(generation: Generation) -> None:
    with serve_in_thread(sse_reply(tokens("Hel", "lo"))) as server:
        client = blocking_client(generation)
        response = client.send(client.build_request("GET", server.base_url), stream=True)
        del client
        gc.collect()
        assert b"[DONE]" in response.read()
        del response
        gc.collect()
        assert all_closed(server)


def test_blocking_uploads_are_iterated_in_another_thread(generation: Generation) -> None:
    threads: list[str] = []

    def pieces() -> Iterator[bytes]:
        for piece in (b"ab", b"c"):
            threads.append(threading.current_thread().name)
            time.sleep(0.01)
            yield piece

    with serve_in_thread(status_reply(200, b"ok")) as server:
        with blocking_client(generation) as client:
            assert client.post(server.base_url, content=pieces()).text == "ok"
            assert client.post(server.base_url, files={"f": ("n", b"abc")}).text == "ok"
        assert server.requests[0].body == b"abc"
        assert b"abc" in server.requests[1].body
        assert set(threads) == {"penstock worker"}
