"""`client.with_options`: other settings on the same connections."""

from __future__ import annotations

import gc
import os
import warnings
from typing import Any

import anyio
import pytest

import penstock
from penstock import (
    AsyncClient,
    Limiter,
    RateLimitError,
    ReadTimeout,
    StreamClosedError,
    Timeouts,
)
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import error_reply, sse_reply, tokens
from penstock.testing.script import Pause, Stall, reply
from penstock.testing.server import serve_in_thread
from tests.support.chat import KEY, REQUEST, Watcher, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

HELLO = sse_reply(tokens("Hel", "lo"))
SLOW = sse_reply([*tokens("Hel", "lo")[:1], Pause(5), *tokens("Hel", "lo")[1:]])


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_BASE_URL")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


async def test_it_shares_the_connections() -> None:
    network = MemoryNetwork(HELLO)
    async with client_on(network) as client:
        await client.complete(REQUEST)
        other = client.with_options(max_retries=5)
        assert type(other) is AsyncClient
        await other.complete(REQUEST)
        await client.with_options().complete(REQUEST)
        assert len(network.connects) == 1
        assert repr(other) == repr(client)
        assert other.provider is client.provider


async def test_timeouts_and_retries_of_its_own() -> None:
    async with client_on(MemoryNetwork(reply(Stall()))) as client:
        began = anyio.current_time()
        with pytest.raises(ReadTimeout):
            await client.with_options(timeouts=Timeouts(read=3)).complete(REQUEST)
        assert anyio.current_time() - began == pytest.approx(3)
    network = MemoryNetwork(error_reply(429, "busy"))
    async with client_on(network, max_retries=1) as client:
        for other, attempts in ((client.with_options(max_retries=0), 1), (client, 2)):
            before = len(network.requests)
            with pytest.raises(RateLimitError):
                await other.complete(REQUEST)
            assert len(network.requests) - before == attempts


async def test_how_long_it_waits_for_a_retry() -> None:
    network = MemoryNetwork(error_reply(429, "busy", headers={"retry-after": "30"}))
    async with client_on(network) as client:
        began = anyio.current_time()
        with pytest.raises(RateLimitError):
            await client.with_options(max_retry_wait=5).complete(REQUEST)
        assert anyio.current_time() == began


async def test_headers_query_and_key_are_added_or_replaced() -> None:
    network = MemoryNetwork(HELLO)
    options: dict[str, Any] = {"headers": {"X-A": "1", "X-B": "1"}, "default_query": {"v": "1"}}
    async with client_on(network, **options) as client:
        other = client.with_options(
            headers={"x-b": "2", "X-C": "2"}, default_query={"v": "2", "w": "2"}, api_key="key-of-2"
        )
        await other.complete(REQUEST)
        await other.with_options(headers={"X-D": "3"}).complete(REQUEST)
        await client.complete(REQUEST)
    sent = [
        {name: request.headers.get(name) for name in ("x-a", "x-b", "x-c", "x-d", "authorization")}
        for request in network.requests
    ]
    derived = {"x-a": "1", "x-b": "2", "x-c": "2", "authorization": "Bearer key-of-2"}
    assert sent[0] == {**derived, "x-d": None}
    assert sent[1] == {**derived, "x-d": "3"}
    own = {"x-a": "1", "x-b": "1", "x-c": None, "x-d": None, "authorization": f"Bearer {KEY}"}
    assert sent[2] == own
    targets = [request.target.partition("?")[2] for request in network.requests]
    assert targets == ["v=2&w=2", "v=2&w=2", "v=1"]


