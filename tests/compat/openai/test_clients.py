"""The four clients: their keywords, Azure, copies, event loops and threads."""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import openai
import pytest
import trio

import penstock
from penstock.compat import openai as compat
from penstock.compat.openai import AsyncAzureOpenAI, AsyncOpenAI, AzureOpenAI, OpenAI
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import completion, error_reply, json_reply, sse_reply, tokens
from penstock.testing.script import Stall
from penstock.testing.server import becomes_true, serve_in_thread
from tests.support.chat import KEY, URL, Watcher
from tests.support.openai_clients import (
    REQUEST,
    STREAMED,
    async_client,
    blocking_client,
    drain,
    text_of,
)

__all__ = ["anyio_backend"]

T = TypeVar("T")

CLIENTS = [AsyncOpenAI, OpenAI, AsyncAzureOpenAI, AzureOpenAI]
OWN = ["timeouts", "limiter", "observer", "proxy", "ssl_context", "uds", "network"]
HELLO = sse_reply(tokens("Hel", "lo"))
WHOLE = json_reply(completion("Hello"))
ANY = lambda request: HELLO if request.json.get("stream") else WHOLE  # noqa: E731


# --- keywords ---


@pytest.mark.parametrize("cls", CLIENTS)
def test_the_keywords_are_the_sdks_and_penstocks(cls: Any) -> None:
    base = getattr(openai, cls.__name__)
    assert issubclass(cls, base)
    expected = {*inspect.signature(base).parameters, *OWN}
    assert set(inspect.signature(cls).parameters) == expected
    assert all(
        each.kind is inspect.Parameter.KEYWORD_ONLY
        for each in inspect.signature(cls).parameters.values()
    )


@pytest.mark.parametrize("cls", CLIENTS)
def test_an_unknown_keyword_is_an_error(cls: Any) -> None:
    with pytest.raises(TypeError, match="unknown_keyword"):
        cls(api_key="k", unknown_keyword=1)


def test_the_module_exports_the_four() -> None:
    assert compat.__all__ == ["AsyncAzureOpenAI", "AsyncOpenAI", "AzureOpenAI", "OpenAI"]


def test_timeouts_of_another_type_are_refused() -> None:
    with pytest.raises(TypeError, match=r"penstock\.Timeouts"):
        OpenAI(api_key="k", timeouts=3)  # type: ignore[arg-type]


# --- what is shared ---


@pytest.mark.anyio
async def test_copies_share_the_connections_and_the_settings() -> None:
    network = MemoryNetwork(ANY)
    watcher = Watcher()
    limiter = penstock.Limiter(1)
    async with async_client(network, observer=watcher, limiter=limiter) as client:
        for each in (client, client.copy(), client.with_options(timeout=9, max_retries=0)):
            each._platform = "Linux"
            assert isinstance(each, AsyncOpenAI)
            assert each._client is client._client
            await each.chat.completions.create(**REQUEST)
            stream = await each.chat.completions.create(**STREAMED)
            assert text_of(await drain(stream)) == "Hello"
    assert len(network.connections) == 1
    assert watcher.outcomes() == ["completed"] * 6
    assert [event.model for event in watcher.of("request_started")] == ["test-model"] * 6


@pytest.mark.anyio
async def test_a_limiter_bounds_the_streams() -> None:
    network = MemoryNetwork(ANY)
    async with async_client(network, limiter=penstock.Limiter(1)) as client:
        first = await client.chat.completions.create(**STREAMED)
        await anext(first)
        with anyio.move_on_after(5) as scope:
            await client.chat.completions.create(**STREAMED)
        assert scope.cancelled_caught
        await first.close()
        second = await client.chat.completions.create(**STREAMED)
        assert text_of(await drain(second)) == "Hello"


@pytest.mark.anyio
async def test_closing_the_client_ends_its_streams() -> None:
    network = MemoryNetwork(sse_reply([*tokens("a", finish=None), Stall()]))
    client = async_client(network)
    stream = await client.chat.completions.create(**STREAMED)
    await anext(stream)
    assert not client.is_closed()
    await client.close()
    assert client.is_closed()
    assert not network.connections[0].open
    with pytest.raises(openai.APIConnectionError):
        await drain(stream)
    with pytest.raises((openai.APIConnectionError, RuntimeError)):
        await client.chat.completions.create(**STREAMED)


