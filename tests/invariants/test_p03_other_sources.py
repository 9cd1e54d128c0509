"""Promise 3 at other endpoints: cancelled reads of events and text completions lose nothing."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

import penstock
from penstock import AsyncClient
from penstock.testing.cuts import split_at
from penstock.testing.memory import MemoryNetwork
from penstock.testing.script import End, Pause, Reply, Send
from tests.support.chat import URL
from tests.support.sweeps import sample

from .offsets import offsets
from .sources import SOURCES, Item, items_of, worth
from .test_p03_cancelled_reads_lose_nothing import TIMEOUTS, paced, read_all
from .virtual_uvloop import virtual_backend as anyio_backend

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("name", "phase", "bare"), sample(itertools.product(SOURCES, TIMEOUTS, [False, True]), 0.3)
)
async def test_a_stream_of_bytes_that_arrive_apart(name: str, phase: float, bare: bool) -> None:
    source = SOURCES[name]
    data = source.data
    head = data.index(b"\r\n\r\n") + 4
    whole = worth(source, len(data), "end", penstock.ReadTimeout).items
    apart = split_at(Reply((Send(data), End())), range(head, len(data), 97))
    network = MemoryNetwork(Reply((apart.steps[0], *paced(Reply(apart.steps[1:])).steps)))
    timeouts = itertools.cycle([phase, 0.4, 0.0, phase])
    async with AsyncClient(URL, network=network) as client:
        stream = source.open(client)
        items: list[Item] = []
        if not bare:
            await stream.__aenter__()
        await read_all(stream, timeouts, each=lambda each: items.extend(items_of(source, each)))
        assert items == whole
        assert stream.state == "completed"
        await stream.aclose()
    assert len(network.requests) == 1
    assert network.open_connections == 0


@pytest.mark.parametrize("name", SOURCES)
async def test_split_at_every_place(name: str) -> None:
    source = SOURCES[name]
    data = source.data
    whole = worth(source, len(data), "end", penstock.ReadTimeout).items
    for n in offsets(data, step=13)[:-1]:
        network = MemoryNetwork(Reply((Send(data[:n]), Pause(0.5), Send(data[n:]), End())))
        async with AsyncClient(URL, network=network) as client:
            read: list[Any] = []
            async with source.open(client) as stream:
                await read_all(stream, itertools.cycle([0.07, 0.2]), each=read.append)
            assert [item for each in read for item in items_of(source, each)] == whole
        assert len(network.requests) == 1
