"""Promise 13: a stalled consumer stops reading at the buffer's bound, whatever the server sends."""

from __future__ import annotations

import gc
import socket
import sys
import threading
import tracemalloc
from collections.abc import Generator
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import Any

import anyio
import pytest

from penstock import AsyncClient, ResultEvent
from penstock._many.channels import fan_out_channels
from penstock._many.chunks import fan_out_chunks
from penstock._many.fan_out import fan_out
from penstock._many.race import race
from penstock.testing.certificates import client_ssl_context, server_ssl_context
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import chunk, head, sse_event, sse_reply, tokens
from penstock.testing.script import Repeat
from penstock.testing.server import Server, serve
from tests.support.chat import REQUEST, client_on

from .virtual_uvloop import BACKENDS, run_virtually

pytestmark = pytest.mark.usefixtures("quick_collections")
backends = pytest.mark.parametrize("backend", BACKENDS)

STREAMS = 100
EVENT = sse_event(tokens("x", role_first=False, finish=None)[0])
READ = 10 * len(EVENT)
"""What one network read brings, in memory: about ten events."""

ENDLESS = sse_reply([Repeat(EVENT * 10, None)])

WORD = " the water"


@pytest.mark.sampled(0.2)
@pytest.mark.parametrize("kind", ["a stream", "chunks", "channels", "race"])
@backends
def test_reading_stops_at_the_bound(backend: str, kind: str) -> None:
    async def main() -> None:
        network = MemoryNetwork(ENDLESS)
        async with client_on(network) as client:
            if kind == "a stream":
                async with client.chat.completions.stream(**REQUEST) as stream:
                    await anext(stream)
                    await stalled(network, 2 * READ)
            elif kind == "race":
                async with race(client, [REQUEST] * 3, max_live=3) as stream:
                    await anext(stream)
                    await stalled(network, 3 * 2 * READ)
            elif kind == "chunks":
                for buffer in (1, 10, None):
                    requests = [REQUEST] * STREAMS
                    feed = fan_out_chunks(client, requests, limit=STREAMS, buffer=buffer)
                    async with feed as events:
                        await anext(events)
                        await stalled(network, (2 * STREAMS + (buffer or STREAMS)) * READ)
                        for _ in range(2000):
                            await anext(events)
                        await stalled(network, 2000 * len(EVENT) + 5 * STREAMS * READ)
            else:
                for buffer in (1, 16, 40):
                    requests = [REQUEST] * STREAMS
                    async with fan_out_channels(
                        client, requests, limit=STREAMS, buffer=buffer
                    ) as channels:
                        opened = [await anext(channels) for _ in range(STREAMS)]
                        await opened[0].receive.receive()
                        # What a channel holds, and one read that is being put into it.
                        await stalled(network, STREAMS * (buffer * len(EVENT) + 2 * READ))
                        for _ in range(500):
                            await opened[1].receive.receive()
                        bound = STREAMS * (buffer * len(EVENT) + 2 * READ) + 550 * len(EVENT)
                        await stalled(network, bound)
        assert network.open_connections == 0

    run_virtually(backend, main)


async def stalled(network: MemoryNetwork, bound: int) -> None:
    """Wait; nothing more is read than the bound, however long it lasts."""
    await anyio.sleep(10)
    heads = 600 * len(network.connections)
    open_now = [each for each in network.connections if each.closed_at is None]
    size = sum(connection.bytes_sent for connection in open_now)
    assert size <= bound + heads
    await anyio.sleep(1000)
    assert sum(connection.bytes_sent for connection in open_now) == size


@backends
def test_results_that_nobody_takes_hold_back_the_calls(backend: str) -> None:
    async def main() -> None:
        made = 0

        async def call(number: int) -> bytes:
            nonlocal made
            made += 1
            return bytes(1000)

        def endless() -> Any:
            while True:
                yield 1

        async with fan_out(call, endless(), limit=10, buffer=5) as results:
            await anext(results)
            await anyio.sleep(1000)
            assert made == 16
        async with fan_out(call, endless(), limit=10, ordered=True, window=30) as results:
            await anext(results)
            await anyio.sleep(1000)
            assert made == 16 + 32

    run_virtually(backend, main)


@backends
def test_what_was_taken_is_not_kept(backend: str) -> None:
    async def main() -> None:
        network = MemoryNetwork(sse_reply(tokens(*"abcdefgh")))
        async with client_on(network) as client:
            for made in (fan_out, fan_out_chunks):
                sizes = []
                source = ({**REQUEST, "user": "u" * 5000} for _ in range(90))
                first: Any = client.complete if made is fan_out else client
                async with made(first, source, limit=8) as posts:
                    seen = 0
                    async for post in posts:
                        network.requests.clear()  # the kit's own records
                        for connection in network.connections:
                            connection.requests.clear()
                        if made is fan_out or isinstance(post, ResultEvent):
                            seen += 1
                            if seen % 30 == 0:
                                gc.collect()
                                sizes.append(tracemalloc.get_traced_memory()[0])
                # Sixty requests later, of 5000 letters each.
                assert sizes[-1] - sizes[0] < 100_000, sizes

    tracemalloc.start()
    try:
        run_virtually(backend, main)
    finally:
        tracemalloc.stop()


