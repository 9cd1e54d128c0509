"""The sweep reaches every suspension point, and finds what leaks."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
import anyio.lowlevel
import pytest
from anyio.streams.tls import TLSStream

from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import Event, json_reply, sse_reply, tokens
from penstock.testing.script import Pause
from penstock.testing.server import serve
from penstock.testing.sweep import ALL_MODES, BackendName, Mode, cancel_sweep, open_fds
from tests.support.httpcore_compat import httpcore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

backends = pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])


async def exchange(network: MemoryNetwork, *, leaky: bool = False) -> None:
    stream = await network.connect_tcp("test", 80)
    if leaky:
        await anyio.lowlevel.checkpoint()  # cancelled here, nobody owns the stream
    try:
        # Not through httpcore's connection: its bodies are async generators, which a cancellation
        # leaves unfinished, and trio warns about them.
        await stream.write(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
        data = b""
        while not data.endswith((b"0\r\n\r\n", b"{}")):
            data += await stream.read(65536)
    finally:
        stream.close_nowait()


@backends
def test_every_point_is_reached_and_a_sound_exchange_passes(backend: BackendName) -> None:
    networks: list[MemoryNetwork] = []
    seen: list[tuple[int, Mode]] = []

    def scenario() -> Awaitable[None]:
        events: list[Event] = [*tokens("a"), Pause(0.01), *tokens("b")]
        networks.append(MemoryNetwork(sse_reply(events, one_segment_each=True)))
        return exchange(networks[-1])

    def check(point: int, mode: Mode) -> None:
        assert networks[-1].open_connections == 0
        seen.append((point, mode))

    points = cancel_sweep(backend, scenario, check=check)
    assert points["scope"] > 10
    assert seen == [(point, mode) for mode in points for point in range(points[mode] + 1)]
    assert tuple(points) == (("scope",) if backend == "trio" else ALL_MODES)
    assert len({c.bytes_sent for n in networks for c in n.connections}) > 5


@backends
def test_a_leak_is_found(backend: BackendName) -> None:
    @asynccontextmanager
    async def scenario() -> AsyncIterator[Callable[[], Awaitable[None]]]:
        network = MemoryNetwork(json_reply({}))
        yield lambda: exchange(network, leaky=True)
        assert network.open_connections == 0

    for mode in ("scope",) if backend == "trio" else ALL_MODES:
        with pytest.raises(AssertionError) as caught:
            cancel_sweep(backend, scenario, modes=[mode])
        assert any(f"mode '{mode}'" in note for note in caught.value.__notes__)


def test_a_lost_result_is_found_only_late() -> None:
    # The classic: what a future brought is lost when the cancellation comes just after it.
    held: list[int] = []

    async def scenario() -> None:
        held.clear()
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def deliver() -> None:
            if not future.done():
                held.append(1)
                future.set_result(1)

        asyncio.get_running_loop().call_later(1, deliver)
        await future
        held.pop()

    def check(point: int, mode: Mode) -> None:
        assert not held

    cancel_sweep("asyncio", scenario, check=check, modes=["scope", "native", "twice"])
    with pytest.raises(AssertionError):
        cancel_sweep("asyncio", scenario, check=check, modes=["late"])


def test_a_swallowed_cancellation_is_found() -> None:
    async def scenario() -> None:
        try:
            await anyio.sleep(1)
        except asyncio.CancelledError:  # noqa: ASYNC103
            pass

    with pytest.raises(AssertionError, match="but ended normally"):
        cancel_sweep("asyncio", scenario, modes=["native"])
    assert cancel_sweep("asyncio", scenario, modes=["native"], may_swallow=True) == {"native": 1}


def test_the_second_cancellation_comes_in_the_clean_up() -> None:
    cleaned: list[str] = []

    async def scenario() -> None:
        cleaned.clear()
        try:
            await anyio.sleep(1)
        finally:
            with anyio.CancelScope(shield=True):
                cleaned.append("begun")
                await anyio.sleep(1)
                cleaned.append("ended")

    def check(point: int, mode: Mode) -> None:
        if point == 0:
            assert cleaned == (["begun"] if mode == "twice" else ["begun", "ended"])

    cancel_sweep("asyncio", scenario, check=check, modes=["scope", "native", "twice"])


def test_a_task_left_behind_is_found() -> None:
    tasks: list[asyncio.Task[Any]] = []

    async def scenario() -> None:
        tasks.append(asyncio.create_task(asyncio.sleep(3600)))
        await anyio.sleep(1)

    with pytest.raises(AssertionError, match="tasks left behind"):
        cancel_sweep("asyncio", scenario)


def test_an_error_of_the_body_fails_the_sweep() -> None:
    async def scenario() -> None:
        try:
            await anyio.sleep(1)
        finally:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cancel_sweep("trio", scenario)


def test_an_endless_scenario_is_an_error() -> None:
    async def scenario() -> None:
        while True:  # noqa: ASYNC110
            await anyio.sleep(1)

    with pytest.raises(AssertionError, match="more than 20"):
        cancel_sweep("trio", scenario, max_points=20)


@pytest.mark.sampled(0.34)
@backends
@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_real_sockets(backend: BackendName, tls: bool) -> None:
    before = open_fds()

    @asynccontextmanager
    async def scenario() -> AsyncIterator[Callable[[], Awaitable[None]]]:
        async with serve(json_reply({}), tls=tls) as server:

            async def body() -> None:
                url = httpcore.URL(server.base_url)
                tcp = await anyio.connect_tcp("127.0.0.1", url.port or 0)
                async with tcp:  # a cancelled TLSStream.wrap leaves it open
                    stream: anyio.abc.ByteStream = tcp
                    if tls:
                        stream = await TLSStream.wrap(
                            tcp,
                            hostname="127.0.0.1",
                            ssl_context=server.client_ssl_context(),
                            standard_compatible=False,
                        )
                    await stream.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
                    await stream.receive()

            yield body
            if server.connections:
                await server.wait_closed(1)

    # anyio's own connect is known to lose the socket of a late cancellation.
    points = cancel_sweep(backend, scenario, real=True, modes=["scope"])
    assert points["scope"] >= 3
    assert open_fds() == before
