"""SDKs of other vendors over penstock's transport for httpx2."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

import anthropic
import mistralai.client as mistral
import openai
import pytest

from penstock.testing import Reply, Server, Stall, cut_after_events, serve, sse_event, sse_reply
from tests.frameworks.clients import async_http_client

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """Only asyncio: some of the SDKs need it, and none closes its generators for trio."""
    return "asyncio"


QUESTION: Any = {"role": "user", "content": "Why is the sky blue?"}
PIECES = ("The air ", "scatters ", "blue.")
Open: TypeAlias = "Callable[[Server], AbstractAsyncContextManager[AsyncIterator[str]]]"


def messages_events() -> Iterator[dict[str, Any]]:
    """A stream of Anthropic's Messages."""
    usage = {"input_tokens": 7, "output_tokens": 1}
    message = {"id": "m", "type": "message", "role": "assistant", "model": "c", "content": []}
    stop: dict[str, Any] = {"stop_reason": None, "stop_sequence": None}
    yield {"type": "message_start", "message": {**message, **stop, "usage": usage}}
    block = {"type": "text", "text": ""}
    yield {"type": "content_block_start", "index": 0, "content_block": block}
    for text in PIECES:
        delta = {"type": "text_delta", "text": text}
        yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    stop["stop_reason"] = "end_turn"
    yield {"type": "message_delta", "delta": stop, "usage": {"output_tokens": 3}}
    yield {"type": "message_stop"}


def responses_events() -> Iterator[dict[str, Any]]:
    """A stream of OpenAI's Responses, with what the SDK needs of it."""
    whole: dict[str, Any] = {"id": "r", "object": "response", "created_at": 1, "model": "m"}
    whole |= {"output": [], "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    yield {"type": "response.created", "sequence_number": 0, "response": whole}
    item = {"item_id": "i", "output_index": 0, "content_index": 0, "logprobs": []}
    for number, text in enumerate(PIECES, 1):
        delta = {"type": "response.output_text.delta", "sequence_number": number, "delta": text}
        yield {**delta, **item}
    done = {**whole, "status": "completed"}
    yield {"type": "response.completed", "sequence_number": 9, "response": done}


def chat_events() -> Iterator[dict[str, Any]]:
    """A stream of chat completions, which Mistral's API has as well."""
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    for text in PIECES:
        delta = {"role": "assistant", "content": text}
        yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield {**head, "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}]}


def named(events: Iterator[dict[str, Any]], n: int | None = None) -> Reply:
    """The first `n` events, or all, with their types as their names, and a proper end."""
    parts = [f"event: {each['type']}\n".encode() + sse_event(each) for each in events]
    return sse_reply(parts[:n], done=False)


@asynccontextmanager
async def anthropic_texts(server: Server) -> AsyncIterator[AsyncIterator[str]]:
    root = server.base_url.removesuffix("/v1")
    async with (
        async_http_client() as http_client,
        anthropic.AsyncAnthropic(api_key="k", base_url=root, http_client=http_client) as client,
        client.messages.stream(model="c", max_tokens=9, messages=[QUESTION]) as stream,
    ):
        yield stream.text_stream


@asynccontextmanager
async def responses_texts(server: Server) -> AsyncIterator[AsyncIterator[str]]:
    async with (
        async_http_client() as http_client,
        openai.AsyncOpenAI(
            api_key="k", base_url=server.base_url, http_client=http_client
        ) as client,
        await client.responses.create(model="m", input="Why?", stream=True) as stream,
    ):
        yield (each.delta async for each in stream if each.type == "response.output_text.delta")


@asynccontextmanager
async def chat_texts(server: Server) -> AsyncIterator[AsyncIterator[str]]:
    async with (
        async_http_client() as http_client,
        openai.AsyncOpenAI(
            api_key="k", base_url=server.base_url, http_client=http_client
        ) as client,
        await client.chat.completions.create(model="m", messages=[QUESTION], stream=True) as stream,
    ):
        yield (each.choices[0].delta.content or "" async for each in stream)


@asynccontextmanager
async def mistral_texts(server: Server) -> AsyncIterator[AsyncIterator[str]]:
    root = server.base_url.removesuffix("/v1")
    async with (
        async_http_client() as http_client,
        mistral.Mistral(api_key="k", server_url=root, async_client=http_client) as client,
        await client.chat.stream_async(model="m", messages=[QUESTION]) as stream,
    ):
        yield (str(each.data.choices[0].delta.content or "") async for each in stream)


SDKS: dict[str, tuple[Open, Reply, Reply]] = {
    "anthropic": (anthropic_texts, named(messages_events()), named(messages_events(), 4)),
    "openai responses": (responses_texts, named(responses_events()), named(responses_events(), 3)),
    "openai chat": (
        chat_texts,
        sse_reply(list(chat_events())),
        sse_reply(list(chat_events())[:2], done=False),
    ),
    "mistralai": (
        mistral_texts,
        sse_reply(list(chat_events())),
        sse_reply(list(chat_events())[:2], done=False),
    ),
}


@pytest.mark.parametrize(("texts", "whole", "_"), SDKS.values(), ids=SDKS)
async def test_a_whole_stream(texts: Open, whole: Reply, _: Reply) -> None:
    async with serve(whole) as server, texts(server) as stream:
        assert "".join([text async for text in stream]) == "".join(PIECES)


async def hear(opening: AbstractAsyncContextManager[AsyncIterator[str]], heard: list[str]) -> None:
    async with opening as stream:
        async for text in stream:
            heard.append(text)


@pytest.mark.parametrize(("texts", "_", "cut"), SDKS.values(), ids=SDKS)
async def test_a_cut_stream_is_an_error(texts: Open, _: Reply, cut: Reply) -> None:
    heard: list[str] = []
    async with serve(cut) as server:
        with pytest.raises(Exception):  # noqa: B017, PT011 - each SDK has its own
            await hear(texts(server), heard)
    assert "".join(heard) == "".join(PIECES[:2])
    assert len(server.requests) == 1


@pytest.mark.parametrize(("texts", "whole", "_"), SDKS.values(), ids=SDKS)
async def test_leaving_closes_the_connection(texts: Open, whole: Reply, _: Reply) -> None:
    async with serve(cut_after_events(whole, 4, Stall())) as server:
        async with texts(server) as stream:
            async for text in stream:
                if text:
                    break
        await server.wait_closed(1, timeout=1)
