"""The OpenAI SDK on its aiohttp client (`openai[aiohttp]`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .base import Address, Driver
from .openai_sdk import OpenAIPeer, openai

__all__ = ["DRIVER"]


@asynccontextmanager
async def open_peer(address: Address) -> AsyncIterator[OpenAIPeer]:
    http = openai.DefaultAioHttpClient(verify=address.ssl_context or True)
    async with openai.AsyncOpenAI(
        base_url=address.base_url, api_key="none", http_client=http
    ) as client:
        yield OpenAIPeer(client)


DRIVER = Driver(open_peer)
