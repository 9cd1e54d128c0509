"""The tasks of a run: what each does with its calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

import penstock
from penstock import (
    ChunkEvent,
    CompletionChannel,
    Limiter,
    fan_out,
    fan_out_channels,
    fan_out_chunks,
    race,
)

from .caller import Cut, request_of
from .records import Call
from .script import Use
from .streams import StreamCaller

T = TypeVar("T")


class Tasks(StreamCaller):
    """Plays any use."""

    async def play(self, use: Use, calls: list[Call]) -> None:
        """All that this task does."""
        await anyio.sleep(use.start)
        perform = {
            "block": self._block,
            "bare": self._bare,
            "complete": self._complete,
            "race": self._race,
            "chunks": self._chunks,
            "results": self._results,
            "channels": self._channels,
        }[use.kind]
        try:
            await self._within(use.life, lambda: perform(use, calls))
        except Cut:
            # Readers elsewhere may be told that the block was left before they are cancelled.
            for call in calls:
                call.closed = True

    async def _complete(self, use: Use, calls: list[Call]) -> None:
        (call,) = calls
        try:
            self._whole(call, await self._client.complete(request_of(call)))
        except penstock.PenstockError as error:
            self._failed(call, error)
        call.undisturbed = use.life is None

    async def _race(self, use: Use, calls: list[Call]) -> None:
        requests = [request_of(call) for call in calls]
        running = race(self._client, requests, delay=use.delay, max_live=use.limit)
        try:
            async with running as stream:
                statistics = running.statistics()
                assert statistics.winner is not None
                for attempt in statistics.attempts:
                    lost = attempt.index != statistics.winner
                    self._expect(not lost or attempt.ended is not None, f"{attempt} goes on")
                await self._read(use, calls[statistics.winner], stream)
        except penstock.AllAttemptsFailed:
            pass
        finally:
            for attempt in running.statistics().attempts:
                if attempt.error is not None and attempt.ended is not None:
                    calls[attempt.index].error = attempt.error
                    calls[attempt.index].ended = attempt.ended

    async def _chunks(self, use: Use, calls: list[Call]) -> None:
        requests = [request_of(call) for call in calls]
        async with fan_out_chunks(
            self._client, requests, limit=self._limit(use), buffer=use.buffer
        ) as events:

            def take(event: Any) -> None:
                call = calls[event.index]
                if isinstance(event, ChunkEvent):
                    self._add(call, event.chunk)
                elif event.error is not None:
                    self._failed(call, event.error)
                else:
                    self._whole(call, event.completion)

            await self._take_all(use, calls, events.__anext__, take)

    async def _results(self, use: Use, calls: list[Call]) -> None:
        requests = [request_of(call) for call in calls]
        order: list[int] = []
        async with fan_out(
            self._client.complete,
            requests,
            limit=self._limit(use),
            buffer=use.buffer,
            ordered=use.ordered,
        ) as results:

            def take(result: Any) -> None:
                order.append(result.index)
                call = calls[result.index]
                if result.error is None:
                    self._whole(call, result.value)
                else:
                    self._failed(call, result.error)
                call.ended = result.ended
                call.undisturbed = use.life is None

            await self._take_all(use, calls, results.__anext__, take)
        self._expect(not use.ordered or order == list(range(len(order))), f"order {order}")

    def _limit(self, use: Use) -> int | Limiter:
        return self._limiter if use.shared else use.limit

    async def _take_all(
        self,
        use: Use,
        calls: list[Call],
        read: Callable[[], Awaitable[T]],
        take: Callable[[T], None],
    ) -> None:
        taken = 0
        while taken != use.stop:
            try:
                take(await self._repeated(use.reads, read))
            except StopAsyncIteration:
                ends = [call.completed or call.error is not None for call in calls]
                self._expect(all(ends), f"the end came, but not for all calls: {ends}")
                return
            taken += 1

    async def _channels(self, use: Use, calls: list[Call]) -> None:
        requests = [request_of(call) for call in calls]
        channels_at_once = self._limiter.statistics().limit if use.shared else use.limit
        async with (
            fan_out_channels(
                self._client, requests, limit=self._limit(use), buffer=use.buffer
            ) as channels,
            anyio.create_task_group() as owners,
        ):
            async for channel in channels:
                if channels_at_once == 1:
                    await self._own(use, calls, channel)
                else:
                    owners.start_soon(self._own, use, calls, channel)

    async def _own(self, use: Use, calls: list[Call], channel: CompletionChannel) -> None:
        call = calls[channel.index]
        try:
            while use.stop is None or len(call.text) < 3 * use.stop:
                self._add(call, await self._repeated(use.reads, channel.receive.receive))
        except anyio.EndOfStream:
            call.completed = True
            call.ended = anyio.current_time()
        except penstock.PenstockError as error:
            self._failed(call, error)
        except Cut:
            pass
        await channel.aclose()
