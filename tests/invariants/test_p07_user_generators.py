"""Promise 7, around a block that a user has put into an async generator of his own.

Such a generator may be left by `break`, closed by another task or by the event loop, and its
steps may be made by different tasks, in whatever cancel scopes these are in. Nobody is cancelled
by it, and all of the block is closed.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from random import Random
from typing import Any, Literal, get_args

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock import AsyncClient, Limiter, fan_out, fan_out_channels, fan_out_chunks, race
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import sse_reply, tokens
from penstock.testing.script import Pause, Reply, Stall
from penstock.testing.sweep import BackendName, cancel_sweep
from tests.support.chat import REQUEST, client_on
from tests.support.sweeps import sample, some_modes

from .alive import in_a_task, tasks
from .evidence import count
from .virtual_uvloop import run_virtually
from .virtual_uvloop import virtual_backend as anyio_backend

__all__ = ["anyio_backend"]

pytestmark = [
    pytest.mark.anyio,
    # trio's, of any generator that is not closed by its user.
    pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning"),
]

Kind = Literal["fan_out", "instant", "ordered", "chunks", "channels", "race", "stream"]
KINDS: list[Kind] = list(get_args(Kind))
Body = Callable[[AsyncGenerator[Any, None]], Awaitable[None]]


def script(_: object) -> Reply:
    """Two tokens a second apart, then silence; "instant" does not come here."""
    return sse_reply([*tokens("a", "b")[:2], Pause(1), tokens("a", "b")[2], Stall()], done=False)


async def three_seconds(item: int) -> int:
    await anyio.sleep(item % 3)
    return item


async def at_once(item: int) -> int:
    return item


def block_of(kind: Kind, client: AsyncClient, limiter: Limiter) -> Any:
    endless = iter(int, 1)
    if kind in ("fan_out", "ordered"):
        ordered = kind == "ordered"
        return fan_out(three_seconds, endless, limit=limiter, ordered=ordered)
    if kind == "instant":
        return fan_out(at_once, endless, limit=limiter)
    requests = (REQUEST for _ in endless)
    if kind == "chunks":
        return fan_out_chunks(client, requests, limit=limiter)
    if kind == "channels":
        return fan_out_channels(client, requests, limit=limiter)
    if kind == "race":
        return race(client, [REQUEST, REQUEST], delay=0.5)
    return client.chat.completions.stream(**REQUEST)


async def items_of(  # noqa: ASYNC900 - what is tested
    kind: Kind, client: AsyncClient, limiter: Limiter
) -> AsyncGenerator[Any, None]:
    """What users write, and frameworks do."""
    async with block_of(kind, client, limiter) as block:
        async for item in block:
            yield item  # noqa: ASYNC119 - what is tested


@asynccontextmanager
async def surroundings(kind: Kind) -> AsyncIterator[AsyncGenerator[Any, None]]:
    """A generator around a block; at the end nothing of the block may be alive."""
    network, limiter = MemoryNetwork(script), Limiter(3)
    async with client_on(network, limiter=limiter) as client:
        alive = tasks()
        yield items_of(kind, client, limiter)
        gc.collect()
        # The event loop closes what was dropped.
        await anyio.sleep(0.01)
        assert tasks() <= alive
        assert limiter.statistics().in_flight == limiter.statistics().waiting == 0
        assert not any(connection.open for connection in network.connections)


async def left_by_break(items: AsyncGenerator[Any, None]) -> None:
    async for _ in items:
        break


async def closed_by_its_user(items: AsyncGenerator[Any, None]) -> None:
    async with aclosing(items):
        await anext(items)


async def closed_by_another_task(items: AsyncGenerator[Any, None]) -> None:
    await anext(items)
    await in_a_task(items.aclose)


async def every_step_by_another_task(items: AsyncGenerator[Any, None]) -> None:
    for _ in range(2):
        await in_a_task(items.__anext__)
    await in_a_task(items.aclose)


async def entered_in_a_scope_that_is_left(items: AsyncGenerator[Any, None]) -> None:
    with anyio.move_on_after(100):
        await anext(items)
    with anyio.CancelScope():
        await anext(items)
    await items.aclose()


async def entered_in_a_scope_that_is_cancelled_later(items: AsyncGenerator[Any, None]) -> None:
    with anyio.CancelScope() as scope:
        await anext(items)
        scope.cancel()
    await anext(items)
    await items.aclose()


async def closed_in_a_cancelled_scope(items: AsyncGenerator[Any, None]) -> None:
    await anext(items)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await items.aclose()


async def an_exception_thrown_into_it(items: AsyncGenerator[Any, None]) -> None:
    await anext(items)
    with pytest.raises(LookupError, match="mine"):
        await items.athrow(LookupError("mine"))


async def an_exception_of_the_loop(items: AsyncGenerator[Any, None]) -> None:
    with pytest.raises(LookupError, match="mine"):  # noqa: PT012
        async for _ in items:
            raise LookupError("mine")


async def cancelled_while_it_waits(items: AsyncGenerator[Any, None]) -> None:
    with anyio.move_on_after(3) as scope:
        async for _ in items:
            await anyio.sleep(0.3)
        await anyio.sleep_forever()
    assert scope.cancelled_caught


WAYS: list[Body] = [
    left_by_break,
    closed_by_its_user,
    closed_by_another_task,
    every_step_by_another_task,
    entered_in_a_scope_that_is_left,
    entered_in_a_scope_that_is_cancelled_later,
    closed_in_a_cancelled_scope,
    an_exception_thrown_into_it,
    an_exception_of_the_loop,
    cancelled_while_it_waits,
]


@pytest.mark.sampled(0.2)
@pytest.mark.parametrize(("way", "kind"), sample(itertools.product(WAYS, KINDS), 0.4))
async def test_nobody_is_cancelled_and_all_is_closed(way: Body, kind: Kind) -> None:
    count("cases")
    async with surroundings(kind) as items:
        await way(items)
        del items
        # A cancellation of this task would come here.
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
    await anyio.sleep(1)


@pytest.mark.sampled(0.2)
@pytest.mark.parametrize("kind", KINDS)
async def test_several_at_once_left_in_any_order(kind: Kind) -> None:
    async with surroundings(kind) as first, surroundings(kind) as second:
        await anext(first)
        await anext(second)
        await first.aclose()
        await anext(second)
        await second.aclose()


# asyncio.run() cancels tasks that have not begun, and says so of their coroutines.
@pytest.mark.sampled(0.2)
@pytest.mark.filterwarnings("ignore:coroutine 'Feed._run' was never awaited:RuntimeWarning")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
@pytest.mark.parametrize("held", [True, False])
def test_abandoned_when_the_event_loop_ends(backend: BackendName, kind: Kind, held: bool) -> None:
    limiter = Limiter(3)
    network = MemoryNetwork(script)
    kept: list[object] = []

    async def main() -> str:
        client = client_on(network, limiter=limiter)
        items = items_of(kind, client, limiter)
        await anext(items)
        if held:
            kept.append(items)
        return "returned"

    assert run_virtually(backend, main) == "returned"
    kept.clear()
    gc.collect()
    assert limiter.statistics().in_flight == 0
    assert not any(connection.open for connection in network.connections)


@pytest.mark.sampled(0.2)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelled_at_every_point(backend: BackendName, kind: Kind) -> None:
    @asynccontextmanager
    async def scenario() -> AsyncIterator[Callable[[], Awaitable[None]]]:
        async with surroundings(kind) as items:

            async def body() -> None:
                async with aclosing(items):
                    async for _ in items:
                        break

            yield body

    points = cancel_sweep(backend, scenario, modes=some_modes(backend, KINDS.index(kind)))
    count("cancel points", sum(points.values()))
    assert min(points.values()) >= 1


async def test_left_by_break_in_a_task_that_is_cancelled_natively(anyio_backend_name: str) -> None:
    if anyio_backend_name != "asyncio":
        return
    async with surroundings("fan_out") as items:

        async def use() -> None:
            async for _ in items:
                break
            await asyncio.sleep(60)

        task = asyncio.create_task(use())
        await asyncio.sleep(5)
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await items.aclose()


# --- any use of several at once ---

Step = Literal["next", "next elsewhere", "next in a scope", "next cancelled"]
End = Literal["dropped", "closed", "closed elsewhere", "closed in a cancelled scope", "thrown"]
uses = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.integers(0, 3),  # in so many generators of the user's
        st.lists(st.sampled_from(list(get_args(Step))), max_size=4),
        st.sampled_from(list(get_args(End))),
    ),
    min_size=1,
    max_size=4,
)


async def wrapped(  # noqa: ASYNC900 - what is tested
    items: AsyncGenerator[Any, None], depth: int
) -> AsyncGenerator[Any, None]:
    async with aclosing(items if depth == 0 else wrapped(items, depth - 1)) as inner:
        async for item in inner:
            yield item  # noqa: ASYNC119 - what is tested


async def step(items: AsyncGenerator[Any, None], how: Step) -> None:
    try:
        if how == "next elsewhere":
            await in_a_task(items.__anext__)
        elif how == "next in a scope":
            with anyio.CancelScope() as scope:
                await anext(items)
            assert not scope.cancel_called
        elif how == "next cancelled":
            # Cancelling a generator ends it.
            with anyio.move_on_after(0.2):
                await anext(items)
        else:
            await anext(items)
    except StopAsyncIteration:
        pass


async def end(items: AsyncGenerator[Any, None], how: End) -> None:
    if how == "closed":
        await items.aclose()
    elif how == "closed elsewhere":
        await in_a_task(items.aclose)
    elif how == "closed in a cancelled scope":
        with anyio.CancelScope() as scope:
            scope.cancel()
            await items.aclose()
    elif how == "thrown":
        # One that has ended already has nothing to say to it.
        with suppress(LookupError, StopAsyncIteration):
            await items.athrow(LookupError)


@settings(max_examples=settings().max_examples // 8)  # they are long
@given(uses, st.integers(0, 1000))
async def test_any_use_of_several_generators(
    made: list[tuple[Kind, int, list[Step], End]], seed: int
) -> None:
    count("examples")
    random = Random(seed)
    network, limiter = MemoryNetwork(script), Limiter(6)
    async with client_on(network) as client:
        alive = tasks()
        open_ = [
            (wrapped(items_of(kind, client, limiter), depth), list(steps), how)
            for kind, depth, steps, how in made
        ]
        while open_:
            position = random.randrange(len(open_))
            items, steps, how = open_[position]
            with anyio.move_on_after(5):
                if steps:
                    await step(items, steps.pop())
                    continue
            await end(items, how)
            del open_[position], items
            # Whoever is cancelled by it is cancelled here.
            await anyio.sleep(0.1)
        gc.collect()
        await anyio.sleep(0.1)
        assert tasks() <= alive
        assert limiter.statistics().in_flight == limiter.statistics().waiting == 0
        assert not any(connection.open for connection in network.connections)