@contextmanager
def endless_server(*, tls: bool) -> Generator[str]:
    """A server in threads, which sends the same tokens as long as somebody takes them.

    It holds one copy of them, whatever the number of streams.
    """
    answer = head(200, [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")])
    events = b"".join(chunk(sse_event(token)) for token in tokens(*[WORD] * 200)[1:-1])

    def answer_one(connection: socket.socket) -> None:
        with suppress(OSError):
            if tls:
                connection = server_ssl_context().wrap_socket(connection, server_side=True)
            with connection:
                connection.recv(65536)
                connection.sendall(answer)
                while True:
                    connection.sendall(events)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threads.append(threading.Thread(target=answer_one, args=(connection,)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads = [threading.Thread(target=accept)]
        threads[0].start()
        try:
            host, port = listener.getsockname()
            yield f"http{'s' if tls else ''}://{host}:{port}/v1"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(10)


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_stalled_stream_holds_little(backend: str, tls: bool) -> None:
    """Bytes and chunks together, at whatever place the consumer has stopped."""
    places = [1, 2, 40, 150, 333, 700, 1000]

    async def main() -> list[int]:
        context = client_ssl_context() if tls else None
        async with AsyncClient(url, api_key="none", ssl_context=context) as client:
            streams = [client.chat.completions.stream(**REQUEST) for _ in [0, *places]]
            async with AsyncExitStack() as stack:
                # The first one brings in what all of them use.
                sizes: list[int] = []
                for stream, place in zip(streams, [1, *places], strict=True):
                    before = tracemalloc.get_traced_memory()[0]
                    await stack.enter_async_context(stream)
                    for _ in range(place):
                        await anext(stream)
                    await anyio.sleep(0.1)
                    gc.collect()
                    # The answer so far is kept as well: a list of its pieces.
                    answer = place * (sys.getsizeof(WORD) + 8)
                    sizes.append(tracemalloc.get_traced_memory()[0] - before - answer)
            return sizes[1:]

    options = {"use_uvloop": True} if backend == "uvloop" else {}
    name = "trio" if backend == "trio" else "asyncio"
    with endless_server(tls=tls) as url:
        tracemalloc.start()
        try:
            sizes = anyio.run(main, backend=name, backend_options=options)
        finally:
            tracemalloc.stop()
    assert max(sizes) <= 128 * 1024, sizes


@pytest.mark.sampled(0.2)
@pytest.mark.anyio
@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("kind", ["chunks", "channels"])
async def test_endless_streams_on_sockets(kind: str, tls: bool) -> None:
    # Big events, so that the bound is about bytes and the server does not take all the time.
    event = sse_event(tokens("x" * 4000, role_first=False, finish=None)[0])
    async with serve(sse_reply([Repeat(event * 8, None)]), tls=tls) as server:
        context = server.client_ssl_context() if tls else None
        await _read_by_nobody(
            kind, server, AsyncClient(server.base_url, ssl_context=context), n=25 if tls else 50
        )


async def _read_by_nobody(kind: str, server: Server, client: AsyncClient, n: int) -> None:
    async with client:
        requests = [REQUEST] * n
        tracemalloc.start()
        try:
            if kind == "chunks":
                async with fan_out_chunks(client, requests, limit=n, buffer=10) as events:
                    await anext(events)
                    await memory_stays_flat(server, n)
            else:
                async with fan_out_channels(client, requests, limit=n, buffer=4) as channels:
                    opened = [await anext(channels) for _ in range(n)]
                    for channel in opened:
                        await channel.receive.receive()
                    await memory_stays_flat(server, n)
        finally:
            tracemalloc.stop()
        await server.wait_closed(n)


async def memory_stays_flat(server: Server, n: int) -> None:
    def sent() -> int:
        return sum(connection.bytes_sent for connection in server.connections)

    before = -1
    for _ in range(400):
        await anyio.sleep(0.02)
        if before == sent() and len(server.requests) == n:
            break
        before = sent()
    else:
        raise AssertionError("the server could go on writing")
    # The kernel's buffers are some megabytes a connection; our own memory is what is bounded.
    assert before < n * 12_000_000
    gc.collect()
    size = tracemalloc.get_traced_memory()[0]
    assert size < n * 1_500_000
    for _ in range(5):
        await anyio.sleep(0.02)
    assert sent() == before
    gc.collect()
    assert tracemalloc.get_traced_memory()[0] < size + 200_000
