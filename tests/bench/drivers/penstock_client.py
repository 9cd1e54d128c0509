"""penstock, with all its deadlines set."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import penstock

from ..payloads import MESSAGES
from .base import Address, Driver, Merging, Pause, Received

__all__ = ["DRIVER", "driver"]

TIMEOUTS = penstock.Timeouts(slot=60, read=60, first_token=60, idle=60, total=600)


class PenstockPeer(Merging):
    def __init__(self, client: penstock.AsyncClient) -> None:
        self._client = client

    async def stream(self, model: str, pause: Pause) -> Received:
        events, after = 0, pause.after
        parts = pause.parts()
        async with self._client.chat.completions.stream(model=model, messages=MESSAGES) as stream:
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
        return _whole(completion)

    async def models(self) -> Received:
        return Received(1, " ".join(model.id for model in await self._client.models.list()))

    async def merged(
        self, models: list[str], warm_up: int, warm: Callable[[], None]
    ) -> list[Received]:
        events = 0
        counts = [0] * len(models)
        parts: list[list[str]] = [[] for _ in models]
        requests = [{"model": model, "messages": MESSAGES} for model in models]
        async with penstock.fan_out_chunks(self._client, requests, limit=len(models)) as feed:
            async for event in feed:
                if isinstance(event, penstock.ResultEvent):
                    event.unwrap()
                    continue
                events += 1
                counts[event.index] += 1
                content = event.chunk.choices[0].delta.content
                if content:
                    parts[event.index].append(content)
                if events == warm_up:
                    warm()
        return [Received(count, "".join(texts)) for count, texts in zip(counts, parts, strict=True)]

    async def collect(self, model: str) -> Received:
        async with self._client.chat.completions.stream(model=model, messages=MESSAGES) as stream:
            return _whole(await stream.collect())

    async def complete(self, model: str) -> Received:
        return _whole(await self._client.complete({"model": model, "messages": MESSAGES}))


def _whole(completion: penstock.ChatCompletion) -> Received:
    return Received(1, completion.choices[0].message.content or "")


def driver(observer: Callable[[], object] | None = None) -> Driver:
    """Return penstock's driver; `observer` makes what watches its client."""

    @asynccontextmanager
    async def open_peer(address: Address) -> AsyncGenerator[PenstockPeer]:
        async with penstock.AsyncClient(
            address.base_url,
            api_key="none",
            timeouts=TIMEOUTS,
            proxy="",
            ssl_context=address.ssl_context,
            observer=None if observer is None else observer(),
        ) as client:
            yield PenstockPeer(client)

    return Driver(open_peer, loops=("asyncio", "uvloop", "trio"))


DRIVER = driver()
