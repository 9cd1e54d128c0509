"""Promise 3 on real sockets, TCP and TLS: timeouts too short for most reads, and native cancels."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import anyio.lowlevel
import pytest
import sniffio

from penstock import ChunkEvent, fan_out_chunks
from penstock.testing.cuts import split_at
from penstock.testing.replies import sse_reply
from penstock.testing.script import Pause, Reply
from penstock.testing.server import serve
from tests.support.chat import REQUEST, client_of

from .evidence import count
from .recorded import PLAIN, RECORDINGS, delta, text_of

pytestmark = pytest.mark.anyio

T = TypeVar("T")

WORDS = [f"w{n} " for n in range(12)]
WHOLE = "".join(WORDS)


def source(cut: str) -> Reply:
    """Words in segments cut anywhere or behind each, with hardly any time in between."""
    events = [delta(word) for word in WORDS]
    whole = sse_reply([*events, PLAIN[-1]])
    ends = [match.end() for match in re.finditer(rb"\n\n\r\n", whole.data)]
    cuts = range(90, len(whole.data), 23) if cut == "anywhere" else ends
    pieces = split_at(whole, cuts).steps
    return Reply((pieces[0], *(part for step in pieces[1:] for part in (Pause(0.001), step))))


async def insisting(read: Callable[[], Awaitable[T]], timeouts: list[float]) -> T:
    for timeout in itertools.cycle(timeouts):
        with anyio.move_on_after(timeout):
            return await read()
        count("cancel points")
    raise AssertionError


@pytest.mark.parametrize("cut", ["anywhere", "behind events"])
@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("timeouts", [[0.0, 0.001], [0.0005], [0.0, 0.0, 0.002]], ids=str)
async def test_tiny_timeouts(timeouts: list[float], tls: bool, cut: str) -> None:
    async with serve(source(cut), tls=tls) as server, client_of(server) as client:
        pieces: list[str] = []
        async with client.chat.completions.stream(**REQUEST) as stream:
            texts = stream.text
            while True:
                try:
                    pieces.append(await insisting(texts.__anext__, timeouts))
                except StopAsyncIteration:
                    break
            assert "".join(pieces) == WHOLE
            assert text_of(stream.partial).choices == {0: WHOLE}
        assert len(server.requests) == 1
        # The connection is as good as before.
        assert text_of(await client.complete(REQUEST)).choices == {0: WHOLE}
        assert len(server.connections) == 1


@pytest.mark.parametrize("cut", ["anywhere", "behind events"])
@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
async def test_tiny_timeouts_for_a_merged_feed(tls: bool, cut: str) -> None:
    texts = [""] * 4
    async with serve(source(cut), tls=tls) as server, client_of(server) as client:
        async with fan_out_chunks(client, [REQUEST] * 4, limit=3, buffer=1) as events:
            while True:
                try:
                    event = await insisting(events.__anext__, [0.0, 0.0007, 0.0, 0.002])
                except StopAsyncIteration:
                    break
                if isinstance(event, ChunkEvent):
                    for choice in event.chunk.choices:
                        texts[event.index] += choice.delta.content or ""
        assert texts == [WHOLE] * 4
        assert len(server.requests) == 4


@pytest.mark.parametrize("cut", ["anywhere", "behind events"])
@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
async def test_native_cancels_and_readers_that_take_turns(tls: bool, cut: str) -> None:
    natively = sniffio.current_async_library() == "asyncio"
    rng = random.Random(7)
    async with serve(source(cut), tls=tls) as server, client_of(server) as client:
        for _ in range(4):
            pieces: list[str] = []
            async with client.chat.completions.stream(**REQUEST) as stream:

                async def read(stream=stream, pieces=pieces) -> None:  # type: ignore[no-untyped-def]
                    async for piece in stream.text:
                        pieces.append(piece)

                while stream.state != "completed":
                    if not natively:
                        with anyio.move_on_after(rng.uniform(0, 0.004)):
                            await read()
                        continue
                    task = asyncio.ensure_future(read())
                    asyncio.get_running_loop().call_later(rng.uniform(0, 0.004), task.cancel)
                    await asyncio.wait([task])
                    if not task.cancelled():
                        task.result()
            assert "".join(pieces) == WHOLE
        assert len(server.requests) == 4


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
async def test_cancelled_with_the_bytes_already_there(tls: bool) -> None:
    # The moment at which most libraries lose: the read is done, its task has not run yet.
    data = RECORDINGS["chunked-done"]
    source = split_at(data, range(100, len(data), 20))
    async with serve(source, tls=tls) as server, client_of(server) as client:
        pieces: list[str] = []
        async with client.chat.completions.stream(**REQUEST) as stream:
            texts = stream.text
            while True:
                await anyio.lowlevel.checkpoint()
                try:
                    with anyio.CancelScope() as scope:
                        scope.cancel()
                        pieces.append(await texts.__anext__())
                    pieces.append(await insisting(texts.__anext__, [0.0, 0.0, 0.001]))
                except StopAsyncIteration:
                    break
        assert "".join(pieces) == "Héllo"
