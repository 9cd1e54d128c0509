"""httpcore's own connection pool and msgspec."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpcore

from .base import Address, Driver, Pause, Peer, Received
from .by_hand import DONE, Events, body, decode_chunk, decode_completion, decode_models

__all__ = ["DRIVER"]

TIMEOUTS = {"connect": 10.0, "read": 60.0, "write": 60.0, "pool": 60.0}


class HttpcorePeer(Peer):
    def __init__(self, pool: httpcore.AsyncConnectionPool, base_url: str) -> None:
        self._pool = pool
        self._url = f"{base_url}/chat/completions"
        self._models_url = f"{base_url}/models"
        self._headers = [("content-type", "application/json"), ("authorization", "Bearer none")]

    async def stream(self, model: str, pause: Pause) -> Received:
        events, after = 0, pause.after
        parts = pause.parts()
        split = Events()
        async with self._pool.stream(
            "POST",
            self._url,
            headers=self._headers,
            content=body(model, stream=True),
            extensions={"timeout": TIMEOUTS},
        ) as response:
            async for data in response.aiter_stream():
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
        response = await self._pool.request(
            "POST",
            self._url,
            headers=self._headers,
            content=body(model, stream=False),
            extensions={"timeout": TIMEOUTS},
        )
        completion = decode_completion(response.content)
        return Received(1, completion.choices[0].message.content or "")

    async def models(self) -> Received:
        response = await self._pool.request(
            "GET", self._models_url, headers=self._headers, extensions={"timeout": TIMEOUTS}
        )
        listed = decode_models(response.content)
        return Received(1, " ".join(model.id for model in listed.data))


@asynccontextmanager
async def open_peer(address: Address) -> AsyncIterator[HttpcorePeer]:
    async with httpcore.AsyncConnectionPool(
        ssl_context=address.ssl_context, max_connections=None, max_keepalive_connections=None
    ) as pool:
        yield HttpcorePeer(pool, address.base_url)


DRIVER = Driver(open_peer, loops=("asyncio", "uvloop", "trio"))
