"""What the page on threads, processes and event loops says: an item of it is a test's docstring."""

from __future__ import annotations

import asyncio
import copy
import gc
import itertools
import pickle
import re
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest

import penstock
from penstock import Client, Limiter
from penstock.testing import (
    MemoryNetwork,
    Stall,
    becomes_true,
    cut_after_events,
    error_reply,
    serve_in_thread,
    sse_reply,
    text_reply,
    tokens,
)
from tests.support.blocking import run_program
from tests.support.chat import REQUEST, client_on

from .drawings import ROOT

PAGE = ROOT / "docs" / "pages" / "topics" / "threads.md"
HELLO = text_reply("Hel", "lo")
STALLED = cut_after_events(HELLO, 2, Stall())


def test_each_item_of_the_page_has_its_test() -> None:
    items = re.findall(r"^- (.*)$", PAGE.read_text(), re.M)
    tests: list[str] = [
        " ".join((value.__doc__ or "").split())
        for name, value in globals().items()
        if name.startswith("test_") and value is not test_each_item_of_the_page_has_its_test
    ]
    assert sorted(tests) == sorted(items)


def text_of(completion: penstock.ChatCompletion) -> str | None:
    return completion.choices[0].message.content


# --- between tasks ---


@pytest.mark.anyio
async def test_tasks_share_a_client() -> None:
    """Any number of tasks of an event loop may use an `AsyncClient`."""
    found: list[str | None] = []

    async with client_on(HELLO) as client, anyio.create_task_group() as group:

        async def ask() -> None:
            found.append(text_of(await client.complete(REQUEST)))

        for _ in range(50):
            group.start_soon(ask)
    assert found == ["Hello"] * 50


@pytest.mark.anyio
async def test_tasks_share_a_stream() -> None:
    """A stream may be opened, read and closed by different tasks."""
    async with client_on(STALLED) as client:
        stream = client.chat.completions.stream(**REQUEST)
        found: list[str] = []

        async def read() -> None:
            found.append(await anext(stream.text))

        for step in (stream.__aenter__, read, stream.aclose):
            async with anyio.create_task_group() as group:  # noqa: ASYNC112 - another task
                group.start_soon(step)
        assert found == ["Hel"]
        assert stream.state == "closed"


@pytest.mark.anyio
async def test_one_task_reads() -> None:
    """One task reads a stream at a time: a second one gets `StreamBusyError`."""
    async with (
        client_on(STALLED) as client,
        client.chat.completions.stream(**REQUEST) as stream,
        anyio.create_task_group() as group,
    ):
        group.start_soon(stream.collect)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(penstock.StreamBusyError):
            await anext(stream)
        group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_any_task_closes() -> None:
    """Any task may close a stream: the task that reads it gets `StreamClosedError`."""
    async with (
        client_on(STALLED) as client,
        client.chat.completions.stream(**REQUEST) as stream,
        anyio.create_task_group() as group,
    ):

        async def close() -> None:
            await anyio.wait_all_tasks_blocked()
            await stream.aclose()

        group.start_soon(close)
        with pytest.raises(penstock.StreamClosedError):
            await stream.collect()


@pytest.mark.anyio
async def test_a_channel_goes_to_any_task() -> None:
    """The channel of a completion may be passed to any task."""
    found: list[int] = []

    async def read(channel: penstock.CompletionChannel) -> None:
        found.append(len([chunk async for chunk in channel.receive]))

    async with (
        client_on(HELLO) as client,
        penstock.fan_out_channels(client, [REQUEST] * 3) as channels,
        anyio.create_task_group() as group,
    ):
        async for channel in channels:
            group.start_soon(read, channel)
    assert found == [4, 4, 4]


