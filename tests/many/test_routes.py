"""Every way to read a stream gives the same through every kind of proxy, on every event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import pytest

from penstock import (
    AsyncClient,
    ChatCompletionChunk,
    ChunkEvent,
    Timeouts,
    fan_out_channels,
    fan_out_chunks,
    race,
)
from penstock.testing.certificates import client_ssl_context
from penstock.testing.replies import sse_event, tokens
from penstock.testing.script import Pause, Reply, Send
from penstock.testing.server import serve
from tests.support.chat import KEY, REQUEST
from tests.support.socks import serve_socks
from tests.support.tunnels import serve_tunnels
from tests.wire.test_single import HEAD, framed

pytestmark = pytest.mark.anyio

TEXT = "One token, two, a part of one."
EVENTS = [sse_event(event) for event in tokens(*TEXT)]
# The network decides in how many reads they come; a pause makes it likely that these are they.
READS = [
    *map(framed, EVENTS[:6]),
    framed(EVENTS[6]) + framed(EVENTS[7]),
    framed(EVENTS[8])[:20],
    framed(EVENTS[8])[20:],
    *map(framed, EVENTS[9:]),
]
END = framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"
REPLY = Reply(
    (Send(HEAD), *(step for read in READS for step in (Pause(0.002), Send(read))), Send(END))
)

ROUTES = (
    "http",
    "https",
    "http forwarded",
    "http forwarded over TLS",
    "https by a tunnel",
    "https by a tunnel over TLS",
    "http by SOCKS",
    "https by SOCKS",
)


@asynccontextmanager
async def client_by(route: str) -> AsyncIterator[AsyncClient]:
    """A client of a server that sends REPLY, and whose address the proxy alone may know."""
    tls = route.startswith("https") or route.endswith("forwarded over TLS")
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(serve([REPLY] * 4, tls=tls))
        base_url, proxy = server.base_url, ""
        if "forwarded" in route:
            base_url, proxy = "http://api.test/v1", base_url.removesuffix("/v1")
        elif "tunnel" in route:
            over_tls = route.endswith("over TLS")
            proxy = await stack.enter_async_context(serve_tunnels(tls=over_tls))
        elif "SOCKS" in route:
            socks = await stack.enter_async_context(serve_socks())
            proxy = f"socks5://127.0.0.1:{socks.port}"
        client = AsyncClient(
            base_url,
            api_key=KEY,
            proxy=proxy,
            ssl_context=client_ssl_context(),
            timeouts=Timeouts(idle=5, read=5),
        )
        async with client:
            yield client


async def by_stream(client: AsyncClient) -> list[ChatCompletionChunk]:
    async with client.chat.completions.stream(**REQUEST) as stream:
        return [chunk async for chunk in stream]


async def by_race(client: AsyncClient) -> list[ChatCompletionChunk]:
    async with race(client, [REQUEST]) as stream:
        return [chunk async for chunk in stream]


async def by_chunks(client: AsyncClient) -> list[ChatCompletionChunk]:
    async with fan_out_chunks(client, [REQUEST], limit=1) as events:
        return [event.chunk async for event in events if isinstance(event, ChunkEvent)]


async def by_channels(client: AsyncClient) -> list[ChatCompletionChunk]:
    async with fan_out_channels(client, [REQUEST], limit=1, buffer=2) as channels:
        channel = await anext(channels)
        return [chunk async for chunk in channel.receive]


WAYS: list[Callable[[AsyncClient], Awaitable[list[ChatCompletionChunk]]]] = [
    by_stream,
    by_race,
    by_chunks,
    by_channels,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("route", ROUTES)
async def test_a_route_gives_every_token(
    route: str, way: Callable[[AsyncClient], Awaitable[list[ChatCompletionChunk]]]
) -> None:
    async with client_by(route) as client:
        for _ in range(2):  # the second time on a connection that served before
            with anyio.fail_after(20):
                chunks = await way(client)
            assert len(chunks) == len(EVENTS)
            texts = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
            assert "".join(texts) == TEXT
