"""How long the other tasks of an event loop wait for their turn, counted in calls.

The linter's rule of a checkpoint on every path is off, since a read of what has already arrived
does not wait. What is promised instead: each operation on the network gives the others a turn, a
loop over what is ready gives them one at a bounded interval, and a cancelled scope ends it then.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from penstock import (
    AsyncClient,
    Limiter,
    fan_out,
    fan_out_channels,
    fan_out_chunks,
    race,
)
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import real_backend as anyio_backend
from penstock.testing.replies import completion, json_reply, sse_reply, tokens
from penstock.testing.script import RecordedRequest, Reply
from tests.support.chat import REQUEST, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

# Results, and chunks or network reads, that a loop may take in a row. Twice as many as go by from
# checkpoint to checkpoint: trio may run one task twice before it runs another.
RESULTS = 18
CHUNKS = 66


class Turns:
    """How many turns another task had, and how many calls in a row went by without one."""

    def __init__(self) -> None:
        self.turns = 0
        self.calls = 0
        self.longest = 0
        self._in_a_row = 0
        self._seen = 0

    async def take(self) -> None:
        while True:
            await anyio.lowlevel.checkpoint()
            self.turns += 1

    def called(self) -> None:
        """A call has returned."""
        self.calls += 1
        self._in_a_row = self._in_a_row + 1 if self.turns == self._seen else 0
        self._seen = self.turns
        self.longest = max(self.longest, self._in_a_row)


@asynccontextmanager
async def another_task() -> AsyncIterator[Turns]:
    turns = Turns()
    async with anyio.create_task_group() as group:
        group.start_soon(turns.take)
        await anyio.lowlevel.checkpoint()
        yield turns
        group.cancel_scope.cancel()


def answer(request: RecordedRequest) -> Reply:
    if not request.json.get("stream"):
        return json_reply(completion("Hi"))
    return sse_reply(tokens(*"abc"))


def many_tokens(request: RecordedRequest) -> Reply:
    return sse_reply(tokens(*"abcde" * 60), one_segment_each=True)


async def at_once(item: int) -> int:
    return item


# --- operations ---


async def complete(client: AsyncClient) -> None:
    await client.complete(REQUEST)


async def create(client: AsyncClient) -> None:
    await client.chat.completions.create(**REQUEST)


async def stream_block(client: AsyncClient) -> None:
    async with client.chat.completions.stream(**REQUEST):
        pass


async def stream_closed(client: AsyncClient) -> None:
    stream = client.chat.completions.stream(**REQUEST)
    await anext(stream)
    await stream.aclose()


async def collect(client: AsyncClient) -> None:
    await client.chat.completions.stream(**REQUEST).collect()


async def race_block(client: AsyncClient) -> None:
    async with race(client, [REQUEST, REQUEST]):
        pass


async def fan_out_block(client: AsyncClient) -> None:
    async with fan_out(at_once, [1]):
        pass


async def chunks_block(client: AsyncClient) -> None:
    async with fan_out_chunks(client, []):
        pass


async def channels_block(client: AsyncClient) -> None:
    async with fan_out_channels(client, [REQUEST]) as channels:
        async for channel in channels:
            await channel.aclose()


async def limiter_block(client: AsyncClient) -> None:
    async with Limiter(1):
        pass


OPERATIONS: list[Callable[[AsyncClient], Awaitable[None]]] = [
    complete,
    create,
    stream_block,
    stream_closed,
    collect,
    race_block,
    fan_out_block,
    chunks_block,
    channels_block,
    limiter_block,
]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.__name__)
async def test_each_operation_gives_the_others_a_turn(operation: Any) -> None:
    async with client_on(answer) as client, another_task() as turns:
        await operation(client)
        turns.called()
        for _ in range(20):
            await operation(client)
            turns.called()
    assert turns.longest <= 1


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.__name__)
async def test_a_loop_of_an_operation_ends_with_its_scope(operation: Any) -> None:
    done = 0
    async with client_on(answer) as client:
        with anyio.CancelScope() as scope:
            while done < 50:
                await operation(client)
                done += 1
                if done == 3:
                    scope.cancel()
    assert scope.cancelled_caught
    assert done <= 4


# --- loops over what is ready ---


@asynccontextmanager
async def results(network: MemoryNetwork) -> AsyncIterator[AsyncIterator[Any]]:
    async with fan_out(at_once, range(300), limit=400) as block:
        await anyio.sleep(0.05)
        yield block


@asynccontextmanager
async def ordered_results(network: MemoryNetwork) -> AsyncIterator[AsyncIterator[Any]]:
    async with fan_out(at_once, range(300), limit=400, ordered=True) as block:
        await anyio.sleep(0.05)
        yield block


@asynccontextmanager
async def results_as_they_come(network: MemoryNetwork) -> AsyncIterator[AsyncIterator[Any]]:
    async with fan_out(at_once, iter(int, 1), limit=3) as block:
        yield block


@asynccontextmanager
async def chunk_events(network: MemoryNetwork) -> AsyncIterator[AsyncIterator[Any]]:
    async with (
        client_on(network) as client,
        fan_out_chunks(client, [REQUEST], buffer=1000) as block,
    ):
        await anyio.sleep(0.2)
        yield block


@asynccontextmanager
async def received_chunks(network: MemoryNetwork) -> AsyncIterator[AsyncIterator[Any]]:
    async with (
        client_on(network) as client,
        fan_out_channels(client, [REQUEST], buffer=1000) as block,
    ):
        channel = await anext(block)
        await anyio.sleep(0.2)
        yield channel.receive


@asynccontextmanager
async def channels(network: MemoryNetwork) -> AsyncIterator[AsyncIterator[Any]]:
    async with (
        client_on(answer) as client,
        fan_out_channels(client, [REQUEST] * 100, limit=200) as block,
    ):
        await anyio.sleep(0.2)
        yield block


LOOPS: list[tuple[Callable[[MemoryNetwork], Any], int]] = [
    (results, RESULTS),
    (ordered_results, RESULTS),
    (results_as_they_come, RESULTS),
    (chunk_events, CHUNKS),
    (received_chunks, CHUNKS),
    (channels, RESULTS),
]


@pytest.mark.parametrize(("loop", "bound"), LOOPS, ids=lambda each: getattr(each, "__name__", ""))
async def test_a_loop_over_what_is_ready_gives_the_others_turns(loop: Any, bound: int) -> None:
    async with another_task() as turns, loop(MemoryNetwork(many_tokens)) as items:
        async for _ in items:
            turns.called()
            if turns.calls == 300:
                break
    assert turns.calls >= 100
    assert turns.longest <= bound


@pytest.mark.parametrize(("loop", "bound"), LOOPS, ids=lambda each: getattr(each, "__name__", ""))
async def test_a_cancelled_scope_ends_a_loop_over_what_is_ready(loop: Any, bound: int) -> None:
    seen = 0
    async with loop(MemoryNetwork(many_tokens)) as items:
        with anyio.CancelScope() as scope:
            async for _ in items:
                seen += 1
                if seen == 5:
                    scope.cancel()
    assert scope.cancelled_caught
    assert seen <= 5 + bound


async def test_a_deadline_ends_a_loop_over_a_function_that_never_waits() -> None:
    with anyio.fail_after(20):
        with anyio.move_on_after(0.05) as scope:
            async with fan_out(at_once, iter(int, 1), limit=2) as block:
                async for _ in block:
                    pass
    assert scope.cancelled_caught
