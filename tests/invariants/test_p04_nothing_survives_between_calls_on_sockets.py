"""Promise 4 on real sockets, TCP and TLS: a stream goes from task to task, and ends from any."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from penstock import Limiter, StreamBusyError, StreamClosedError
from penstock.testing.replies import sse_reply
from penstock.testing.script import Pause, Reply, Send, Stall, reply
from penstock.testing.server import serve
from tests.support.chat import REQUEST, client_of

from .alive import generators, in_a_task, innermost_scope, tasks
from .recorded import PLAIN, Text, read, text_of

pytestmark = pytest.mark.anyio

tcp_and_tls = pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])

DRIP = Reply(
    tuple(
        part
        for step in sse_reply(PLAIN, one_segment_each=True).steps
        for part in (step, Pause(0.002))
    )
)


@tcp_and_tls
async def test_every_call_in_a_task_of_its_own(tls: bool) -> None:
    async with serve(DRIP, tls=tls) as server, client_of(server) as client:
        for _ in range(3):
            stream = client.chat.completions.stream(**REQUEST)
            text = Text()

            async def read_one(stream: Any = stream, text: Text = text) -> None:
                text.add((await anext(stream)).to_dict())

            async def leave(stream: Any = stream) -> None:
                await stream.__aexit__(None, None, None)

            scope = innermost_scope()
            await in_a_task(stream.__aenter__)
            # The server's are tasks of this loop as well: those with this connection stay.
            alive = tasks()
            with generators() as begun:
                while stream.state != "completed":
                    try:
                        await in_a_task(read_one)
                    except StopAsyncIteration:
                        break
                    assert tasks() <= alive
                    assert innermost_scope() == scope
            assert begun == []
            await in_a_task(leave)
            assert text.choices == text_of(stream.partial).choices == {0: "Héllo"}
        # Whoever used it last, the connection is as good as new.
        assert len(server.connections) == 1


STAGES: dict[str, Reply] = {
    "no head": reply(Stall()),
    "half a head": reply(b"HTTP/1.1 200 OK\r\nA", Stall()),
    "no byte of the body": sse_reply([Stall()]),
    "body": sse_reply([*PLAIN[:2], Stall()]),
    "half an event": Reply((Send(sse_reply(PLAIN).data[:-90]), Stall())),
    "a flood": sse_reply([*PLAIN[:2], *([PLAIN[1]] * 20_000), Stall()]),
}


@tcp_and_tls
@pytest.mark.parametrize("closer", ["stream", "client"])
@pytest.mark.parametrize("stage", STAGES)
async def test_closed_by_another_task(stage: str, closer: str, tls: bool) -> None:
    raised: list[Exception] = []
    limiter = Limiter(1)
    async with serve(STAGES[stage], tls=tls) as server:
        client = client_of(server, limiter=limiter)
        stream = client.chat.completions.stream(**REQUEST)

        async def use() -> None:
            try:
                async with stream:
                    async for _ in stream:
                        await anyio.lowlevel.checkpoint()
            except Exception as error:  # noqa: BLE001 -- looked at below
                raised.append(error)

        async with client:
            with anyio.fail_after(10):
                async with anyio.create_task_group() as group:
                    group.start_soon(use)
                    await server.wait_until(lambda: len(server.requests) == 1)
                    await anyio.sleep(0.005)
                    await (stream.aclose() if closer == "stream" else client.aclose())
            assert [type(error) for error in raised] == [StreamClosedError], raised
            assert limiter.statistics().in_flight == 0
            assert client._endpoint.service.live == set()
            # Shut before the client is: the server is told at once.
            await server.wait_closed(1)
        with pytest.raises(StreamClosedError):
            await anext(stream)


READERS: list[Callable[[Any], Awaitable[object]]] = [
    anext,
    lambda stream: stream.__aenter__(),
    lambda stream: stream.collect(),
    lambda stream: anext(stream.text),
    lambda stream: anext(stream.tool_calls),
]


@tcp_and_tls
async def test_two_readers(tls: bool) -> None:
    silent = sse_reply([*PLAIN[:2], Stall()])
    async with serve(silent, tls=tls) as server, client_of(server) as client:
        text = Text()

        async def use() -> None:
            with pytest.raises(StreamClosedError):
                await read(stream, text)

        stream = client.chat.completions.stream(**REQUEST)
        async with stream, anyio.create_task_group() as group:
            group.start_soon(use)
            while not text.choices.get(0):  # noqa: ASYNC110 - of the other reader
                await anyio.sleep(0.001)
            for again in READERS:
                with pytest.raises(StreamBusyError):
                    await again(stream)
            # They have disturbed nothing: the first reader is still there.
            assert stream.state == "flowing"
            await stream.aclose()
        assert text.choices == text_of(stream.partial).choices == {0: "Hé"}
