"""Promise 4: between two calls of a stream nothing of it is alive, so any task may make them."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel
import pytest

import penstock
from penstock import AsyncClient, CompletionStream, Limiter, StreamBusyError, StreamClosedError
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import completion, error_reply, json_reply, sse_reply
from penstock.testing.script import Pause, Reply, Reset, Stall, reply
from tests.support.chat import REQUEST, URL

from .alive import generators, in_a_task, innermost_scope, tasks
from .recorded import PLAIN, Text, read, text_of
from .virtual_uvloop import virtual_backend as anyio_backend

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio


def paced() -> Reply:
    source = sse_reply(PLAIN, one_segment_each=True)
    return Reply(tuple(part for step in source.steps for part in (Pause(1.0), step)))


async def test_opened_read_and_closed_from_different_tasks() -> None:
    network = MemoryNetwork(paced())
    async with AsyncClient(URL, network=network) as client:
        stream = client.chat.completions.stream(**REQUEST)
        text = Text()

        async def read_one() -> None:
            text.add((await anext(stream)).to_dict())

        await in_a_task(stream.__aenter__)
        await in_a_task(read_one)
        with generators() as begun:
            alive = tasks()
            await in_a_task(read_one)
            assert tasks() == alive
            await anext(stream.text)
            assert tasks() == alive
        assert begun == []
        await in_a_task(lambda: stream.__aexit__(None, None, None))
        assert network.open_connections == 0
        assert text.choices == {0: "Hé"}
        assert text_of(stream.partial).choices == {0: "Héllo"}
        with pytest.raises(StreamClosedError):
            await anext(stream)
        with pytest.raises(StreamClosedError):
            await in_a_task(stream.collect)


async def test_nothing_is_alive_between_any_two_calls() -> None:
    network = MemoryNetwork([error_reply(500), paced(), json_reply(completion())])
    limiter = Limiter(3)
    with generators() as begun:
        async with AsyncClient(URL, network=network, limiter=limiter) as client:
            alive = tasks()
            stream = client.chat.completions.stream(**REQUEST)
            scopes = innermost_scope()
            async with stream:
                assert tasks() == alive
                assert innermost_scope() == scopes
                async for _ in stream:
                    assert tasks() == alive
                    assert innermost_scope() == scopes
                    with anyio.move_on_after(0.5):
                        await anext(stream)
                    assert tasks() == alive
                    assert innermost_scope() == scopes
            assert tasks() == alive
            await client.chat.completions.create(**REQUEST)
            assert tasks() == alive
        gc.collect()
    assert begun == []


@pytest.mark.parametrize("again", ["next", "enter", "collect", "text"])
async def test_two_readers(again: str) -> None:
    network = MemoryNetwork(paced())
    async with AsyncClient(URL, network=network) as client:
        stream = client.chat.completions.stream(**REQUEST)
        text = Text()
        busy = 0
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "next": lambda: anext(stream),
            "enter": stream.__aenter__,
            "collect": stream.collect,
            "text": lambda: anext(stream.text),
        }
        async with anyio.create_task_group() as group:
            group.start_soon(read, stream, text)
            for _ in range(12):
                # At every stage of the other's read: before the head, within the body.
                await anyio.sleep(0.4)
                if stream.state != "completed":
                    with pytest.raises(StreamBusyError):
                        await calls[again]()
                    busy += 1
        assert busy > 8
        assert text.choices == {0: "Héllo"}
        assert text_of(stream.partial).choices == {0: "Héllo"}
    assert len(network.requests) == 1


STAGES: dict[str, tuple[Callable[[], MemoryNetwork], bool]] = {
    "connect": (lambda: MemoryNetwork(paced(), stall=1), False),
    "head": (lambda: MemoryNetwork(reply(Stall())), False),
    "half a head": (lambda: MemoryNetwork(reply(b"HTTP/1.1 200 OK\r\nA", Stall())), False),
    "error body": (
        lambda: MemoryNetwork(
            reply(b"HTTP/1.1 400 no\r\ncontent-length: 9\r\n\r\n{", Stall()),
        ),
        False,
    ),
    "retry": (
        lambda: MemoryNetwork([error_reply(429, headers={"retry-after": "50"}), paced()]),
        False,
    ),
    "retry after the head": (lambda: MemoryNetwork([sse_reply([Reset()]), reply(Stall())]), False),
    "slot": (lambda: MemoryNetwork(paced()), True),
    "body": (lambda: MemoryNetwork(sse_reply([PLAIN[0], PLAIN[1], Stall()])), False),
    "no byte of the body": (lambda: MemoryNetwork(sse_reply([Stall()])), False),
    "gzip": (
        lambda: MemoryNetwork(sse_reply([Stall()], headers={"content-encoding": "gzip"})),
        False,
    ),
}


@pytest.mark.parametrize("closer", ["stream", "client"])
@pytest.mark.parametrize("bare", [False, True], ids=["block", "bare"])
@pytest.mark.parametrize("stage", STAGES)
async def test_closed_by_another_task(stage: str, bare: bool, closer: str) -> None:
    make, slotless = STAGES[stage]
    network = make()
    limiter = Limiter(1)
    client = AsyncClient(URL, network=network, limiter=limiter)
    stream = client.chat.completions.stream(**REQUEST)
    alive = tasks()
    raised: list[BaseException] = []
    text = Text()

    async def use() -> None:
        try:
            if bare:
                await read(stream, text)
            else:
                async with stream:
                    await read(stream, text)
        except Exception as error:  # noqa: BLE001 -- looked at below
            raised.append(error)

    async with client:
        held = await limiter.acquire() if slotless else None
        async with anyio.create_task_group() as group:
            group.start_soon(use)
            await anyio.sleep(3.0)
            closed_at = anyio.current_time()
            await (stream.aclose() if closer == "stream" else client.aclose())
        assert anyio.current_time() == closed_at
        assert [type(error) for error in raised] == [StreamClosedError], raised
        # A refusal that was read to its end leaves its connection idle, which is clean.
        idle = 1 if stage == "retry" and closer == "stream" else 0
        assert network.open_connections == idle
        if held is not None:
            held.release()
        assert limiter.statistics().in_flight == 0
        assert limiter.statistics().waiting == 0
        assert client._endpoint.service.live == set()
        assert stream.state == "closed"
        assert text_of(stream.partial) == text
        for _ in range(2):
            with pytest.raises(StreamClosedError):
                await anext(stream)
            with pytest.raises(StreamClosedError):
                await stream.collect()
            with pytest.raises(StreamClosedError):
                await stream.__aenter__()
            await stream.aclose()
        assert tasks() == alive
    requests = len(network.requests)
    await anyio.sleep(100.0)
    assert len(network.requests) == requests


async def test_a_client_closed_under_calls_that_are_no_streams() -> None:
    for script in (reply(Stall()), error_reply(429, headers={"retry-after": "50"})):
        network = MemoryNetwork(script)
        client = AsyncClient(URL, network=network)
        raised: list[BaseException] = []

        async def use(
            call: Callable[[], Awaitable[object]], raised: list[BaseException] = raised
        ) -> None:
            try:
                await call()
            except Exception as caught:  # noqa: BLE001 -- looked at below
                raised.append(caught)

        async with anyio.create_task_group() as group:
            group.start_soon(use, lambda c=client: c.chat.completions.create(**REQUEST))
            group.start_soon(use, lambda c=client: c.models.list())
            group.start_soon(use, lambda c=client: c.complete(REQUEST))
            await anyio.sleep(2.0)
            closed_at = anyio.current_time()
            await client.aclose()
        assert anyio.current_time() == closed_at
        assert [type(error) for error in raised] == [StreamClosedError] * 3, raised
        assert network.open_connections == 0
        assert client._endpoint.service.live == set()
        with pytest.raises(StreamClosedError):
            await client.complete(REQUEST)


async def test_closing_ends_no_complete_answer() -> None:
    network = MemoryNetwork(sse_reply(PLAIN))
    async with AsyncClient(URL, network=network) as client:
        async with client.chat.completions.stream(**REQUEST) as stream:
            await stream.collect()
            await in_a_task(stream.aclose)
            assert stream.state == "completed"
            with pytest.raises(StopAsyncIteration):
                await anext(stream)
        assert network.open_connections == 1
        # Bare, and read to the end: nothing is kept of it, though nobody has closed it.
        async for _ in client.chat.completions.stream(**REQUEST):
            pass
        assert client._endpoint.service.live == set()
        assert network.open_connections == 1


async def test_a_new_stream_that_is_closed_sends_nothing() -> None:
    network = MemoryNetwork(paced())
    async with AsyncClient(URL, network=network) as client:
        stream = client.chat.completions.stream(**REQUEST)
        await stream.aclose()
        assert stream.state == "closed"
        with pytest.raises(StreamClosedError):
            async with stream:
                pass
    assert network.connects == []


async def test_the_streams_of_a_client_are_closed_with_it() -> None:
    network = MemoryNetwork(paced())
    client = AsyncClient(URL, network=network)
    async with client:
        streams: list[CompletionStream] = []
        for _ in range(5):
            stream = client.chat.completions.stream(**REQUEST)
            await stream.__aenter__()
            await anext(stream)
            streams.append(stream)
    assert network.open_connections == 0
    for stream in streams:
        with pytest.raises(penstock.PenstockError):
            await stream.collect()
        assert text_of(stream.partial).choices == {0: ""}
