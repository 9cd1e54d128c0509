"""Promise 1 at other endpoints: events of any API, and text completions."""

from __future__ import annotations

import anyio
import pytest

import penstock
from penstock import AsyncClient, Limiter, Timeouts
from penstock.testing.memory import MemoryNetwork
from penstock.testing.script import End, Pause, Reply, Send
from tests.support.chat import URL

from .offsets import offsets
from .recorded import FAULTS, Fault, cut
from .sources import SOURCES, Item, read, worth
from .virtual_uvloop import virtual_backend as anyio_backend

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

READ = Timeouts(read=30.0)
IDLE = Timeouts(read=None, first_token=20.0, idle=20.0)
LONG = 2000  # bytes


def step_of(data: bytes) -> int:
    return 9 if len(data) > LONG else 1


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", SOURCES)
async def test_cut_at_every_byte(name: str, fault: Fault) -> None:
    source = SOURCES[name]
    # Of the long ones other bytes under each of the faults.
    shift = 3 * list(FAULTS).index(fault) if step_of(source.data) > 1 else 0
    for n in offsets(source.data, step=step_of(source.data), shift=shift):
        expected = worth(source, n, fault, penstock.ReadTimeout)
        network = MemoryNetwork(cut(source.data, n, fault))
        limiter = Limiter(1)
        where = f"{name}, {fault} after {n} bytes: {source.data[max(0, n - 40) : n]!r}"
        async with AsyncClient(
            URL, network=network, timeouts=READ, max_retries=0, limiter=limiter
        ) as client:
            stream = source.open(client)
            items: list[Item] = []
            error: penstock.PenstockError | None = None
            started = anyio.current_time()
            try:
                if n % 2:
                    await read(source, stream, items)
                else:
                    async with stream:
                        await read(source, stream, items)
            except penstock.PenstockError as caught:
                error = caught
                with pytest.raises(type(caught)):
                    await anext(stream)
            assert (None if error is None else type(error)) is expected.error, where
            assert items == expected.items, where
            assert stream.state == ("completed" if error is None else "failed"), where
            assert limiter.statistics().in_flight == 0, where
            if error is not None:
                assert network.open_connections == 0, where
            if expected.error is penstock.ReadTimeout:
                assert anyio.current_time() == started + 30.0, where
        assert network.open_connections == 0, where
        assert len(network.requests) <= 1, where


@pytest.mark.parametrize("name", SOURCES)
async def test_stalled_at_every_byte_with_deadlines_for_progress(name: str) -> None:
    source = SOURCES[name]
    for n in offsets(source.data, step=19):
        expected = worth(source, n, "stall", penstock.FirstTokenTimeout)
        if expected.error is not None and expected.items:
            expected.error = penstock.IdleTimeout
        network = MemoryNetwork(cut(source.data, n, "stall"))
        async with AsyncClient(URL, network=network, timeouts=IDLE, max_retries=0) as client:
            stream = source.open(client)
            items: list[Item] = []
            if expected.error is None:
                await read(source, stream, items)
            else:
                started = anyio.current_time()
                with pytest.raises(expected.error) as caught:
                    await read(source, stream, items)
                assert type(caught.value) is expected.error, n
                assert anyio.current_time() == started + 20.0
            assert items == expected.items


@pytest.mark.sampled(0.34)
@pytest.mark.parametrize("name", SOURCES)
async def test_cancelled_at_every_byte(name: str) -> None:
    source = SOURCES[name]
    data = source.data
    whole = worth(source, len(data), "end", penstock.ReadTimeout).items
    for n in offsets(data, step=5 * step_of(data)):
        here = worth(source, n, "stall", penstock.ReadTimeout)
        # Within the trailing second, so that a grace is broken off as well.
        steps = (Send(data[:n]), Pause(0.75), Send(data[n:]), End())
        network = MemoryNetwork(Reply(steps))
        async with AsyncClient(URL, network=network, max_retries=0) as client:
            items: list[Item] = []
            ended = False
            stream = source.open(client)
            with anyio.move_on_after(0.5) as scope:
                async with stream:
                    await read(source, stream, items)
                    ended = True
            assert scope.cancelled_caught != ended
            assert items == here.items
            if not ended:
                assert network.open_connections == 0
                assert stream.state in ("closed", "new"), n
            # Read on after the cancellation: nothing is missing.
            items = []
            stream = source.open(client)
            for _ in range(2):
                with anyio.move_on_after(0.3):
                    await read(source, stream, items)
            await read(source, stream, items)
            assert items == whole
            await stream.aclose()
        assert network.open_connections == 0
