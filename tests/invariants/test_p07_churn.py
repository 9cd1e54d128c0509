"""Promise 7 under churn: fan-outs and races that share a limiter, cancelled at any moment."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import penstock
from penstock import AsyncClient, Limiter
from penstock._many.channels import CompletionChannel, fan_out_channels
from penstock._many.chunks import fan_out_chunks
from penstock._many.fan_out import fan_out
from penstock._many.race import race
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import Event, error_reply, sse_reply, tokens
from penstock.testing.script import Pause, Player, RecordedRequest, Reply, Reset
from penstock.testing.server import serve
from penstock.testing.sweep import open_fds
from tests.support.chat import REQUEST, client_on
from tests.support.sweeps import EVERYTHING

from .evidence import count
from .virtual_uvloop import BACKENDS, run_virtually

TASKS = 6
SEEDS = 2000 if EVERYTHING else 60


def reply_of(rng: random.Random, scale: float) -> Reply:
    """What a server does with a request."""
    kind = rng.random()
    if kind < 0.1:
        return error_reply(rng.choice([400, 401, 500]))
    if kind < 0.15:
        return error_reply(429, headers={"retry-after": str(rng.choice([0, scale]))})
    pause = Pause(rng.choice([0.0, 0.125, 0.25, 1.0]) * scale)
    events: list[Event] = [pause, *tokens("a", finish=None), pause, *tokens("b", role_first=False)]
    if kind < 0.25:
        events = [*events[: rng.randrange(len(events))], Reset()]
    return sse_reply(events, one_segment_each=rng.random() < 0.5)


class Worker:
    """A task's business: a fan-out or a race, read in some way, left in some way."""

    def __init__(self, rng: random.Random, client: AsyncClient, limiter: Limiter, scale: float):
        self._rng = rng
        self._client = client
        self._limiter = limiter
        self._scale = scale

    def _items(self) -> Any:
        n = self._rng.randrange(6)
        pause = self._rng.choice([0.0, 0.125]) * self._scale

        def generate() -> Iterator[Any]:
            for _ in range(n):
                yield REQUEST

        async def generate_async() -> AsyncIterator[Any]:  # noqa: ASYNC900 - a source, as users write them
            for _ in range(n):
                await anyio.sleep(pause)
                yield REQUEST

        return self._rng.choice([[REQUEST] * n, generate(), generate_async()])

    async def run(self) -> None:
        rng, client = self._rng, self._client
        limits: list[int | Limiter] = [1, 2, self._limiter]
        limit = rng.choice(limits)
        stop = rng.choice([None, 0, 1, 3])
        nap = rng.choice([0.0, 0.0, 0.25]) * self._scale
        kind = rng.choice(["fan_out", "ordered", "chunks", "channels", "race"])
        if kind == "race":
            entries = [REQUEST] * rng.randint(1, 4)
            delay = rng.choice([0.0, 0.125 * self._scale, None])
            try:
                async with race(client, entries, delay=delay) as stream:
                    await anyio.sleep(nap)
                    if stop is None:
                        await stream.collect()
            except penstock.PenstockError:
                pass
            return
        feed: Any
        if kind == "chunks":
            feed = fan_out_chunks(client, self._items(), limit=limit, buffer=rng.choice([None, 1]))
        elif kind == "channels":
            feed = fan_out_channels(client, self._items(), limit=limit, buffer=rng.choice([1, 4]))
        else:
            ordered = kind == "ordered"
            feed = fan_out(client.complete, self._items(), limit=limit, ordered=ordered)
        async with anyio.create_task_group() as group, feed:
            seen = 0
            async for post in feed:
                seen += 1
                if seen == stop:
                    break
                await anyio.sleep(nap)
                if kind == "channels":
                    # Each by a task of its own: read one after the other, a full channel
                    # could hold the slot that the one before it waits for.
                    group.start_soon(self._own, post)

    async def _own(self, channel: CompletionChannel) -> None:
        try:
            async for _ in channel.receive:
                if self._rng.random() < 0.2:
                    await channel.aclose()
                    break
        except penstock.PenstockError:
            pass


async def churn(seed: int, client: AsyncClient, limiter: Limiter, scale: float) -> None:
    """Run the workers of one seed, each cancelled at some moment, or not."""
    rng = random.Random(seed)
    native = rng.random() < 0.5 and _on_asyncio()

    async def one(number: int) -> None:
        mine = random.Random(f"{seed}/{number}")
        worker = Worker(mine, client, limiter, scale)
        moment = mine.choice([None, 0.0, 0.125, 0.25, 0.5, 1.0, mine.random()])
        if not native:
            with anyio.move_on_after(None if moment is None else moment * scale):
                await worker.run()
            return
        task = asyncio.create_task(worker.run())
        if moment is not None:
            await asyncio.sleep(moment * scale)
            task.cancel()
            if mine.random() < 0.3:
                # Once more, which usually is in the clean-up.
                for _ in range(mine.randrange(4)):
                    await asyncio.sleep(0)
                task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    async with anyio.create_task_group() as group:
        for number in range(TASKS):
            group.start_soon(one, number)


def _on_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@pytest.mark.parametrize("backend", BACKENDS)
def test_many_seeds(backend: str) -> None:
    seeds = range(BACKENDS.index(backend), SEEDS, 1 if backend == "asyncio" else 5)

    async def main() -> None:
        for seed in seeds:
            count("seeds")
            rng = random.Random(f"server {seed}")
            calm: list[Reply] = []

            def script(
                _: RecordedRequest, rng: random.Random = rng, calm: list[Reply] = calm
            ) -> Reply:
                return calm[0] if calm else reply_of(rng, 1.0)

            network = MemoryNetwork(script)
            limiter = Limiter(3, adaptive=seed % 3 == 0)
            async with client_on(network, limiter=limiter, max_retries=1) as client:
                try:
                    await churn(seed, client, limiter, 1.0)
                    calm.append(sse_reply(tokens("a")))
                    now = limiter.statistics()
                    assert (now.in_flight, now.waiting) == (0, 0), now
                    assert (await client.complete(REQUEST)).choices[0].message.content == "a"
                    idle = network.open_connections
                    await client.complete(REQUEST)
                    assert network.open_connections == idle
                except BaseException as error:
                    error.add_note(f"seed {seed}")
                    raise
            assert network.open_connections == 0, seed

    run_virtually(backend, main)
    gc.collect()


@pytest.mark.sampled(0.34)
@pytest.mark.anyio
@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
async def test_on_sockets(tls: bool) -> None:
    scale = 0.004
    rng = random.Random(7)
    calm = False

    def script(request: RecordedRequest) -> Reply:
        return sse_reply(tokens("a")) if calm else reply_of(rng, scale)

    before = open_fds()
    async with serve(Player(script).reply_to, tls=tls) as server:
        limiter = Limiter(3)
        async with AsyncClient(
            server.base_url,
            limiter=limiter,
            max_retries=1,
            ssl_context=server.client_ssl_context() if tls else None,
        ) as client:
            # Others over TLS; a handshake costs a few milliseconds.
            for seed in range(1000, 1000 + SEEDS // 12) if tls else range(SEEDS // 6):
                count("seeds")
                await churn(seed, client, limiter, scale)
                now = limiter.statistics()
                assert (now.in_flight, now.waiting) == (0, 0), seed
            calm = True
            for _ in range(3):
                assert (await client.complete(REQUEST)).choices[0].message.content == "a"
            await server.wait_until(lambda: server.open_connections <= TASKS * 3)
        await server.wait_until(lambda: server.open_connections == 0)
    gc.collect()
    assert open_fds() == before
