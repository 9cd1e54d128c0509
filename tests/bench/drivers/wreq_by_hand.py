"""wreq (Rust) and msgspec. Its work in other threads counts as well."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib import import_module
from typing import Any

from .base import Address, Driver, Pause, Peer, Received
from .by_hand import DONE, Events, body, decode_chunk, decode_completion, decode_models

__all__ = ["DRIVER"]

wreq: Any = import_module("wreq")


class WreqPeer(Peer):
    def __init__(self, client: Any, base_url: str) -> None:
        self._client = client
        self._url = f"{base_url}/chat/completions"
        self._models_url = f"{base_url}/models"

    async def stream(self, model: str, pause: Pause) -> Received:
        events, after = 0, pause.after
        parts = pause.parts()
        split = Events()
        response = await self._client.post(self._url, body=body(model, stream=True))
        async with response, response.stream() as stream:
            async for data in stream:
                for event in split.feed(data.tobytes()):
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
        response = await self._client.post(self._url, body=body(model, stream=False))
        completion = decode_completion(await response.bytes())
        return Received(1, completion.choices[0].message.content or "")

    async def models(self) -> Received:
        response = await self._client.get(self._models_url)
        listed = decode_models(await response.bytes())
        return Received(1, " ".join(model.id for model in listed.data))


@asynccontextmanager
async def open_peer(address: Address) -> AsyncIterator[WreqPeer]:
    client = wreq.Client(
        raise_for_status=True,
        read_timeout=timedelta(seconds=60),
        connect_timeout=timedelta(seconds=10),
        http1_only=True,
        no_proxy=True,
        tls_verify=address.authority or True,
        headers={"content-type": "application/json", "authorization": "Bearer none"},
    )
    try:
        yield WreqPeer(client, address.base_url)
    finally:
        client.close()


DRIVER = Driver(open_peer)