@pytest.mark.anyio
async def test_a_fan_out_goes_from_task_to_task() -> None:
    """A fan-out may be entered, read and left by different tasks."""
    async with client_on(HELLO) as client:
        results = penstock.fan_out(client.complete, [REQUEST] * 3)
        found: list[str | None] = []

        async def read() -> None:
            found.extend([text_of(result.unwrap()) async for result in results])

        async def leave() -> None:
            await results.__aexit__(None, None, None)

        for step in (results.__aenter__, read, leave):
            async with anyio.create_task_group() as group:  # noqa: ASYNC112 - another task
                group.start_soon(step)
    assert found == ["Hello"] * 3


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")  # of trio
async def test_a_fan_out_in_a_generator() -> None:
    """A fan-out may be inside an async generator that is left by `break`: the event loop closes
    both.
    """
    limiter = Limiter(2)

    async def double(number: int) -> int:
        return 2 * number

    async def doubled() -> AsyncIterator[int]:  # noqa: ASYNC900 - what is tested
        async with penstock.fan_out(double, itertools.count(), limit=limiter) as results:
            async for result in results:
                yield result.unwrap()  # noqa: ASYNC119 - what is tested

    async for _ in doubled():
        break
    gc.collect()
    with anyio.fail_after(20):
        while limiter.statistics().in_flight:  # noqa: ASYNC110 - a limiter has no event for it
            await anyio.sleep(0.01)


# --- between event loops ---


def in_every_loop(function: Callable[[], Any]) -> list[Any]:
    """The results in four event loops, one after the other."""
    return [anyio.run(function, backend=name) for name in ("asyncio", "trio", "asyncio", "trio")]


def test_a_client_goes_from_loop_to_loop() -> None:
    """An `AsyncClient` may be used in one event loop after another; connections of a loop that
    has ended are not used again.
    """
    network = MemoryNetwork(HELLO)
    client = client_on(network)

    async def ask() -> str | None:
        await client.complete(REQUEST)
        return text_of(await client.complete(REQUEST))

    assert in_every_loop(ask) == ["Hello"] * 4
    assert len(network.connections) == 4
    anyio.run(client.aclose)


def test_a_limiter_goes_from_loop_to_loop() -> None:
    """A limiter may be used in one event loop after another."""
    limiter = Limiter(1)

    async def ask() -> list[str | None]:
        async with (
            client_on(HELLO, limiter=limiter) as client,
            penstock.fan_out(client.complete, [REQUEST] * 3) as results,
        ):
            return [text_of(result.unwrap()) async for result in results]

    assert in_every_loop(ask) == [["Hello"] * 3] * 4
    assert limiter.statistics().in_flight == 0


def test_a_limiter_in_two_loops() -> None:
    """A limiter that is in use in one event loop is a `RuntimeError` in another."""
    limiter = Limiter(2)

    async def enter() -> None:
        async with limiter:
            pass

    async def hold() -> None:
        async with limiter:
            with pytest.raises(RuntimeError, match="a Limiter of its own"):
                await asyncio.to_thread(anyio.run, enter)

    asyncio.run(hold())
    anyio.run(enter, backend="trio")


def test_a_function_in_another_loop() -> None:
    """The function of a fan-out may go into a thread, and into another event loop there; the slot
    that it is lent stays in the loop of the fan-out.
    """
    limiter = Limiter(2)

    async def ask() -> str | None:
        async with client_on([error_reply(429, "later"), HELLO]) as client:
            return text_of(await client.complete(REQUEST))

    async def ask_in_a_thread(number: int) -> str | None:
        return await asyncio.to_thread(anyio.run, ask)

    async def main() -> list[str | None]:
        async with penstock.fan_out(ask_in_a_thread, range(4), limit=limiter) as results:
            return [result.unwrap() async for result in results]

    assert asyncio.run(main()) == ["Hello"] * 4
    assert limiter.statistics().refused == 0


@pytest.mark.anyio
async def test_blocking_in_a_loop() -> None:
    """Inside a running event loop, as in a notebook, a call of the blocking client works, and
    blocks that loop.
    """
    with Client("http://127.0.0.1:9/v1", network=MemoryNetwork(HELLO)) as client:
        assert text_of(client.complete(REQUEST)) == "Hello"


def test_blocking_in_its_own_loop() -> None:
    """In the event loop of the blocking clients, where an observer is called, a blocking call is
    a `RuntimeError`.
    """
    told: list[str] = []

    class Asking:
        def request_started(self, _: object) -> None:
            with pytest.raises(RuntimeError, match=r"use penstock\.AsyncClient there"):
                client.complete(REQUEST)
            told.append("refused")

    network = MemoryNetwork(HELLO)
    with Client("http://127.0.0.1:9/v1", network=network, observer=Asking()) as client:
        client.complete(REQUEST)
    assert told == ["refused"]