# --- Azure ---


def azure(cls: Any, network: MemoryNetwork, **options: Any) -> Any:
    given = {"azure_endpoint": "http://azure.test", "api_version": "2026-01-01", **options}
    if not {"azure_ad_token", "azure_ad_token_provider"} & given.keys():
        given["api_key"] = KEY
    client = cls(network=network, **given)
    client._platform = "Linux"
    return client


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({}, "/openai/deployments/test-model/chat/completions"),
        ({"azure_deployment": "mine"}, "/openai/deployments/mine/chat/completions"),
    ],
)
async def test_azure(options: Any, path: str) -> None:
    network = MemoryNetwork(ANY)
    async with azure(AsyncAzureOpenAI, network, **options) as client:
        for each in (client, client.with_options(max_retries=0)):
            each._platform = "Linux"
            stream = await each.chat.completions.create(**STREAMED)
            assert text_of(await drain(stream)) == "Hello"
            answer = await each.chat.completions.create(**REQUEST)
            assert answer.choices[0].message.content == "Hello"
    assert {sent.target for sent in network.requests} == {f"{path}?api-version=2026-01-01"}
    assert network.requests[0].headers["api-key"] == KEY


@pytest.mark.anyio
async def test_azure_tokens() -> None:
    asked: list[str] = []

    async def provider() -> str:
        asked.append(f"token {len(asked)}")
        return asked[-1]

    network = MemoryNetwork([WHOLE, error_reply(500, "down"), HELLO])
    async with azure(AsyncAzureOpenAI, network, azure_ad_token="fixed") as client:
        await client.chat.completions.create(**REQUEST)
    async with azure(AsyncAzureOpenAI, network, azure_ad_token_provider=provider) as client:
        stream = await client.chat.completions.create(**STREAMED)
        assert text_of(await drain(stream)) == "Hello"
    sent = [each.headers["authorization"] for each in network.requests]
    assert sent == ["Bearer fixed", "Bearer token 0", "Bearer token 1"]


@pytest.mark.anyio
async def test_each_attempt_asks_for_the_key_and_is_counted() -> None:
    keys = iter(["first key", "second key", "third key"])

    async def key() -> str:
        return next(keys)

    down = error_reply(500, "down")
    network = MemoryNetwork([down, down, WHOLE])
    async with async_client(network, api_key=key) as client:
        await client.chat.completions.create(**REQUEST)
    assert [each.headers["authorization"] for each in network.requests] == [
        "Bearer first key",
        "Bearer second key",
        "Bearer third key",
    ]
    counts = [each.headers["x-stainless-retry-count"] for each in network.requests]
    assert counts == ["0", "1", "2"]


def test_each_attempt_asks_for_the_key_when_blocking() -> None:
    keys = iter(["first key", "second key"])
    network = MemoryNetwork([error_reply(500, "a", headers={"retry-after-ms": "1"}), HELLO])
    with blocking_client(network, api_key=lambda: next(keys)) as client:
        assert text_of(list(client.chat.completions.create(**STREAMED))) == "Hello"
    sent = [each.headers["authorization"] for each in network.requests]
    assert sent == ["Bearer first key", "Bearer second key"]


def test_azure_when_blocking() -> None:
    network = MemoryNetwork(ANY)
    with azure(AzureOpenAI, network, azure_ad_token_provider=lambda: "token") as client:
        assert text_of(list(client.chat.completions.create(**STREAMED))) == "Hello"
        assert client.chat.completions.create(**REQUEST).choices[0].message.content == "Hello"
    assert network.requests[0].headers["authorization"] == "Bearer token"


# --- the blocking client ---


def test_blocking_streams_and_answers() -> None:
    network = MemoryNetwork(
        [HELLO, WHOLE, error_reply(429, "a", headers={"retry-after-ms": "5"}), HELLO]
    )
    with blocking_client(network) as client:
        stream = client.chat.completions.create(**STREAMED)
        assert isinstance(stream, openai.Stream)
        assert text_of(list(stream)) == "Hello"
        assert stream.response.is_closed
        assert client.chat.completions.create(**REQUEST).choices[0].message.content == "Hello"
        with client.chat.completions.create(**STREAMED) as stream:
            assert text_of(list(stream)) == "Hello"
    assert len(network.requests) == 4


