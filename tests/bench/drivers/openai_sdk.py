"""The OpenAI SDK on its default HTTP client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from ..payloads import MESSAGES
from .base import Address, Driver, Pause, Peer, Received

__all__ = ["DRIVER", "OpenAIPeer"]

# Not by an import statement: the type checkers run where it is not installed, too.
openai: Any = import_module("openai")


class OpenAIPeer(Peer):
    def __init__(self, client: Any) -> None:
        self._client = client

    async def stream(self, model: str, pause: Pause) -> Received:
        events, after = 0, pause.after
        parts = pause.parts()
        stream = await self._client.chat.completions.create(
            model=model, messages=MESSAGES, stream=True
        )
        async with stream:
            async for chunk in stream:
                events += 1
                content = chunk.choices[0].delta.content
                if content:
                    parts.append(content)
                if events == after:
                    await pause.wait()
        return Received(events, "".join(parts))

    async def create(self, model: str) -> Received:
        completion = await self._client.chat.completions.create(model=model, messages=MESSAGES)
        return Received(1, completion.choices[0].message.content)

    async def models(self) -> Received:
        listed = await self._client.models.list()
        return Received(1, " ".join(model.id for model in listed.data))


@asynccontextmanager
async def open_peer(address: Address) -> AsyncIterator[OpenAIPeer]:
    # Without TLS the client it makes by itself, as nearly all do.
    http = address.ssl_context and openai.DefaultAsyncHttpxClient(verify=address.ssl_context)
    async with openai.AsyncOpenAI(
        base_url=address.base_url,
        api_key="none",
        http_client=http,
        timeout=600,  # by default 5 s to connect, too few for hundreds of streams at once
        max_retries=0,
    ) as client:
        yield OpenAIPeer(client)


DRIVER = Driver(open_peer, loops=("asyncio", "uvloop", "trio"))
