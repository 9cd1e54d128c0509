"""aiohttp (its C parser) and msgspec, as an author who counts microseconds would combine them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from .base import Address, Driver, Pause, Peer, Received
from .by_hand import DONE, Events, body, decode_chunk, decode_completion, decode_models

__all__ = ["DRIVER"]

aiohttp: Any = import_module("aiohttp")


class AiohttpPeer(Peer):
    def __init__(self, session: Any, base_url: str) -> None:
        self._session = session
        self._url = f"{base_url}/chat/completions"
        self._models_url = f"{base_url}/models"

    async def stream(self, model: str, pause: Pause) -> Received:
        events, after = 0, pause.after
        parts = pause.parts()
        split = Events()
        async with self._session.post(self._url, data=body(model, stream=True)) as response:
            response.raise_for_status()
            async for data in response.content.iter_any():
                for event in split.feed(data):
                    if event == DONE:
                        continue
                    events += 1
                    content = decode_chunk(event).choices[0].delta.content
                    if content:
                        parts.append(content)
                    if events == after:
                        await pause.wait()
        return Received(events, "".join(parts))

    async def create(self, model: str) -> Received:
        async with self._session.post(self._url, data=body(model, stream=False)) as response:
            response.raise_for_status()
            completion = decode_completion(await response.read())
        return Received(1, completion.choices[0].message.content or "")

    async def models(self) -> Received:
        async with self._session.get(self._models_url) as response:
            response.raise_for_status()
            listed = decode_models(await response.read())
        return Received(1, " ".join(model.id for model in listed.data))


@asynccontextmanager
async def open_peer(address: Address) -> AsyncIterator[AiohttpPeer]:
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=address.ssl_context or True),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60),
        headers={"content-type": "application/json", "authorization": "Bearer none"},
    ) as session:
        yield AiohttpPeer(session, address.base_url)


DRIVER = Driver(open_peer)