async def test_it_shares_limiter_and_observer_unless_it_has_its_own() -> None:
    limiter, own = Limiter(1), Limiter(1)
    watcher, other_watcher = Watcher(), Watcher()
    async with client_on(HELLO, limiter=limiter, observer=watcher) as client:
        await client.with_options(max_retries=0).complete(REQUEST)
        assert limiter.statistics().granted == 1
        assert watcher.outcomes() == ["completed"]
        await client.with_options(limiter=own, observer=other_watcher).complete(REQUEST)
        assert (limiter.statistics().granted, own.statistics().granted) == (1, 1)
        assert watcher.outcomes() == other_watcher.outcomes() == ["completed"]


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"timeouts": 5}, TypeError, "Timeouts"),
        ({"max_retries": -1}, ValueError, "max_retries"),
        ({"max_retry_wait": -1}, ValueError, "max_retry_wait"),
        ({"headers": {"a": "b\r\nc: d"}}, ValueError, "header"),
        ({"default_query": 5}, TypeError, "default_query"),
        ({"api_key": "secret\n"}, ValueError, "API key"),
        ({"limiter": 8}, TypeError, "limiter"),
        ({"observer": object()}, TypeError, "observer"),
    ],
)
async def test_bad_settings_are_refused_at_once(
    options: dict[str, Any], kind: type[Exception], words: str
) -> None:
    async with client_on(HELLO) as client:
        with pytest.raises(kind, match=words) as caught:
            client.with_options(**options)
    assert type(caught.value) is kind
    frame = caught.value.__traceback__
    while frame is not None:
        if frame.tb_frame.f_globals["__name__"].startswith("penstock"):
            assert "secret" not in repr(frame.tb_frame.f_locals)
        frame = frame.tb_next


async def test_closing_it_leaves_the_client_open() -> None:
    network = MemoryNetwork(SLOW)
    async with client_on(network) as client:
        async with client.with_options(max_retries=0) as other:
            mine = client.chat.completions.stream(**REQUEST)
            await mine.__aenter__()
            theirs = other.chat.completions.stream(**REQUEST)
            await theirs.__aenter__()
            assert other.statistics().open_calls == 1
            assert client.statistics().open_calls == 2
        with pytest.raises(StreamClosedError):
            await theirs.collect()
        with pytest.raises(StreamClosedError, match="client is closed"):
            await other.complete(REQUEST)
        assert (await mine.collect()).choices[0].message.content == "Hello"
        await mine.aclose()
        figures = client.statistics()
        assert (figures.open_calls, figures.idle_connections, figures.failed) == (0, 1, 0)
        await client.complete(REQUEST)


async def test_closing_the_client_closes_it() -> None:
    network = MemoryNetwork(SLOW)
    client = client_on(network)
    other = client.with_options(max_retries=0).with_options(max_retries=3)
    stream = other.chat.completions.stream(**REQUEST)
    await stream.__aenter__()
    await client.aclose()
    with pytest.raises(StreamClosedError):
        await stream.collect()
    with pytest.raises(StreamClosedError):
        await client.with_options().complete(REQUEST)
    assert network.open_connections == 0


async def test_closing_at_once() -> None:
    network = MemoryNetwork(SLOW)
    client = client_on(network)
    await client.warm()
    other = client.with_options(max_retries=0)
    other.close()
    with pytest.raises(StreamClosedError):
        await other.complete(REQUEST)
    assert client.statistics().idle_connections == 1
    another = client.with_options()
    stream = another.chat.completions.stream(**REQUEST)
    await stream.__aenter__()
    client.close()
    with pytest.raises(StreamClosedError):
        await stream.collect()
    figures = client.statistics()
    assert (figures.open_calls, figures.idle_connections) == (0, 0)


async def test_it_keeps_its_client_alive_and_ends_without_a_warning() -> None:
    network = MemoryNetwork(HELLO)
    client = client_on(network)
    other = client.with_options(max_retries=0)
    await client.complete(REQUEST)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client.with_options()
        del client
        gc.collect()
        await other.complete(REQUEST)
        assert len(network.connects) == 1
        assert other._parent is not None
        await other._parent.aclose()
        del other
        gc.collect()


async def test_fan_outs_take_it() -> None:
    network = MemoryNetwork(HELLO)
    async with client_on(network) as client:
        other = client.with_options(timeouts=Timeouts(total=60))
        async with penstock.fan_out_chunks(other, [REQUEST] * 5) as events:
            assert sum([isinstance(event, penstock.ResultEvent) async for event in events]) == 5


def test_the_blocking_client() -> None:
    with serve_in_thread(HELLO) as server:
        with penstock.Client(server.base_url, proxy="") as client:
            client.complete(REQUEST)
            with client.with_options(headers={"X-A": "1"}, api_key=lambda: "a-key") as other:
                assert type(other) is penstock.Client
                other.complete(REQUEST)
            client.complete(REQUEST)
            last = client.with_options(max_retries=1)
            last.complete(REQUEST)
        with pytest.raises(StreamClosedError):
            last.complete(REQUEST)
        assert len(server.connections) == 1
        headers = [request.headers for request in server.requests]
        assert [each.get("x-a") for each in headers] == [None, "1", None, None]
        assert headers[1]["authorization"] == "Bearer a-key"
