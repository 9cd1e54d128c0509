"""Promise 2 under load: hundreds of tasks cancelled by scopes and natively, at random moments."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import anyio
import pytest
import sniffio

from penstock import AsyncClient, Limiter, PenstockError, Timeouts, fan_out_chunks
from penstock.testing.replies import completion, error_reply, json_reply, sse_reply, tokens
from penstock.testing.script import End, Pause, RecordedRequest, Reply, Reset, Stall, reply
from penstock.testing.server import serve
from penstock.testing.sweep import open_fds
from tests.support.chat import REQUEST
from tests.support.sweeps import EVERYTHING

from .evidence import count

pytestmark = pytest.mark.anyio

TASKS = 300
AT_ONCE = 40


class Unruly:
    """A server that answers, refuses, breaks off or falls silent, by a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.calm = False

    def __call__(self, request: RecordedRequest) -> Reply:
        whole = not request.json.get("stream")
        if whole:
            good = json_reply(completion("Hello"))
        else:
            role, *rest = tokens("a", "b", "c")
            good = sse_reply([role, Pause(0.001), *rest])
        if self.calm:
            return good
        return self._random.choice(
            [
                good,
                good,
                good.after(0.002),
                error_reply(503, headers={"retry-after-ms": "1"}),
                reply(Reset()),
                reply(End()),
                reply(Stall()),
                Reply((*good.steps[:1], Stall())),
                Reply((*good.steps[:1], Reset())),
            ]
        )


@pytest.mark.sampled(0.34)
@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("seed", range(1, 21 if EVERYTHING else 3))
async def test_churn(seed: int, tls: bool) -> None:
    count("seeds")
    rng = random.Random(seed)
    limiter = Limiter(AT_ONCE)
    server_script = Unruly(seed)
    natively = sniffio.current_async_library() == "asyncio"
    before = open_fds()
    async with serve(server_script, tls=tls) as server:
        listening = open_fds()
        client = AsyncClient(
            server.base_url,
            limiter=limiter,
            ssl_context=server.client_ssl_context() if tls else None,
            timeouts=Timeouts(read=0.03),
            max_retries=1,
        )
        async with client:

            async def use() -> None:
                kind = rng.randrange(5)
                try:
                    if kind == 0:
                        await client.chat.completions.create(**REQUEST)
                    elif kind == 1:
                        await client.complete(REQUEST)
                    elif kind == 2:
                        async with client.chat.completions.stream(**REQUEST) as stream:
                            async for _ in stream.text:
                                if rng.random() < 0.2:
                                    break
                    elif kind == 3:
                        stream = client.chat.completions.stream(**REQUEST)
                        try:
                            async for _ in stream:
                                pass
                        finally:
                            with anyio.CancelScope(shield=True):
                                await stream.aclose()
                    else:
                        async with fan_out_chunks(client, [REQUEST] * 2, limit=2) as events:
                            async for _ in events:
                                pass
                except PenstockError:
                    pass

            await _at_random_moments(use, rng, natively)

            # Nobody is left: every slot is back, and every connection still open is idle.
            statistics = limiter.statistics()
            assert (statistics.in_flight, statistics.waiting) == (0, 0)
            assert client._endpoint.service.live == set()
            server_script.calm = True
            for _ in range(3):
                answer = await client.complete(REQUEST, timeouts=Timeouts())
                assert answer.choices[0].message.content == "abc"
            idle = len(client._connections._idle)
            await server.wait_until(lambda: server.open_connections == idle)
            # Both ends of each are in this process.
            assert open_fds() == listening + 2 * idle
        await server.wait_closed(len(server.connections))
    assert open_fds() == before


async def _at_random_moments(
    use: Callable[[], Awaitable[None]], rng: random.Random, natively: bool
) -> None:
    """Run `use` many times at once, cancelled at moments that the seed decides."""

    async def by_scope() -> None:
        with anyio.move_on_after(rng.uniform(0, 0.02)):
            await use()

    async with anyio.create_task_group() as group:
        slots = anyio.Semaphore(AT_ONCE * 2)

        async def one(native: bool) -> None:
            async with slots:
                if not native:
                    await by_scope()
                    return
                task = asyncio.ensure_future(use())
                loop = asyncio.get_running_loop()
                loop.call_later(rng.uniform(0, 0.02), task.cancel)
                if rng.random() < 0.3:
                    loop.call_later(rng.uniform(0, 0.02), task.cancel)
                await asyncio.wait([task])
                assert task.cancelled() or task.exception() is None

        for number in range(TASKS):
            group.start_soon(one, natively and number % 2 == 0)
