"""Promise 3: cancelled reads, then reading on, give the same text as undisturbed ones."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

import anyio
import pytest
import sniffio

import penstock
from penstock import (
    AsyncClient,
    ChunkEvent,
    CompletionStream,
    ResultEvent,
    Timeouts,
    fan_out_chunks,
)
from penstock.testing.cuts import split_at
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import error_reply, sse_reply
from penstock.testing.script import End, Pause, Reply, Reset, Send, reply
from tests.support.chat import REQUEST, URL
from tests.support.sweeps import sample

from .evidence import count
from .offsets import offsets
from .recorded import FINISH, PLAIN, RECORDINGS, USAGE, Text, delta, text_of, worth
from .virtual_uvloop import virtual_backend as anyio_backend

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

T = TypeVar("T")

# Below, at and above the second between two segments, and none that divides it evenly.
TIMEOUTS = [0.0, 0.07, 0.3, 0.999, 1.0, 1.001, 1.7]


def paced(source: Reply, every: float = 1.0) -> Reply:
    """The same segments, each one so many seconds after the one before."""
    return Reply(tuple(part for step in source.steps for part in (Pause(every), step)))


async def patiently(
    read: Callable[[], Awaitable[T]], timeouts: Iterator[float], give_up: float = 1000.0
) -> T:
    """Call `read` with one short timeout after the other, until it has returned something."""
    start = anyio.current_time()
    while anyio.current_time() < start + give_up:
        with anyio.move_on_after(next(timeouts)):
            return await read()
        count("cancel points")
        # Cancelled by 0 seconds, no time would pass at all.
        await anyio.sleep(0.05)
    raise AssertionError("no read has ever come to its end")


async def read_all(
    source: AsyncIterator[T], timeouts: Iterator[float], *, each: Callable[[T], object]
) -> None:
    while True:
        try:
            each(await patiently(lambda: anext(source), timeouts))
        except StopAsyncIteration:
            return


APART = ["chunked-segments", "close-done", "tools", "two-choices"]


@pytest.mark.sampled(0.34)
@pytest.mark.parametrize(
    ("name", "phase", "bare"), sample(itertools.product(APART, TIMEOUTS, [False, True]), 0.4)
)
async def test_a_stream_of_bytes_that_arrive_apart(name: str, phase: float, bare: bool) -> None:
    data = RECORDINGS[name]
    head = data.index(b"\r\n\r\n") + 4
    whole = worth(data, len(data), "end", penstock.ReadTimeout).text
    source = split_at(Reply((Send(data), End())), range(head - 5, len(data), 7))
    network = MemoryNetwork(Reply((source.steps[0], *paced(Reply(source.steps[1:])).steps)))
    timeouts = itertools.cycle([phase, 0.4, 0.0, phase])
    async with AsyncClient(URL, network=network) as client:
        stream = client.chat.completions.stream(**REQUEST)
        text = Text()
        if bare:
            # The head is on its way for five bytes; after it a read may break off anywhere.
            text.add((await anext(stream)).to_dict())
            await read_all(stream, timeouts, each=lambda chunk: text.add(chunk.to_dict()))
        else:
            async with stream:
                await read_all(stream, timeouts, each=lambda chunk: text.add(chunk.to_dict()))
        assert text == whole
        assert text_of(stream.partial) == whole
        assert stream.state == "completed"
    assert len(network.requests) == 1


@pytest.mark.parametrize("phase", TIMEOUTS)
async def test_split_at_every_place(phase: float) -> None:
    data = RECORDINGS["chunked-done"]
    whole = worth(data, len(data), "end", penstock.ReadTimeout).text
    for n in offsets(data)[:-1]:
        network = MemoryNetwork(Reply((Send(data[:n]), Pause(1.0), Send(data[n:]))))
        async with AsyncClient(URL, network=network) as client:
            pieces: list[str] = []
            async with client.chat.completions.stream(**REQUEST) as stream:
                timeouts = itertools.cycle([phase, 0.2])
                await read_all(stream.text, timeouts, each=pieces.append)
            assert "".join(pieces) == whole.choices[0]
            assert "" not in pieces
            assert text_of(stream.partial) == whole
        assert len(network.requests) == 1


@pytest.mark.parametrize("phase", TIMEOUTS)
async def test_collect_can_be_repeated(phase: float) -> None:
    source = paced(sse_reply([*PLAIN, USAGE], one_segment_each=True))
    network = MemoryNetwork(source)
    # The server takes longer than the usual grace between the finish_reason and the usage.
    client = AsyncClient(URL, network=network, timeouts=Timeouts(trailing=10))
    async with client, client.chat.completions.stream(**REQUEST) as stream:
        completion = await patiently(stream.collect, itertools.cycle([phase, 0.01]))
        assert text_of(completion).choices == {0: "Héllo"}
        assert completion.usage is not None
        assert text_of(await stream.collect()) == text_of(completion)
    assert len(network.requests) == 1


@pytest.mark.sampled(0.34)
@pytest.mark.parametrize("phase", TIMEOUTS)
@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_a_merged_feed(phase: float, limit: int) -> None:
    words = [[delta(f"{n}{letter}") for letter in "abc"] for n in range(5)]

    def script(request: Any) -> Reply:
        n = int(request.json["messages"][0]["content"])
        return paced(sse_reply([*words[n], FINISH], one_segment_each=True), 0.5 + n / 3)

    network = MemoryNetwork(script, delay=0.2)
    requests = [{**REQUEST, "messages": [{"role": "user", "content": str(n)}]} for n in range(5)]
    texts: dict[int, str] = dict.fromkeys(range(5), "")
    results: list[int] = []

    def add(event: ChunkEvent | ResultEvent) -> None:
        if isinstance(event, ResultEvent):
            results.append(event.index)
            assert text_of(event.unwrap()).choices == {0: texts[event.index]}
        else:
            for choice in event.chunk.choices:
                texts[event.index] += choice.delta.content or ""

    client = AsyncClient(URL, network=network)
    async with client, fan_out_chunks(client, requests, limit=limit, buffer=1) as events:
        await read_all(events, itertools.cycle([phase, 0.13, 0.0]), each=add)
    assert texts == {n: f"{n}a{n}b{n}c" for n in range(5)}
    assert sorted(results) == [0, 1, 2, 3, 4]
    assert len(network.requests) == 5
    assert network.open_connections == 0


async def test_one_scope_for_many_reads() -> None:
    # Whatever a loop is cut into, its pieces together are the whole.
    source = paced(sse_reply([*PLAIN, USAGE], one_segment_each=True))
    for slice_ in (0.3, 1.0, 2.5, 100.0):
        network = MemoryNetwork(source)
        async with AsyncClient(URL, network=network) as client:
            text = Text()
            async with client.chat.completions.stream(**REQUEST) as stream:
                while stream.state != "completed":
                    with anyio.move_on_after(slice_):
                        async for chunk in stream:
                            text.add(chunk.to_dict())
            assert text.choices == {0: "Héllo"}


@pytest.mark.parametrize("phase", [0.07, 0.4, 1.0, 3.0])
async def test_a_cancelled_opening_keeps_to_the_rules_of_retries(phase: float) -> None:
    # A pause that the server asked for is kept, however often the wait for it is broken off.
    refusals = [
        error_reply(429, headers={"retry-after": "5"}),
        reply(Reset()),
        sse_reply([Reset()]),
    ]
    network = MemoryNetwork([*refusals, sse_reply(PLAIN)])
    async with AsyncClient(URL, network=network, max_retries=3) as client:
        stream = client.chat.completions.stream(**REQUEST)
        pieces: list[str] = []
        await read_all(stream.text, itertools.cycle([phase, 0.02]), each=pieces.append)
        assert "".join(pieces) == "Héllo"
        assert len(network.requests) == 4
        assert stream.statistics().attempts == 4
        first, second, third, fourth = (request.time for request in network.requests)
        assert second - first == pytest.approx(5.0, abs=0.1)
        # A kept-alive connection that dies before any byte is replaced at once, at no cost.
        assert 0 <= third - second <= 0.1
        # The back-off of the second failure, with its jitter.
        assert 0.75 <= fourth - third <= 1.1
        await stream.aclose()
    assert network.open_connections == 0


async def test_a_failure_is_not_lost_to_a_cancellation() -> None:
    # Cancelled while it cleans up after the last attempt, a read tells of it the next time.
    for fault in (error_reply(401), sse_reply([Reset()])):
        network = MemoryNetwork([fault, sse_reply(PLAIN)])
        async with AsyncClient(URL, network=network, max_retries=0) as client:
            stream = client.chat.completions.stream(**REQUEST)
            for turns in range(1, 50):
                if sniffio.current_async_library() == "asyncio":
                    task = asyncio.ensure_future(anext(stream))
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    if task.cancel():
                        await asyncio.wait([task])
                        if task.cancelled():
                            continue
                    with pytest.raises(penstock.PenstockError):
                        task.result()
                    break
            with pytest.raises(penstock.PenstockError):
                await anext(stream)
            await stream.aclose()


async def read_on(stream: CompletionStream, into: list[str]) -> None:
    async for piece in stream.text:
        into.append(piece)


@pytest.mark.parametrize("when", [0.5, 1.5, 2.0, 2.5, 3.5, 4.0, 4.5])
async def test_native_cancel_then_another_task_reads_on(when: float) -> None:
    source = paced(sse_reply([*PLAIN, USAGE], one_segment_each=True))
    network = MemoryNetwork(Reply(source.steps[1:]))
    pieces: list[str] = []
    client = AsyncClient(URL, network=network)
    async with client, client.chat.completions.stream(**REQUEST) as stream:
        if sniffio.current_async_library() == "asyncio":
            task = asyncio.ensure_future(read_on(stream, pieces))
            await asyncio.sleep(when)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            await asyncio.ensure_future(read_on(stream, pieces))
        else:
            with anyio.move_on_after(when):
                await read_on(stream, pieces)
            async with anyio.create_task_group() as group:  # noqa: ASYNC112 - by another task
                group.start_soon(read_on, stream, pieces)
        assert "".join(pieces) == "Héllo"
        assert text_of(stream.partial).choices == {0: "Héllo"}
