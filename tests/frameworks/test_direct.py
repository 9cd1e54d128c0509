"""pydantic-ai's `direct` functions on trio and asyncio, with anyio's cancel scopes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from pydantic_ai.direct import model_request, model_request_stream
from pydantic_ai.messages import ModelRequest
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from penstock.testing import Script, Server, Stall, cut_after_events, serve, text_reply
from penstock.testing.plugin import real_backend as anyio_backend
from tests.frameworks.clients import async_client

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

MESSAGES: Any = [ModelRequest.user_text_prompt("Why is the sky blue?")]
PIECES = ("The air ", "scatters ", "blue.")


@asynccontextmanager
async def served(script: Script) -> AsyncIterator[tuple[Server, OpenAIChatModel]]:
    async with serve(script) as server, async_client(server.base_url) as client:
        provider = OpenAIProvider(openai_client=client)
        yield server, OpenAIChatModel("gpt-4o-mini", provider=provider)


async def read(model: OpenAIChatModel) -> Any:
    async with model_request_stream(model, MESSAGES) as stream:
        async for _ in stream:
            pass
    return stream.get()


async def test_whole() -> None:
    async with served(text_reply(*PIECES, stream=False)) as (_, model):
        answer = await model_request(model, MESSAGES)
    assert answer.parts[0].content == "".join(PIECES)


async def test_streamed() -> None:
    async with served(text_reply(*PIECES)) as (_, model):
        answer = await read(model)
    assert answer.parts[0].content == "".join(PIECES)


@pytest.mark.parametrize("events", [0, 1, 3])
async def test_a_scope_closes_the_connection(events: int) -> None:
    async with served(cut_after_events(text_reply(*PIECES), events, Stall())) as (server, model):
        async with anyio.create_task_group() as group:
            group.start_soon(read, model)
            await server.wait_requests(1)
            await anyio.sleep(0.05)  # what the server sends may arrive, or not
            group.cancel_scope.cancel()
        await server.wait_closed(1, timeout=1)
    assert len(server.requests) == 1


async def test_a_scope_around_a_whole_answer() -> None:
    async with served(cut_after_events(text_reply(*PIECES), 0, Stall())) as (server, model):
        with anyio.move_on_after(0.2) as scope:
            await model_request(model, MESSAGES)
        assert scope.cancelled_caught
        await server.wait_closed(1, timeout=1)
