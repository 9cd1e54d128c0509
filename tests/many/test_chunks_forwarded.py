"""Tokens that a merged feed is given where they arrive, with no task of a stream woken."""

from __future__ import annotations

import select
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import (
    ChatCompletionChunk,
    ChunkEvent,
    IdleTimeout,
    PenstockError,
    ReadTimeout,
    ResultEvent,
    Timeouts,
    TotalTimeout,
    fan_out_channels,
    fan_out_chunks,
)
from penstock._call.reader import Reader
from penstock._many.channels import ChunkReceiveStream
from penstock._many.chunks import ChunkFeed
from penstock.testing.clock import virtual
from penstock.testing.memory import MemoryNetwork
from penstock.testing.script import Pause, Reply, Reset, Send, Stall
from penstock.testing.server import serve
from tests.support.chat import REQUEST, client_of, client_on
from tests.support.tapped import reading
from tests.wire.test_single import FINISH, HEAD, ROLE, TOKEN, framed, reads

DONE = framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"
USUAL = [framed(ROLE), framed(TOKEN) * 2, *[framed(TOKEN)] * 20]


def spaced(split: list[bytes], *ends: Any, every: float = 1) -> Reply:
    steps: list[Any] = [Send(HEAD)]
    for read in split:
        steps += [Pause(every), Send(read)]
    return Reply((*steps, Pause(every), *ends))


class Taken:
    """Counts the tokens that streams put where they arrived."""

    def __init__(self) -> None:
        self.tokens = 0

    @contextmanager
    def counting(self) -> Iterator[None]:
        put = ChunkFeed._put

        def counted(feed: ChunkFeed, event: ChunkEvent) -> None:
            put(feed, event)
            self.tokens += 1

        with mock.patch.object(ChunkFeed, "_put", counted):
            yield


def merged(
    scripts: list[Reply],
    backend: str,
    buffer: int,
    pauses: list[int],
    *,
    tapped: bool,
    timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
) -> tuple[dict[int, list[Any]], int]:
    """Return what each request gave, and how many tokens were put where they arrived."""
    seen: dict[int, list[Any]] = defaultdict(list)
    taken = Taken()

    async def main() -> None:
        network = MemoryNetwork(lambda request: scripts[int(request.json["user"])])
        requests = [{**REQUEST, "user": str(number)} for number in range(len(scripts))]
        waits = iter(pauses)
        async with client_on(network, timeouts=timeouts) as client:
            limit = len(scripts)
            async with fan_out_chunks(client, requests, limit=limit, buffer=buffer) as events:
                async for event in events:
                    if isinstance(event, ChunkEvent):
                        seen[event.index].append(event.chunk)
                        await anyio.sleep(next(waits, 0))
                        continue
                    error = event.error
                    seen[event.index].append(event.completion)
                    seen[event.index].append((type(error), str(error)))
                    assert event.statistics is not None
                    seen[event.index].append((event.statistics.events, event.statistics.bytes))
        assert network.open_connections == 0

    name, options = virtual(backend)
    with reading(tapped=tapped), taken.counting():
        anyio.run(main, backend=name, backend_options=options)
    return dict(seen), taken.tokens


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(
    st.lists(reads(), min_size=1, max_size=3),
    st.sampled_from([(), (Reset(),), (Stall(),), (Send(DONE),)]),
    st.integers(1, 4),
    st.lists(st.integers(0, 3)),
)
def test_each_request_gives_the_same_either_way(
    backend: str, bodies: list[list[bytes]], end: tuple[Any, ...], buffer: int, pauses: list[int]
) -> None:
    scripts = [spaced([*USUAL[:4], *body], *end) for body in bodies]
    now, _ = merged(scripts, backend, buffer, pauses, tapped=True)
    general, none = merged(scripts, backend, buffer, pauses, tapped=False)
    assert none == 0
    assert now == general


def received(
    body: list[bytes], backend: str, buffer: int, pauses: list[int], *, tapped: bool
) -> tuple[list[Any], int]:
    """Return what a channel gave, and how many tokens were put where they arrived."""
    seen: list[Any] = []
    full: list[int] = []
    put = ChunkReceiveStream.put

    def counted(receive: ChunkReceiveStream, chunk: ChatCompletionChunk) -> None:
        put(receive, chunk)
        full.append(len(receive._chunks))

    async def main() -> None:
        network = MemoryNetwork(spaced([*USUAL[:6], *body], Reset()))
        waits = iter(pauses)
        async with (
            client_on(network) as client,
            fan_out_channels(client, [REQUEST], limit=1, buffer=buffer) as channels,
        ):
            channel = await anext(channels)
            try:
                async for chunk in channel.receive:
                    seen.append(chunk)
                    await anyio.sleep(next(waits, 0))
            except PenstockError as error:
                seen.append((type(error), str(error)))
            seen.append(channel.partial)

    name, options = virtual(backend)
    with reading(tapped=tapped), mock.patch.object(ChunkReceiveStream, "put", counted):
        anyio.run(main, backend=name, backend_options=options)
    assert max(full, default=0) <= buffer
    return seen, len(full)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(reads(), st.integers(1, 4), st.lists(st.integers(0, 3)))