def test_blocking_in_a_worker_thread() -> None:
    """In a worker thread of an event loop the blocking client works."""
    with serve_in_thread(HELLO) as server, Client(server.base_url) as client:

        async def ask() -> str | None:
            return text_of(await asyncio.to_thread(client.complete, REQUEST))

        assert asyncio.run(ask()) == "Hello"


# --- between threads ---


def in_threads(function: Callable[[], Any], count: int = 8) -> list[Any]:
    with ThreadPoolExecutor(count) as pool:
        return [done.result() for done in [pool.submit(function) for _ in range(count)]]


def test_threads_share_a_client() -> None:
    """Any number of threads may use a `Client`."""
    with serve_in_thread(HELLO) as server, Client(server.base_url) as client:
        assert in_threads(lambda: text_of(client.complete(REQUEST))) == ["Hello"] * 8


def read_by_threads(stream: penstock.blocking.Stream, count: int, done: int) -> list[Any]:
    """Let threads read the stream until so many have ended, then close it; what they end with."""
    ended: list[Any] = []

    def read() -> None:
        try:
            ended.append(stream.collect())
        except penstock.PenstockError as error:
            ended.append(type(error))

    assert next(stream.text) == "Hel"
    threads = [threading.Thread(target=read) for _ in range(count)]
    for thread in threads:
        thread.start()
    assert becomes_true(lambda: len(ended) == done)
    stream.close()
    for thread in threads:
        thread.join()
    return ended


def test_one_thread_reads() -> None:
    """One thread reads a blocking stream at a time: a second one gets `StreamBusyError`."""
    with (
        serve_in_thread(STALLED) as server,
        Client(server.base_url) as client,
        client.chat.completions.stream(**REQUEST) as stream,
    ):
        ended = read_by_threads(stream, 2, 1)
    assert ended == [penstock.StreamBusyError, penstock.StreamClosedError]


def test_any_thread_closes() -> None:
    """Any thread may close a blocking stream: the thread that reads it gets `StreamClosedError`."""
    with (
        serve_in_thread(STALLED) as server,
        Client(server.base_url) as client,
        client.chat.completions.stream(**REQUEST) as stream,
    ):
        ended = read_by_threads(stream, 1, 0)
    assert ended == [penstock.StreamClosedError]


def test_threads_share_a_limiter() -> None:
    """Threads that use blocking clients may share a limiter."""
    limiter = Limiter(2)
    with serve_in_thread(HELLO) as server:

        def ask() -> str | None:
            with Client(server.base_url, limiter=limiter) as client:
                return text_of(client.complete(REQUEST))

        assert in_threads(ask) == ["Hello"] * 8
    assert limiter.statistics().in_flight == 0


async def values() -> list[Any]:
    """A completion, a chunk, and an error with a part of an answer."""
    async with client_on([HELLO, HELLO, sse_reply(tokens("x", finish=None), done=False)]) as client:
        whole = await client.complete(REQUEST)
        async with client.chat.completions.stream(**REQUEST) as stream:
            chunk = await anext(stream)
        with pytest.raises(penstock.IncompleteStreamError) as caught:
            await client.complete(REQUEST)
        return [whole, chunk, caught.value]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_collected_in_any_thread(backend: str) -> None:
    """A stream may be garbage-collected in any thread: its slot is released and its connection
    closed.
    """
    limiter = Limiter(1)

    async def main() -> None:
        async with penstock.AsyncClient(server.base_url, limiter=limiter) as client:
            streams = [client.chat.completions.stream(**REQUEST)]
            await streams[0].__aenter__()

            def collect() -> None:
                streams.clear()
                gc.collect()

            with pytest.warns(ResourceWarning, match="unclosed"):
                await anyio.to_thread.run_sync(collect)
            with anyio.fail_after(20):
                async with limiter:
                    pass
                while server.open_connections:  # noqa: ASYNC110
                    await anyio.sleep(0.01)

    with serve_in_thread(STALLED) as server:
        anyio.run(main, backend=backend)


