"""The ways in which a task uses a client, and what disturbs it: all drawn from a seed at once."""

from __future__ import annotations

import random
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import anyio

import penstock
from penstock import (
    AsyncClient,
    ChatCompletionChunk,
    ChunkEvent,
    CompletionStream,
    fan_out,
    fan_out_channels,
    fan_out_chunks,
    race,
)

from .ledger import Entry, Ledger

__all__ = ["WAYS", "Operation", "Performer"]


@dataclass(frozen=True)
class Operation:
    """What one task does next. Nothing of it depends on what happens."""

    number: int
    way: str
    client: str
    """Whose connections: plain, tls or flapping (shared), or one of its own."""
    leave_after: tuple[int | None, ...]
    """For each request: after how many chunks it is given up, if at all."""
    slow: float
    """Seconds that the reader takes over some chunks."""
    patience: float | None
    """A deadline around each read, which is then repeated."""
    disturbance: str
    """What comes from outside: none, scope, native or twice (asyncio's own), close, failure."""
    when: float
    """Seconds until then."""
    limit: int
    buffer: int
    delay: float | None
    max_retries: int

    @classmethod
    def draw(cls, seed: int, number: int) -> Operation:
        rng = random.Random(f"{seed}/{number}")
        way = rng.choice(list(WAYS))
        several = way in ("fan_out", "fan_out_chunks", "fan_out_channels", "race")
        count = rng.choice([2, 3, 5, 8, 16]) if several else 1
        if way == "race":
            count = min(count, 4)
        chance = 0.25 if several else 0.15
        return cls(
            number=number,
            way=way,
            client=rng.choice(["plain", "plain", "plain", "tls", "flapping", "own"]),
            leave_after=tuple(
                rng.choice([0, 1, 2, 5, 20]) if rng.random() < chance else None
                for _ in range(count)
            ),
            slow=rng.choice([0.0, 0.0, 0.0, 0.001, 0.01]),
            patience=rng.choice([None, None, None, 0.003, 0.02]),
            disturbance=rng.choice(["none"] * 5 + ["scope", "native", "twice", "close", "failure"]),
            when=rng.choice([0.0, rng.uniform(0, 0.01), rng.uniform(0, 0.1), rng.uniform(0, 0.6)]),
            limit=rng.choice([1, 2, 4, 8] if count < 5 else [4, 8, 16]),
            buffer=rng.choice([1, 2, 16]),
            delay=rng.choice([0.0, 0.005, 0.05, None]),
            max_retries=rng.choice([0, 1, 2, 2]),
        )


