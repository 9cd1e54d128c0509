"""`client.warm`: connections that are made before a request needs them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import penstock
from penstock import APIConnectionError, AsyncClient, ConnectTimeout, StreamClosedError, Timeouts
from penstock._http.connections import MAX_IDLE
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import sse_reply, tokens
from penstock.testing.server import closed_port, serve, serve_in_thread
from penstock.testing.sweep import BackendName, cancel_sweep, open_fds
from tests.support.chat import REQUEST, client_of, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

HELLO = sse_reply(tokens("Hel", "lo"))


def run(main: Callable[[], Awaitable[None]], backend: str) -> None:
    if backend == "trio":
        anyio.run(main, backend="trio")
    else:
        anyio.run(main, backend_options={"use_uvloop": backend == "uvloop"})


async def test_requests_find_the_connections_that_it_made() -> None:
    network = MemoryNetwork(HELLO)
    async with client_on(network) as client:
        assert await client.warm(3) == 3
        assert network.requests == []
        assert client.statistics().idle_connections == 3
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(client.complete, REQUEST)
        assert len(network.connects) == 3


async def test_it_makes_only_what_is_missing() -> None:
    network = MemoryNetwork(HELLO)
    async with client_on(network) as client:
        assert await client.warm() == 1
        assert await client.warm(3) == 3
        assert await client.warm(2) == 3
        assert await client.warm(0) == 3
        assert len(network.connects) == 3


async def test_it_is_bounded_by_what_is_kept() -> None:
    network = MemoryNetwork(HELLO)
    async with client_on(network) as client:
        assert await client.warm(MAX_IDLE + 50) == MAX_IDLE
        assert len(network.connects) == MAX_IDLE
    none = MemoryNetwork(HELLO)
    async with client_on(none, keepalive=0) as client:
        assert await client.warm(5) == 0
        assert none.connects == []


async def test_connections_are_made_at_the_same_time() -> None:
    async with client_on(MemoryNetwork(HELLO, delay=2.0)) as client:
        began = anyio.current_time()
        await client.warm(64)
        assert anyio.current_time() - began == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("n", "kind"), [(-1, ValueError), (1.5, TypeError), (True, TypeError), ("2", TypeError)]
)
async def test_what_is_no_number_of_connections(n: Any, kind: type[Exception]) -> None:
    async with client_on(HELLO) as client:
        with pytest.raises(kind, match="n "):
            await client.warm(n)


async def test_a_server_that_refuses() -> None:
    network = MemoryNetwork(HELLO, refuse=100)
    async with client_on(network) as client:
        with pytest.raises(APIConnectionError):
            await client.warm(3)
        network.refuse = 0
        assert await client.warm(3) == 3


async def test_a_server_that_does_not_answer() -> None:
    network = MemoryNetwork(HELLO, stall=1)
    async with client_on(network, timeouts=Timeouts(connect=3.0)) as client:
        began = anyio.current_time()
        with pytest.raises(ConnectTimeout, match="3 s"):
            await client.warm(2)
        assert anyio.current_time() - began == pytest.approx(3.0)
        # The other one was made.
        assert client.statistics().idle_connections == 1


async def test_a_closed_client() -> None:
    client = client_on(HELLO)
    await client.aclose()
    with pytest.raises(StreamClosedError, match="closed"):
        await client.warm()


@pytest.mark.parametrize("options", [{"delay": 5}, {"stall": 5}])
async def test_closing_the_client_ends_it(options: dict[str, Any]) -> None:
    made = MemoryNetwork(HELLO, **options)
    client = client_on(made)
    raised: list[Exception] = []

    async def warm() -> None:
        try:
            await client.warm(5)
        except StreamClosedError as error:
            raised.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(warm)
        await anyio.sleep(1)
        began = anyio.current_time()
        await client.aclose()
        assert anyio.current_time() == began
        figures = client.statistics()
        assert (figures.open_calls, figures.idle_connections) == (0, 0)
    assert len(raised) == 1
    assert made.open_connections == 0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelled_at_any_point_nothing_leaks(backend: BackendName) -> None:
    @asynccontextmanager
    async def scenario() -> AsyncIterator[Callable[[], Awaitable[object]]]:
        network = MemoryNetwork(HELLO, delay=0.1)
        async with client_on(network) as client:
            yield lambda: client.warm(3)
            assert client.statistics().open_calls == 0
            idle = client.statistics().idle_connections
            assert network.open_connections == idle
            await client.complete(REQUEST)
        assert network.open_connections == 0

    assert min(cancel_sweep(backend, scenario).values()) > 0


@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
def test_cancelled_at_any_step_of_a_handshake_nothing_leaks(backend: str) -> None:
    async def main() -> None:
        async with serve(HELLO, tls=True) as server:
            for steps in range(0, 60, 2):
                before = open_fds()
                client = client_of(server)
                async with anyio.create_task_group() as group:
                    group.start_soon(client.warm, 2)
                    for _ in range(steps):
                        await anyio.lowlevel.checkpoint()
                    group.cancel_scope.cancel()
                await client.aclose()
                await server.wait_closed(len(server.connections))
                assert open_fds() == before
            assert server.requests == []

    run(main, backend)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
def test_over_real_sockets(backend: str, tls: bool) -> None:
    async def main() -> None:
        before = open_fds()
        async with serve(HELLO, tls=tls) as server, client_of(server) as client:
            assert await client.warm(5) == 5
            await server.wait_until(lambda: len(server.connections) == 5)
            await client.complete(REQUEST)
            assert len(server.connections) == 5
        assert open_fds() == before

    run(main, backend)


async def test_the_error_shows_no_secret() -> None:
    client = AsyncClient(
        f"http://127.0.0.1:{closed_port()}",
        api_key="sk-0123456789abcdef",
        proxy="http://user:proxy-password-1@127.0.0.1:1",
    )
    async with client:
        with pytest.raises(APIConnectionError) as caught:
            await client.warm()
    assert "proxy-password-1" not in str(caught.value)


def test_the_blocking_client() -> None:
    with serve_in_thread(HELLO) as server, penstock.Client(server.base_url, proxy="") as client:
        assert client.warm(4) == 4
        client.complete(REQUEST)
        assert client.statistics().idle_connections == 4
    closed = f"http://127.0.0.1:{closed_port()}"
    with penstock.Client(closed, proxy="") as client, pytest.raises(APIConnectionError):
        client.warm()
