"""`fan_out_channels`: many streamed completions, each in a bounded channel of its own."""

from __future__ import annotations

from collections import deque
from typing import ClassVar, Self

import anyio
import anyio.lowlevel
import msgspec
from anyio.abc import ObjectReceiveStream

from .._call.stream import CompletionStream, forward_tokens
from .._limiter.limiter import Limiter
from .._limiter.slots import Slot
from ..errors import StreamBusyError, StreamClosedError
from ..observing.events import GroupKind
from ..observing.figures import StreamStatistics
from ..types import ChatCompletion, ChatCompletionChunk
from .cancellation import cancelled_by_itself
from .feed import Feed, Source
from .requests import HasCompletions, Request, check_client, open_stream
from .wakeup import Wakeup, new_wakeup

__all__ = ["ChannelFeed", "ChunkReceiveStream", "CompletionChannel", "fan_out_channels"]

# Chunks received in a row, after which the receiver has given the other tasks a turn.
READS_PER_TURN = 32


class ChunkReceiveStream(ObjectReceiveStream[ChatCompletionChunk]):
    """The receiving end of a channel: an anyio receive stream of chunks that any task may own.

    It ends (EndOfStream, or the end of `async for`) when the completion is complete. An error of
    the completion is raised after the chunks that came before it, with `partial`. A cancelled
    `receive` loses nothing. One task receives at a time.
    """

    def __init__(self, buffer: int) -> None:
        self._buffer = buffer
        self._chunks: deque[ChatCompletionChunk] = deque()
        self._news: Wakeup | None = None
        self._room: Wakeup | None = None
        self.stream: CompletionStream | None = None
        """The stream that the chunks are read from; None if the request was not valid."""
        self._ended = False
        self._error: Exception | None = None
        self._closed = False
        self._reads_left = READS_PER_TURN

    async def receive(self) -> ChatCompletionChunk:
        """Return the next chunk. Cancelled, it loses nothing.

        Raises anyio.EndOfStream after the last chunk, or the completion's error instead;
        anyio.ClosedResourceError if this end was closed; StreamBusyError if another task
        receives.
        """
        if self._news is not None:
            raise StreamBusyError("another task is receiving from this channel")
        await anyio.lowlevel.checkpoint_if_cancelled()
        if self._reads_left:
            self._reads_left -= 1
        else:
            # A turn for the others, however many chunks are ready.
            self._reads_left = READS_PER_TURN
            await anyio.lowlevel.checkpoint()
        while not self._chunks:
            if self._closed:
                raise anyio.ClosedResourceError
            if self._error is not None:
                # The completion may have been cancelled together with this task, and first.
                await anyio.lowlevel.checkpoint_if_cancelled()
                raise self._error
            if self._ended:
                raise anyio.EndOfStream
            self._news = new_wakeup()
            try:
                await self._news.wait()
            finally:
                self._news = None
        chunk = self._chunks.popleft()
        if self._room is not None:
            self._room.set()
        return chunk

    async def aclose(self) -> None:
        """Give the completion up; close its connection at once, even if the server is silent."""
        self._closed = True
        self._chunks.clear()
        self._tell()
        if self.stream is not None:
            await self.stream.aclose()

    # --- the sending end ---

    async def send_all(self, chunks: list[ChatCompletionChunk]) -> None:
        """Put the chunks into the channel, waiting for room; does nothing once it is closed."""
        for chunk in chunks:
            while len(self._chunks) >= self._buffer and not self._closed:
                self._room = new_wakeup()
                try:
                    await self._room.wait()
                finally:
                    self._room = None
            if self._closed:
                return
            self._chunks.append(chunk)
            if self._news is not None:
                self._news.set()

    def has_room(self) -> bool:
        """Return True if `put` may be called."""
        return len(self._chunks) < self._buffer and not (self._closed or self._ended)

    def put(self, chunk: ChatCompletionChunk) -> None:
        """Put a chunk into the channel where it arrives, while no `send_all` waits."""
        self._chunks.append(chunk)
        if self._news is not None:
            self._news.set()

    def finish(self, error: Exception | None) -> None:
        """Say that no further chunk comes, and why if it is for an error."""
        self._ended = True
        self._error = error
        self._tell()

    def cut(self) -> None:
        """Say that the fan-out was left: chunks not yet received are lost."""
        if not self._ended:
            self.finish(StreamClosedError("the block of this fan-out has been left"))

    @property
    def is_closed(self) -> bool:
        """True if this end was closed."""
        return self._closed

    def _tell(self) -> None:
        for wakeup in (self._news, self._room):
            if wakeup is not None:
                wakeup.set()