class Performer:
    """Performs operations on clients, and enters every request in the ledger."""

    def __init__(self, ledger: Ledger, seed: int) -> None:
        self._ledger = ledger
        self._seed = seed

    async def perform(
        self, operation: Operation, client: AsyncClient, opened: Callable[[Any], None]
    ) -> None:
        """`opened` is told of streams, which may then be closed from elsewhere."""
        entries = [
            self._ledger.open(f"{self._seed}-{operation.number}-{at}", operation.max_retries)
            for at in range(len(operation.leave_after))
        ]
        for entry in entries:
            entry.leaving = operation.disturbance == "close"
            entry.dropped = operation.way == "dropped"
        try:
            left = await WAYS[operation.way](self, operation, client, entries, opened)
        except anyio.get_cancelled_exc_class():
            for entry in entries:
                self._ledger.end(entry, "cancelled" if entry.started else "unsent", again=True)
            raise
        if left:
            for entry in entries:
                self._ledger.end(entry, "abandoned" if entry.started else "unsent", again=True)
        # Else none may be without an end, which the ledger will see to.

    @staticmethod
    def _request(entry: Entry, **more: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": f"Tell me {entry.id}."}]
        return {"model": entry.id, "messages": messages, **more}

    # --- reading ---

    async def _read(
        self, operation: Operation, entry: Entry, chunks: AsyncIterable[ChatCompletionChunk]
    ) -> bool:
        """Read to the end, and say whether it was reached or left before."""
        at = int(entry.id.rpartition("-")[2])
        leave_after = operation.leave_after[at]
        iterator = aiter(chunks)
        seen = 0
        while leave_after is None or seen < leave_after:
            try:
                chunk = await self._patiently(operation, iterator)
            except StopAsyncIteration:
                return True
            seen += 1
            entry.text += "".join(choice.delta.content or "" for choice in chunk.choices)
            if operation.slow and seen % 7 == 1:
                await anyio.sleep(operation.slow)
        self._ledger.end(entry, "abandoned", "break")
        return False

    @staticmethod
    async def _patiently(operation: Operation, iterator: Any) -> ChatCompletionChunk:
        chunk: ChatCompletionChunk
        while operation.patience is not None:
            with anyio.move_on_after(operation.patience):
                chunk = await anext(iterator)
                return chunk
        chunk = await anext(iterator)
        return chunk

    # --- the ways ---

    async def stream(
        self, operation: Operation, client: AsyncClient, entries: list[Entry], opened: Any
    ) -> bool:
        (entry,) = entries
        stream = client.chat.completions.stream(
            **self._request(entry, max_retries=entry.max_retries)
        )
        opened(stream)
        with self._ledger.watching(entry):
            async with stream:
                if await self._read(operation, entry, stream):
                    self._ledger.completed(entry, stream.partial)
        return False

    async def bare(
        self, operation: Operation, client: AsyncClient, entries: list[Entry], opened: Any
    ) -> bool:
        (entry,) = entries
        stream = client.chat.completions.stream(
            **self._request(entry, max_retries=entry.max_retries)
        )
        opened(stream)
        with self._ledger.watching(entry):
            try:
                if await self._read(operation, entry, stream):
                    self._ledger.completed(entry, stream.partial)
            finally:
                with anyio.CancelScope(shield=True):
                    await stream.aclose()
        return False

    async def dropped(
        self, operation: Operation, client: AsyncClient, entries: list[Entry], opened: Any
    ) -> bool:
        """Read some, and forget it: what the library warns of and cleans up by itself."""
        (entry,) = entries
        stream = client.chat.completions.stream(
            **self._request(entry, max_retries=entry.max_retries)
        )
        with self._ledger.watching(entry):
            try:
                if await self._read(operation, entry, stream):
                    self._ledger.completed(entry, stream.partial)
            finally:
                del stream
        return False

    async def complete(
        self, operation: Operation, client: AsyncClient, entries: list[Entry], opened: Any
    ) -> bool:
        (entry,) = entries
        with self._ledger.watching(entry):
            answer = await client.complete(self._request(entry), max_retries=entry.max_retries)
            self._ledger.completed(entry, answer)
        return False

    async def create(
        self, operation: Operation, client: AsyncClient, entries: list[Entry], opened: Any
    ) -> bool:
        (entry,) = entries
        with self._ledger.watching(entry):
            answer = await client.chat.completions.create(
                **self._request(entry, max_retries=entry.max_retries)
            )
            self._ledger.completed(entry, answer)
        return False

    async def fan_out(
        self, operation: Operation, client: AsyncClient, entries: list[Entry], opened: Any
    ) -> bool:
        async def ask(entry: Entry) -> penstock.ChatCompletion:
            return await client.complete(self._request(entry), max_retries=entry.max_retries)

        left = _first(operation.leave_after)
        taken = 0
        async with fan_out(
            ask, entries, limit=operation.limit, ordered=operation.buffer == 1
        ) as results:
            async for result in results:
                if result.error is not None:
                    self._ledger.failed(result.item, result.error)
                else:
                    self._ledger.completed(result.item, result.unwrap())
                taken += 1
                if taken == left:
                    break
                if operation.slow:
                    await anyio.sleep(operation.slow)
        return taken == left

    async def fan_out_chunks(
        self, operation: Operation, client: AsyncClient, entries: list[Entry], opened: Any
    ) -> bool:
        left = _first(operation.leave_after)
        taken = 0
        async with fan_out_chunks(
            client, self._requests(entries), limit=operation.limit, buffer=operation.buffer
        ) as events:
            while taken != left:
                try:
                    event: Any = await self._patiently(operation, events)
                except StopAsyncIteration:
                    break
                entry = entries[event.index]
                taken += 1
                if isinstance(event, ChunkEvent):
                    choices = event.chunk.choices
                    entry.text += "".join(choice.delta.content or "" for choice in choices)
                elif event.error is not None:
                    self._ledger.failed(entry, event.error)
                else:
                    self._ledger.completed(entry, event.unwrap())
                if operation.slow and taken % 20 == 1:
                    await anyio.sleep(operation.slow)
        return taken == left

    def _requests(self, entries: list[Entry]) -> Iterator[dict[str, Any]]:
        for entry in entries:
            yield self._request(entry, max_retries=entry.max_retries)

    async def fan_out_channels(
        self, operation: Operation, client: AsyncClient, entries: list[Entry], opened: Any
    ) -> bool:
        if operation.disturbance != "none":
            # Whoever cancels the block's own task alone lets the readers meet its end.
            for entry in entries:
                entry.leaving = True

        async def consume(channel: penstock.CompletionChannel) -> None:
            entry = entries[channel.index]
            with self._ledger.watching(entry):
                try:
                    if await self._read(operation, entry, channel.receive):
                        self._ledger.completed(entry, channel.partial)
                finally:
                    with anyio.CancelScope(shield=True):
                        await channel.aclose()

        async with (
            anyio.create_task_group() as group,
            fan_out_channels(
                client, self._requests(entries), limit=operation.limit, buffer=operation.buffer
            ) as channels,
        ):
            async for channel in channels:
                group.start_soon(consume, channel)
        return False

    async def race(
        self, operation: Operation, client: AsyncClient, entries: list[Entry], opened: Any
    ) -> bool:
        for entry in entries:
            entry.max_retries = 0
        running = race(
            client,
            [self._request(entry) for entry in entries],
            delay=operation.delay,
            max_live=operation.limit,
        )
        try:
            with suppress(penstock.AllAttemptsFailed):
                async with running as stream:
                    await self._follow(operation, running, entries, stream)
        finally:
            for attempt in running.statistics().attempts:
                entry = entries[attempt.index]
                if attempt.outcome == "failed" and entry.outcome is None:
                    assert attempt.error is not None
                    self._ledger.failed(entry, attempt.error)
                elif attempt.outcome == "lost":
                    self._ledger.end(entry, "abandoned" if entry.started else "unsent", "lost")
        return True

    async def _follow(
        self, operation: Operation, running: Any, entries: list[Entry], stream: CompletionStream
    ) -> None:
        winner = running.statistics().winner
        entry = entries[winner]
        with self._ledger.watching(entry):
            if await self._read(operation, entry, stream):
                self._ledger.completed(entry, stream.partial)


def _first(numbers: tuple[int | None, ...]) -> int | None:
    """How many results are taken before the whole is left; None for all."""
    given = [number for number in numbers if number]
    return given[0] if given and len(given) > len(numbers) / 2 else None


Way = Callable[
    [Performer, Operation, AsyncClient, list[Entry], Callable[[Any], None]], Awaitable[bool]
]
"""Says whether it may have left requests without an end."""
WAYS: dict[str, Way] = {
    way.__name__: way
    for way in (
        Performer.stream,
        Performer.stream,
        Performer.bare,
        Performer.dropped,
        Performer.complete,
        Performer.create,
        Performer.fan_out,
        Performer.fan_out_chunks,
        Performer.fan_out_channels,
        Performer.race,
    )
}
