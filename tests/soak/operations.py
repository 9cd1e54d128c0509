"""The ways in which a task uses a client, and what disturbs it: all drawn from a seed at once."""

from __future__ import annotations

import random
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import anyio
import anyio.from_thread
import anyio.to_thread

import penstock
from penstock import (
    AsyncClient,
    ChatCompletionChunk,
    ChunkEvent,
    Client,
    CompletionStream,
    Limiter,
    blocking,
    fan_out,
    fan_out_channels,
    fan_out_chunks,
    race,
)

from .ledger import Entry, Ledger

__all__ = ["WAYS", "Mixture", "Operation", "Performer"]

SEVERAL = (
    "fan_out",
    "fan_out_chunks",
    "fan_out_channels",
    "generator",
    "elsewhere",
    "blocking",
    "race",
)
IN_THREADS = ("elsewhere", "blocking")
"""What a cancellation waits for, because a thread cannot be cancelled."""


@dataclass(frozen=True)
class Operation:
    """What one task does next. Nothing of it depends on what happens."""

    number: int
    way: str
    client: str
    """Whose connections: plain, named (with slow look-ups), tls or flapping, or its own."""
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
        several = way in SEVERAL
        count = rng.choice([2, 3, 5, 8, 16]) if several else 1
        if way == "race":
            count = min(count, 4)
        chance = 0.25 if several else 0.15
        disturbance = rng.choice(["none"] * 5 + ["scope", "native", "twice", "close", "failure"])
        if way in IN_THREADS and disturbance in ("native", "twice"):
            disturbance = "scope"  # a native cancellation leaves the thread behind
        return cls(
            number=number,
            way=way,
            client=rng.choice(["plain", "plain", "plain", "named", "tls", "flapping", "own"]),
            leave_after=tuple(
                rng.choice([0, 1, 2, 5, 20]) if rng.random() < chance else None
                for _ in range(count)
            ),
            slow=rng.choice([0.0, 0.0, 0.0, 0.001, 0.01]),
            patience=rng.choice([None, None, None, 0.003, 0.02]),
            disturbance=disturbance,
            when=rng.choice([0.0, rng.uniform(0, 0.01), rng.uniform(0, 0.1), rng.uniform(0, 0.6)]),
            limit=rng.choice([1, 2, 4, 8] if count < 5 else [4, 8, 16]),
            buffer=rng.choice([1, 2, 16]),
            delay=rng.choice([0.0, 0.005, 0.05, None]),
            max_retries=rng.choice([0, 1, 2, 2]),
        )


class Mixture(Protocol):
    """What else the process has, besides the clients of its own event loop; and counts of it."""

    blocking: Client
    blocking_limiter: Limiter
    uploader: AsyncClient
    loops: int
    threads: int
    generators: int
    uploads: int

    def client(self) -> AsyncClient:
        """Return a client with a limiter of its own, for another event loop."""
        ...