class CompletionChannel(msgspec.Struct, frozen=True, eq=False):
    """One of the requests, and the channel that its chunks come through."""

    index: int
    """Position of the request in the source, from 0."""
    request: Request
    """The request itself, as it came from the source."""
    receive: ChunkReceiveStream
    """The chunks: an anyio receive stream. Closing it gives the completion up."""

    @property
    def partial(self) -> ChatCompletion:
        """The completion as received from the server so far; the whole at the end."""
        stream = self.receive.stream
        return ChatCompletion() if stream is None else stream.partial

    def statistics(self) -> StreamStatistics | None:
        """Return the figures of the stream; None if the request was not valid and never sent."""
        stream = self.receive.stream
        return None if stream is None else stream.statistics()

    async def aclose(self) -> None:
        """Give the completion up and close its connection at once."""
        await self.receive.aclose()


class ChannelFeed(Feed[Request, CompletionChannel]):
    """Async iterator of `CompletionChannel`; made by `fan_out_channels`."""

    kind: ClassVar[GroupKind] = "fan_out_channels"

    def __init__(
        self,
        client: HasCompletions,
        requests: Source[Request],
        limit: int | Limiter,
        buffer: int,
    ) -> None:
        super().__init__(requests, limit)
        if buffer < 1:
            raise ValueError(f"buffer is {buffer}: give a positive number of chunks")
        check_client(client)
        self._client = client
        self._buffer = buffer
        self._open: set[ChunkReceiveStream] = set()
        self._taken = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> CompletionChannel:
        """Return the next channel once its request is admitted. Cancelled, it loses nothing."""
        channel = await self._next_post()
        if channel is None:
            raise StopAsyncIteration
        self._taken += 1
        self._consumed()
        return channel

    async def _child(self, index: int, item: Request, slot: Slot) -> None:
        receive = ChunkReceiveStream(self._buffer)
        self._open.add(receive)
        try:
            try:
                receive.stream = stream = open_stream(self._client, item)
            finally:
                self._post(CompletionChannel(index, item, receive))
            async with stream:
                forward_tokens(stream, receive)
                while chunks := await stream.read_batch():
                    await receive.send_all(chunks)
                    if receive.is_closed:
                        return
        except Exception as error:  # noqa: BLE001 - raised where the channel is read
            receive.finish(error)
        except anyio.get_cancelled_exc_class():  # noqa: ASYNC103 - a task that was not cancelled goes on
            if not cancelled_by_itself():
                raise
            receive.finish(RuntimeError("the completion raised a cancellation by itself"))
        else:
            receive.finish(None)
        finally:
            self._open.discard(receive)
            receive.cut()

    def _may_pull(self) -> bool:
        # A limit for channels that nobody has taken yet, since an answer that fits into its
        # channel frees its slot. And a limit for those that go on: a request that waits to be
        # sent again holds no slot, and must not lose it to a channel that nobody reads.
        limit = self._limit
        return self._pulled - self._taken < limit and self._running < limit

    def _leave(self) -> None:
        super()._leave()
        for receive in self._open:
            receive.cut()


def fan_out_channels(
    client: HasCompletions,
    requests: Source[Request],
    *,
    limit: int | Limiter = 64,
    buffer: int = 16,
) -> ChannelFeed:
    """Stream many completions at once, each into a bounded channel that any task may own.

        async with fan_out_channels(client, requests, limit=8) as channels:
            async for channel in channels:
                group.start_soon(consume, channel)

    A channel is handed out as soon as its request is admitted; `channel.receive` is an anyio
    receive stream of chunks. It holds at most `buffer` chunks: when its owner is slow, that
    completion's connection is not read, and no other is held back. An error is raised in the
    reader of its channel. Closing a channel closes its connection at once.

    The loop ends when every completion has ended or its channel was closed. A channel that
    nobody reads keeps its slot. So a consumer deadlocks if it needs more channels open at once
    than `limit`, or than the client's own limiter has slots, or if it reads none before the
    loop ends. Leaving the block closes every connection; readers elsewhere get
    StreamClosedError.

    Raises TypeError for a source, client or limit of another type, ValueError for a `buffer`
    below 1.
    """
    return ChannelFeed(client, requests, limit, buffer)
