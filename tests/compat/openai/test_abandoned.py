"""Streams that are dropped, over real sockets: cut at once, and quietly."""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from penstock.compat.openai import AsyncOpenAI, OpenAI
from penstock.testing.replies import completion, json_reply, sse_reply, tokens
from penstock.testing.script import Stall
from penstock.testing.server import becomes_true, serve, serve_in_thread
from tests.support.chat import KEY
from tests.support.openai_clients import REQUEST, STREAMED

WHOLE = json_reply(completion("Hello"))
HANGING = sse_reply([*tokens("Hel", "lo", finish=None), Stall()], done=False)


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    """What is closed here is closed by reference counts."""
    gc.collect()
    gc.disable()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    gc.enable()


@pytest.mark.anyio
async def test_an_async_stream() -> None:
    async with serve(HANGING) as server:
        client = AsyncOpenAI(api_key=KEY, base_url=server.base_url)
        for number in range(3):
            async for _ in await client.chat.completions.create(**STREAMED):
                break
            with anyio.fail_after(5):
                await server.wait_closed(number + 1)
        await client.close()


@pytest.mark.anyio
async def test_an_async_stream_whose_raw_response_is_kept() -> None:
    async with serve(HANGING) as server:
        client = AsyncOpenAI(api_key=KEY, base_url=server.base_url)
        raw = await client.chat.completions.with_raw_response.create(**STREAMED)
        stream: Any = raw.parse()
        raw._parsed_by_type.clear()
        await anext(stream)
        del stream
        with anyio.fail_after(5):
            await server.wait_closed(1)
        await client.close()


@pytest.mark.anyio
async def test_a_client() -> None:
    """Nobody closes a client of the SDK."""
    async with serve(HANGING) as server:
        client = AsyncOpenAI(api_key=KEY, base_url=server.base_url)
        stream = await client.chat.completions.create(**STREAMED)
        await anext(stream)
        del client
        await anext(stream)
        del stream
        with anyio.fail_after(5):
            await server.wait_closed(1)


def test_a_blocking_stream() -> None:
    with serve_in_thread(HANGING) as server:
        client = OpenAI(api_key=KEY, base_url=server.base_url)
        for number in range(3):
            for _ in client.chat.completions.create(**STREAMED):
                break
            assert becomes_true(
                lambda number=number: all(each.ended for each in server.connections)  # type: ignore[misc]
            )
        client.close()


@pytest.mark.anyio
async def test_a_client_that_is_done_keeps_nothing_alive() -> None:
    async with serve(WHOLE) as server:
        client = AsyncOpenAI(api_key=KEY, base_url=server.base_url)
        await client.chat.completions.create(**REQUEST)
        kept = weakref.ref(client)
        del client
        gc.collect()  # the SDK's clients are cycles
        assert kept() is None
        with anyio.fail_after(5):
            await server.wait_closed(1)


def test_a_blocking_client_that_is_done_keeps_nothing_alive() -> None:
    with serve_in_thread(WHOLE) as server:
        client = OpenAI(api_key=KEY, base_url=server.base_url)
        client.chat.completions.create(**REQUEST)
        kept = weakref.ref(client)
        del client
        gc.collect()
        assert kept() is None
        assert becomes_true(lambda: all(each.ended for each in server.connections))