class Performer:
    """Performs operations on clients, and enters every request in the ledger."""

    def __init__(self, ledger: Ledger, seed: int, mixture: Mixture) -> None:
        self._ledger = ledger
        self._seed = seed
        self._mixture = mixture

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

    def _note(self, result: Any) -> None:
        if result.error is not None:
            self._ledger.failed(result.item, result.error)
        else:
            self._ledger.completed(result.item, result.unwrap())

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
                self._note(result)
                taken += 1
                if taken == left:
                    break
                if operation.slow:
                    await anyio.sleep(operation.slow)
        return taken == left

    async def generator(
        self, operation: Operation, client: AsyncClient, entries: list[Entry], opened: Any
    ) -> bool:
        """A fan-out in a generator of the user's, which is read to its end or left somehow."""
        over = anyio.Event()

        async def ask(entry: Entry) -> penstock.ChatCompletion:
            return await client.complete(self._request(entry), max_retries=entry.max_retries)

        async def results() -> AsyncIterator[Any]:  # noqa: ASYNC900 - as users write them
            try:
                async with fan_out(ask, entries, limit=operation.limit) as found:
                    async for result in found:
                        yield result  # noqa: ASYNC119 - what is tried
            finally:
                over.set()

        self._mixture.generators += 1
        left = _first(operation.leave_after)
        taken = 0
        made: Any = results()
        async for result in made:
            self._note(result)
            taken += 1
            if taken == left:
                break
        if taken != left:
            return False
        how = operation.number % 3 if operation.disturbance == "none" else 0
        if how == 1:
            async with anyio.create_task_group() as group:  # noqa: ASYNC112 - another task must do it
                group.start_soon(made.aclose)
        elif how == 0:
            await made.aclose()
        del made  # the event loop closes it, if it is not closed yet
        with anyio.CancelScope(shield=True):
            await over.wait()
        return True

    async def elsewhere(
        self, operation: Operation, client: AsyncClient, entries: list[Entry], opened: Any
    ) -> bool:
        """In a thread, on an event loop of its own, or on this one again."""

        async def there() -> bool:
            way = (Performer.fan_out, Performer.fan_out_chunks)[operation.number % 2]
            async with self._mixture.client() as own:
                return await way(self, operation, own, entries, opened)

        def run() -> bool:
            how = ("asyncio", "trio", "portal", "back")[operation.number // 2 % 4]
            self._mixture.threads += 1
            if how == "back":
                return anyio.from_thread.run(
                    Performer.fan_out, self, operation, client, entries, opened
                )
            self._mixture.loops += 1
            if how == "portal":
                with anyio.from_thread.start_blocking_portal() as portal:
                    return portal.call(there)
            return anyio.run(there, backend=how)

        return await anyio.to_thread.run_sync(run)

    async def blocking(
        self, operation: Operation, client: AsyncClient, entries: list[Entry], opened: Any
    ) -> bool:
        """With the blocking client, which threads share together with its limiter."""

        def run() -> bool:
            self._mixture.threads += 1
            return self._block(operation, self._mixture.blocking, entries)

        if operation.number % 64 == 0 and operation.disturbance == "none":
            return run()  # inside of this event loop, which stands still meanwhile
        return await anyio.to_thread.run_sync(run)

    def _block(self, operation: Operation, client: Client, entries: list[Entry]) -> bool:
        requests = [self._request(entry, max_retries=entry.max_retries) for entry in entries]
        limiter = self._mixture.blocking_limiter
        left = _first(operation.leave_after)
        kind = operation.number % 3
        taken = 0
        if kind == 0:
            for entry in entries:
                with self._ledger.watching(entry):
                    answer = client.complete(self._request(entry), max_retries=entry.max_retries)
                    self._ledger.completed(entry, answer)
            return False
        if kind == 1:
            with blocking.fan_out_chunks(
                client, requests, limit=limiter, buffer=operation.buffer
            ) as events:
                for event in events:
                    entry = entries[event.index]
                    taken += 1
                    if isinstance(event, ChunkEvent):
                        choices = event.chunk.choices
                        entry.text += "".join(choice.delta.content or "" for choice in choices)
                    elif event.error is not None:
                        self._ledger.failed(entry, event.error)
                    else:
                        self._ledger.completed(entry, event.unwrap())
                    if taken == left:
                        break
            return taken == left

        def ask(entry: Entry) -> penstock.ChatCompletion:
            return client.complete(self._request(entry), max_retries=entry.max_retries)

        with blocking.fan_out(ask, entries, limit=limiter) as results:
            for result in results:
                self._note(result)
                taken += 1
                if taken == left:
                    break
        return taken == left

    async def upload(
        self, operation: Operation, client: AsyncClient, entries: list[Entry], opened: Any
    ) -> bool:
        """A large request, which a server answers before it has read it, if it ever does."""
        (entry,) = entries
        self._ledger.end(entry, "unsent", "upload")
        self._mixture.uploads += 1
        text = "x" * (400_000 + 100_000 * (operation.number % 20))
        request = self._request(entry, messages=[{"role": "user", "content": text}])
        try:
            await self._mixture.uploader.complete(request, max_retries=0)
        except (penstock.APITimeoutError, penstock.StreamClosedError):
            pass
        except penstock.APIStatusError as error:
            if error.status_code != 413:
                self._ledger.violation(f"an upload raised {error!r}")
        except penstock.APIConnectionError as error:
            if type(error) is not penstock.APIConnectionError:
                self._ledger.violation(f"an upload raised {error!r}")
        else:
            self._ledger.violation("an upload that was refused is complete")
        return False

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
        Performer.generator,
        Performer.elsewhere,
        Performer.blocking,
        Performer.upload,
        Performer.fan_out_chunks,
        Performer.fan_out_channels,
        Performer.race,
    )
}