def test_values_in_any_thread() -> None:
    """Completions, chunks and errors may be used in any thread."""
    made = anyio.run(values)
    shown = [repr(each) for each in made]
    assert in_threads(lambda: [repr(each) for each in made]) == [shown] * 8


# --- between processes ---


def test_values_are_pickled() -> None:
    """Completions, chunks and errors can be pickled."""
    made = anyio.run(values)
    again = [pickle.loads(pickle.dumps(each)) for each in made]
    assert [repr(each) for each in again] == [repr(each) for each in made]
    assert text_of(again[2].partial) == "x"


def test_settings_are_pickled() -> None:
    """A client cannot be pickled or copied; a `ClientConfig` can, and opens a client in another
    process.
    """
    client = client_on(HELLO)
    for attempt in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match="ClientConfig"):
            attempt(client)
    with serve_in_thread(HELLO) as server:
        config = penstock.ClientConfig(server.base_url)
        code, output, errors = run_program(OPEN, pickle.dumps(config).hex())
    assert (code, output.strip()) == (0, "Hello"), errors


def test_completions_of_an_engine_are_pickled() -> None:
    """`penstock.engines.Completions` can be pickled; its copies in one process are one object, and
    share its limits.
    """
    ask = penstock.engines.Completions("m", base_url="http://api.test/v1")
    copies = [pickle.loads(pickle.dumps(ask)) for _ in range(2)]
    assert all(each is ask for each in copies)


def test_a_client_is_closed_from_anywhere() -> None:
    """`AsyncClient.close()` closes a client in any thread, also when its event loop has ended."""
    with serve_in_thread(HELLO) as server:
        client = penstock.AsyncClient(server.base_url, api_key="k")
        anyio.run(client.complete, REQUEST, backend="trio")
        thread = threading.Thread(target=client.close)
        thread.start()
        thread.join()
        assert becomes_true(lambda: server.open_connections == 0)


OPEN = """
import pickle, sys

config = pickle.loads(bytes.fromhex(sys.argv[1]))
request = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}
with config.open_blocking() as client:
    print(client.complete(request).choices[0].message.content)
"""


FORK = """
import os, sys
from penstock import Client

url = sys.argv[1]
request = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}
with Client(url, api_key="k") as client:
    client.complete(request)
    child = os.fork()
    if child == 0:
        try:
            client.complete(request)
        except RuntimeError:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert client.complete(request).choices[0].message.content == "Hello"
"""


UNUSED = """
import os, sys
from penstock import Client

with Client(sys.argv[1], api_key="k") as client:
    child = os.fork()
    request = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}
    assert client.complete(request).text == "Hello"
    client.close()
    if child == 0:
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""


def test_an_unused_client_after_a_fork() -> None:
    """A blocking client that was made but not used before a fork works in the child."""
    with serve_in_thread(HELLO) as server:
        code, _, errors = run_program(UNUSED, server.base_url)
    assert code == 0, errors


def test_a_used_client_after_a_fork() -> None:
    """After a fork, the blocking clients that the parent has used are a `RuntimeError` in the
    child.
    """
    with serve_in_thread(HELLO) as server:
        code, _, errors = run_program(FORK, server.base_url)
    assert code == 0, errors


FORK_IN_A_STREAM = """
import gc, os, sys

import anyio
import penstock

url, backend = sys.argv[1:]
request = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}


async def main():
    async with penstock.AsyncClient(url, api_key="k") as client:
        stream = client.chat.completions.stream(**request)
        await stream.__aenter__()
        child = os.fork()
        if child == 0:
            del stream
            gc.collect()
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        completion = await stream.collect()
        await stream.aclose()
        print(completion.choices[0].message.content)


anyio.run(main, backend=backend)
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_child_drops_its_stream(backend: str) -> None:
    """After a fork, the child may drop its copy of a stream: the connection of the parent stays
    open.
    """
    with serve_in_thread(text_reply("Hel", "lo", every=0.05)) as server:
        code, output, errors = run_program(FORK_IN_A_STREAM, server.base_url, backend)
    assert (code, output.strip()) == (0, "Hello"), errors