def test_blocking_cuts_and_refusals() -> None:
    network = MemoryNetwork(
        [
            sse_reply(tokens("Hel", finish=None), done=False),
            error_reply(401, "who"),
            sse_reply([*tokens("a", finish=None), Stall()]),
            sse_reply([*tokens("a", finish=None), Stall()]),
        ]
    )
    with blocking_client(network, timeouts=penstock.Timeouts(read=0.1)) as client:
        with pytest.raises(openai.APIConnectionError) as caught:
            list(client.chat.completions.create(**STREAMED))
        assert isinstance(caught.value.__cause__, penstock.IncompleteStreamError)
        assert caught.value.__cause__.partial is not None
        with pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(**STREAMED)
        with pytest.raises(openai.APITimeoutError):
            list(client.chat.completions.create(**STREAMED))
        with client.chat.completions.create(**STREAMED) as stream:
            next(stream)
        assert becomes_true(lambda: not network.connections[-1].open)
        with pytest.raises(openai.APIConnectionError):
            next(stream)


def test_blocking_raw_responses() -> None:
    with blocking_client([HELLO, HELLO, WHOLE]) as client:
        raw = client.chat.completions.with_raw_response.create(**STREAMED)
        assert raw.retries_taken == 0
        assert text_of(list(raw.parse())) == "Hello"
        create = client.chat.completions.with_streaming_response.create
        with create(**STREAMED) as response:
            assert [line for line in response.iter_lines() if line][-1] == "data: [DONE]"
        with create(**REQUEST) as response:
            assert response.parse().choices[0].message.content == "Hello"


class Watching(openai.Stream[T]):
    def __stream__(self) -> Any:
        self.seen = []
        for chunk in super().__stream__():
            self.seen.append(chunk)
            yield chunk


class Counting(openai.Stream[T]):
    count = 0

    def __next__(self) -> Any:
        item = next(self._iterator)
        self.count += 1
        return item


def test_blocking_instrumented_classes() -> None:
    with blocking_client([HELLO, HELLO]) as client:
        for kind in (Watching[dict[str, Any]], Counting[dict[str, Any]]):
            stream: Any = client.post(
                "/chat/completions", cast_to=object, body=STREAMED, stream=True, stream_cls=kind
            )
            got = list(stream)
            assert got
            assert getattr(stream, "seen", got) == got
            assert getattr(stream, "count", len(got)) == len(got)


# --- loops and threads ---


def test_one_client_in_several_loops() -> None:
    with serve_in_thread(ANY) as server:
        client = AsyncOpenAI(api_key=KEY, base_url=server.base_url)

        async def ask() -> str:
            stream = await client.chat.completions.create(**STREAMED)
            return text_of(await drain(stream))

        assert [asyncio.run(ask()) for _ in range(3)] == ["Hello"] * 3
        assert trio.run(ask) == "Hello"
        assert asyncio.run(ask()) == "Hello"
        asyncio.run(client.close())


def test_one_client_in_several_threads() -> None:
    with serve_in_thread(ANY) as server:
        client = AsyncOpenAI(api_key=KEY, base_url=server.base_url)
        blocking = OpenAI(api_key=KEY, base_url=server.base_url)
        got: list[str] = []

        async def ask() -> str:
            stream = await client.chat.completions.create(**STREAMED)
            return text_of(await drain(stream))

        def work() -> None:
            for _ in range(3):
                got.append(asyncio.run(ask()))
                got.append(text_of(list(blocking.chat.completions.create(**STREAMED))))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert got == ["Hello"] * 24
        asyncio.run(client.close())
        blocking.close()


def test_the_blocking_client_inside_a_running_loop() -> None:
    with serve_in_thread(ANY) as server, OpenAI(api_key=KEY, base_url=server.base_url) as client:

        async def main() -> None:
            assert text_of(list(client.chat.completions.create(**STREAMED))) == "Hello"
            answer = client.chat.completions.create(**REQUEST)
            assert answer.choices[0].message.content == "Hello"

        asyncio.run(main())
        trio.run(main)


def test_the_key_is_not_shown() -> None:
    for cls in (AsyncOpenAI, OpenAI):
        assert KEY not in repr(cls(api_key=KEY, base_url=URL))