def test_a_channel_gives_the_same_either_way(
    backend: str, body: list[bytes], buffer: int, pauses: list[int]
) -> None:
    now, _ = received(body, backend, buffer, pauses, tapped=True)
    general, none = received(body, backend, buffer, pauses, tapped=False)
    assert none == 0
    assert now == general


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_channel_is_given_tokens_where_they_arrive(backend: str) -> None:
    _, taken = received(USUAL[2:], backend, 2, [], tapped=True)
    assert taken > 10


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("patience", [0.1, 0.5, 1.0])
def test_cancelled_reads_lose_nothing(backend: str, patience: float) -> None:
    taken = Taken()
    seen: list[Any] = []

    async def main() -> None:
        network = MemoryNetwork(spaced([*USUAL, framed(FINISH)], Send(DONE)))
        async with (
            client_on(network) as client,
            fan_out_chunks(client, [REQUEST], limit=1) as events,
        ):
            while not (seen and isinstance(seen[-1], ResultEvent)):
                with anyio.move_on_after(patience):
                    seen.append(await anext(events))
        assert network.open_connections == 0

    name, options = virtual(backend)
    with reading(tapped=True), taken.counting():
        anyio.run(main, backend=name, backend_options=options)
    assert taken.tokens > 10
    *chunks_seen, result = seen
    texts = [event.chunk.choices[0].delta.content or "" for event in chunks_seen]
    assert len(texts) == len(USUAL) + 2
    assert "".join(texts) == result.completion.choices[0].message.content


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_slow_consumer_has_no_more_posts_than_its_buffer(backend: str) -> None:
    scripts = [spaced([*USUAL, framed(FINISH)], Send(DONE))] * 3
    posted: list[int] = []
    take = ChunkFeed._take

    def counted(feed: ChunkFeed) -> Any:
        posted.append(len(feed._posts))
        return take(feed)

    with mock.patch.object(ChunkFeed, "_take", counted):
        seen, taken = merged(scripts, backend, 2, [0] * 20 + [5, 0, 0, 0, 0] * 8, tapped=True)
    assert taken > 10
    # Each stream exceeds the bound by one read at most, and the result behind it.
    assert max(posted) <= 2 + len(scripts)
    assert all(len(events) == len(USUAL) + 5 for events in seen.values())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(
    ("timeouts", "kind", "events"),
    [
        (Timeouts(idle=3), IdleTimeout, len(USUAL) + 2),
        (Timeouts(read=3), ReadTimeout, len(USUAL) + 2),
        (Timeouts(total=10.5), TotalTimeout, 10),
    ],
)
def test_deadlines_count_from_the_last_token(
    backend: str, timeouts: Timeouts, kind: type[PenstockError], events: int
) -> None:
    scripts = [spaced(USUAL, Stall())]
    seen, taken = merged(scripts, backend, 9, [], tapped=True, timeouts=timeouts)
    assert taken > 5
    *received, partial, error, _ = seen[0]
    assert partial is None
    assert error[0] is kind
    assert abs(len(received) - events) <= 1


@pytest.mark.anyio
@pytest.mark.parametrize("tls", [False, True])
async def test_no_task_is_woken_for_a_token(anyio_backend_name: str, tls: bool) -> None:
    if anyio_backend_name == "trio" and not hasattr(select, "epoll"):
        return  # it wakes a task for each socket
    taken, woken = Taken(), Counter[str]()
    fill = Reader.fill

    async def counted(reader: Reader) -> bool:
        woken["times"] += 1
        return await fill(reader)

    script = spaced([*USUAL, framed(FINISH)], Send(DONE), every=0.01)
    with taken.counting(), mock.patch.object(Reader, "fill", counted):
        async with serve(script, tls=tls) as server, client_of(server) as client:
            for _ in range(2):  # the second time on the same connection
                async with fan_out_chunks(client, [REQUEST], limit=1) as events:
                    chunks = [
                        event.chunk async for event in events if isinstance(event, ChunkEvent)
                    ]
                assert len(chunks) == len(USUAL) + 2
            assert len(server.connections) == 1
    assert taken.tokens > 0
    assert woken["times"] <= 2 * (len(USUAL) + 5) - taken.tokens
