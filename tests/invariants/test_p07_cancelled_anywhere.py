"""Promise 7, and 2: cancelled at any point, of the host or of a child, a fan-out leaves nothing."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

import anyio
import anyio.lowlevel
import pytest

import penstock
from penstock import AsyncClient, Limiter, ResultEvent
from penstock._many.channels import fan_out_channels
from penstock._many.chunks import fan_out_chunks
from penstock._many.fan_out import fan_out
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import error_reply, sse_reply, tokens
from penstock.testing.script import Pause, RecordedRequest, Reply
from penstock.testing.sweep import BackendName, Suspensions, cancel_sweep
from tests.support.chat import REQUEST, client_on
from tests.support.sweeps import sample, some_modes

from .evidence import count
from .virtual_uvloop import BACKENDS, run_virtually

Kind = Literal["fan_out", "ordered", "chunks", "channels", "nested"]
KINDS: list[Kind] = ["fan_out", "ordered", "chunks", "channels", "nested"]
REQUESTS = [{**REQUEST, "user": str(number)} for number in range(5)]


def script_at(scale: float) -> Callable[[RecordedRequest], Reply]:
    def script(request: RecordedRequest) -> Reply:
        number = int(request.json["user"])
        if number == 3:
            return error_reply(400).after(0.5 * scale)
        pause = Pause((0.25 + number / 8) * scale)
        return sse_reply([pause, *tokens("a", finish=None), pause, *tokens("b")])

    return script


async def source(scale: float) -> AsyncIterator[dict[str, Any]]:  # noqa: ASYNC900 - a source, as users write them
    try:
        for request in REQUESTS:
            await anyio.sleep(scale / 8)
            yield request
    finally:
        await anyio.lowlevel.checkpoint()  # noqa: ASYNC102 - a clean-up as users write it


def feed_of(kind: Kind, client: AsyncClient, limiter: Limiter, scale: float) -> Any:
    items = source(scale)
    if kind == "chunks":
        return fan_out_chunks(client, items, limit=limiter, buffer=1)
    if kind == "channels":
        return fan_out_channels(client, items, limit=limiter, buffer=1)
    return fan_out(client.complete, items, limit=limiter, ordered=kind == "ordered", buffer=1)


async def consume(kind: Kind, client: AsyncClient, limiter: Limiter, scale: float) -> int:
    """Read all there is; gives how many items came to an end."""
    ended = 0
    async with feed_of(kind, client, limiter, scale) as feed:
        async for post in feed:
            if kind == "channels":
                try:
                    async for _ in post.receive:
                        pass
                except penstock.BadRequestError:
                    pass
                ended += 1
            elif kind == "chunks":
                ended += isinstance(post, ResultEvent)
            else:
                ended += 1
    return ended


async def nested(client: AsyncClient, limiter: Limiter, scale: float) -> int:
    async def item(kind: Kind) -> int:
        return await consume(kind, client, limiter, scale)

    kinds: list[Kind] = ["fan_out", "chunks"]
    async with fan_out(item, kinds, limit=2) as results:
        return sum([result.unwrap() async for result in results]) // 2


def run(kind: Kind, client: AsyncClient, limiter: Limiter, scale: float) -> Awaitable[int]:
    if kind == "nested":
        return nested(client, limiter, scale)
    return consume(kind, client, limiter, scale)


async def nothing_is_left(network: MemoryNetwork, client: AsyncClient, limiter: Limiter) -> None:
    assert limiter.statistics().in_flight == 0
    assert limiter.statistics().waiting == 0
    completion = await client.complete(REQUESTS[0])
    assert completion.choices[0].message.content == "ab"
    # What is open are connections that can be used again.
    idle = network.open_connections
    assert idle <= 4
    await client.complete(REQUESTS[0])
    assert network.open_connections == idle


@pytest.mark.sampled(0.2)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_at_every_point_of_the_host(backend: BackendName, kind: Kind) -> None:
    scale = 0.004 if backend == "uvloop" else 1.0  # its time is real

    @asynccontextmanager
    async def scenario() -> AsyncIterator[Callable[[], Awaitable[None]]]:
        network = MemoryNetwork(script_at(scale))
        limiter = Limiter(2)
        async with client_on(network, limiter=limiter) as client:

            async def body() -> None:
                assert await run(kind, client, limiter, scale) == 5

            yield body
            await nothing_is_left(network, client, limiter)
        assert network.open_connections == 0

    number = KINDS.index(kind) + 2 * (backend == "uvloop")
    modes = some_modes(backend, number)
    points = cancel_sweep(backend, scenario, real=backend == "uvloop", modes=modes)
    count("cancel points", sum(points.values()))
    assert min(points.values()) >= (2 if kind == "nested" else 4)


# --- children ---

How = Literal["host by scope", "host natively", "child natively", "the block is left"]


@pytest.mark.sampled(0.2)
@pytest.mark.parametrize("kind", ["fan_out", "ordered", "chunks", "channels"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_at_every_point_of_a_child(backend: BackendName, kind: Kind) -> None:
    ways: list[How] = ["host by scope", "the block is left"]
    if backend != "trio":
        ways += ["host natively", "child natively"]
    for how, child in sample(itertools.product(ways, (0, 2, 3)), 0.4, seed=(backend, kind)):
        for point in range(200):
            if not run_virtually(backend, _cancel_at, kind, how, child, point):
                break
        else:
            raise AssertionError("more than 200 points")
        assert point >= 3
        count("cancel points", point)


class Left(Exception):
    pass


async def _cancel_at(kind: Kind, how: How, child: int, point: int) -> bool:
    network = MemoryNetwork(script_at(1.0))
    limiter = Limiter(2)
    reached = False
    leave = anyio.Event()

    async with client_on(network, limiter=limiter) as client:
        feed = feed_of(kind, client, limiter, 1.0)
        inner = feed._child
        host: asyncio.Task[Any] | None = None

        async def sabotaged(index: int, *rest: Any) -> None:
            def report(number: int, _: Any) -> None:
                nonlocal reached
                if number != point:
                    return
                reached = True
                if how == "host by scope":
                    scope.cancel()
                elif how == "the block is left":
                    leave.set()
                else:
                    task = host if how == "host natively" else asyncio.current_task()
                    assert task is not None
                    task.cancel()

            call = inner(index, *rest)
            await (Suspensions(call, report) if index == child else call)

        feed._child = sabotaged
        seen = 0
        scope = anyio.CancelScope()

        async def read() -> None:
            nonlocal seen
            async for post in feed:
                if kind == "channels":
                    try:
                        async for _ in post.receive:
                            pass
                    except Exception:  # noqa: BLE001
                        pass
                seen += kind != "chunks" or isinstance(post, ResultEvent)

        async def main() -> None:
            with scope:
                async with feed:
                    if how != "the block is left":
                        await read()
                    else:
                        async with anyio.create_task_group() as group:
                            group.start_soon(read)
                            with anyio.move_on_after(20):
                                await leave.wait()
                            group.cancel_scope.cancel()

        if how == "host natively":
            host = asyncio.create_task(main())
            await asyncio.wait([host])
            assert host.cancelled() == reached or seen == 5
        else:
            await main()
        if how == "child natively":
            # Somebody else's cancellation is that item's error, and nobody else's.
            assert seen == 5
        elif how != "the block is left" and not reached:
            assert seen == 5
        await nothing_is_left(network, client, limiter)
    assert network.open_connections == 0
    return reached
