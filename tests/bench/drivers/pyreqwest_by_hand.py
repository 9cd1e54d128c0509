"""pyreqwest (Rust's reqwest) and msgspec. Its work in other threads counts as well."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib import import_module
from typing import Any

from .base import Address, Driver, Pause, Peer, Received
from .by_hand import DONE, Events, body, decode_chunk, decode_completion, decode_models

__all__ = ["DRIVER"]

pyreqwest: Any = import_module("pyreqwest.client")


class PyreqwestPeer(Peer):
    def __init__(self, client: Any, base_url: str) -> None:
        self._client = client
        self._url = f"{base_url}/chat/completions"
        self._models_url = f"{base_url}/models"

    async def stream(self, model: str, pause: Pause) -> Received:
        events, after = 0, pause.after
        parts = pause.parts()
        split = Events()
        request = self._client.post(self._url).body_bytes(body(model, stream=True))
        # By default it waits until 64 KiB have come, which no live stream can.
        async with request.streamed_read_buffer_limit(0).build_streamed() as response:
            reader = response.body_reader
            while (data := await reader.read_chunk()) is not None:
                for event in split.feed(data.to_bytes()):
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
        request = self._client.post(self._url).body_bytes(body(model, stream=False)).build()
        response = await request.send()
        completion = decode_completion(await response.bytes())
        return Received(1, completion.choices[0].message.content or "")

    async def models(self) -> Received:
        response = await self._client.get(self._models_url).build().send()
        listed = decode_models(await response.bytes())
        return Received(1, " ".join(model.id for model in listed.data))


@asynccontextmanager
async def open_peer(address: Address) -> AsyncIterator[PyreqwestPeer]:
    builder = (
        pyreqwest.ClientBuilder()
        .error_for_status(True)
        .read_timeout(timedelta(seconds=60))
        .connect_timeout(timedelta(seconds=10))
        .http1_only()
        .no_proxy()
        .default_headers({"content-type": "application/json", "authorization": "Bearer none"})
    )
    if address.authority is not None:
        builder = builder.add_root_certificate_pem(address.authority.read_bytes())
    async with builder.build() as client:
        yield PyreqwestPeer(client, address.base_url)


DRIVER = Driver(open_peer)
