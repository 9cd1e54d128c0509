"""Promise 7 when Ctrl-C strikes at any instant: all of the block is closed, no slot is lost.

asyncio cancels the main task; trio raises KeyboardInterrupt in whatever code runs unprotected.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import Any, Literal, get_args

import anyio
import pytest
from hypothesis import settings

from penstock import AsyncClient, Limiter, fan_out, fan_out_channels, fan_out_chunks
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import real_backend as anyio_backend
from penstock.testing.replies import sse_reply, tokens
from penstock.testing.script import RecordedRequest, Reply
from tests.support.chat import REQUEST, client_on

from .evidence import count

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no interval timers")

Kind = Literal["fan_out", "ordered", "chunks", "channels"]
RUNS = settings().max_examples // 2


def answer(_: RecordedRequest) -> Reply:
    return sse_reply(tokens(*"abc"), one_segment_each=True)


@contextmanager
def interruptions() -> Iterator[Callable[[float], object]]:
    """Gives a function that sets a timer: Ctrl-C, once, after so many seconds."""

    def press(*_: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGALRM, press)
    try:
        yield partial(signal.setitimer, signal.ITIMER_REAL)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


async def use(kind: Kind, client: AsyncClient, begin: Callable[[], object]) -> None:
    requests = (REQUEST for _ in iter(int, 1))
    block: Any
    if kind == "chunks":
        block = fan_out_chunks(client, requests, limit=4)
    elif kind == "channels":
        block = fan_out_channels(client, requests, limit=4)
    else:
        block = fan_out(client.complete, requests, limit=4, ordered=kind == "ordered")
    begin()
    async with block as items:
        async for item in items:
            if kind == "channels":
                async for _ in item.receive:
                    pass


def interrupt_once(kind: Kind, seconds: float, backend: str, options: dict[str, Any]) -> None:
    network, limiter = MemoryNetwork(answer), Limiter(4)
    left: list[tuple[int, int]] = []

    async def main(begin: Callable[[], object]) -> None:
        async with client_on(network, limiter=limiter) as client:
            # Everything is imported by then.
            await client.complete(REQUEST)
            try:
                await use(kind, client, begin)
            finally:
                statistics = limiter.statistics()
                left.append((statistics.in_flight, statistics.waiting))

    with interruptions() as interrupt_after:
        begin = partial(interrupt_after, seconds)
        with pytest.raises(KeyboardInterrupt):
            anyio.run(main, begin, backend=backend, backend_options=options)
    assert left == [(0, 0)]
    assert not any(connection.open for connection in network.connections)


@pytest.mark.sampled(0.34)
@pytest.mark.parametrize("kind", get_args(Kind))
def test_at_any_instant(kind: Kind, anyio_backend: Any) -> None:
    random = Random(kind)
    for _ in range(RUNS):
        interrupt_once(kind, random.uniform(0.0001, 0.02), *anyio_backend)
    count("cases", RUNS)


def test_a_function_of_the_users_that_never_waits_is_interrupted() -> None:
    with interruptions() as interrupt_after:

        async def forever(item: int) -> None:
            interrupt_after(0.05)
            while True:
                pass

        async def main() -> None:
            async with fan_out(forever, [1], limit=1) as results:
                async for _ in results:
                    pass

        with pytest.raises(KeyboardInterrupt):
            anyio.run(main, backend="trio")
