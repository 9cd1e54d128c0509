"""`fan_out_chunks`: many streamed completions, merged as they arrive."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Self

import anyio
import msgspec

from .._call.stream import CompletionStream, forward_tokens
from .._limiter.limiter import Limiter
from .._limiter.slots import Slot
from ..observing.events import GroupKind
from ..types import ChatCompletion, ChatCompletionChunk
from .cancellation import cancelled_by_itself
from .feed import Feed, Source
from .requests import HasCompletions, Request, check_client, open_stream
from .results import ResultEvent as OneResultEvent

if TYPE_CHECKING:
    # In two classes, as `Result` is.
    from .results import AnyResultEvent as ResultEvent
else:
    from .results import ResultEvent

__all__ = ["ChunkEvent", "ChunkFeed", "ResultEvent", "fan_out_chunks"]


class ChunkEvent(msgspec.Struct, frozen=True, gc=False):
    """One chunk of one of the requests."""

    index: int
    """Position of the request in the source, from 0."""
    request: Request
    """The request itself, as it came from the source."""
    chunk: ChatCompletionChunk
    """The chunk, as a stream of its own would give it."""


class _Batch:
    """The chunks of one network read: one entry in the feed, many events outside."""

    __slots__ = ("chunks", "index", "position", "request")

    def __init__(self, index: int, request: Request, chunks: list[ChatCompletionChunk]) -> None:
        self.index = index
        self.request = request
        self.chunks = chunks
        self.position = 0


class ChunkFeed(Feed[Request, "ChunkEvent | _Batch | ResultEvent"]):
    """Async iterator of `ChunkEvent` and `ResultEvent`; made by `fan_out_chunks`."""

    kind: ClassVar[GroupKind] = "fan_out_chunks"
    reads_per_turn = 32

    def __init__(
        self,
        client: HasCompletions,
        requests: Source[Request],
        limit: int | Limiter,
        buffer: int | None,
    ) -> None:
        super().__init__(requests, limit)
        if buffer is not None and buffer < 1:
            raise ValueError(f"buffer is {buffer}: give a positive number of network reads")
        check_client(client)
        self._client = client
        self._buffer = self._limit if buffer is None else buffer
        self._batch: _Batch | None = None
        self._delivered = 0
        self._caught_up: anyio.Event | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChunkEvent | ResultEvent:
        """Return the next event. Cancelled, it loses nothing."""
        batch = self._batch
        if batch is None:
            # No further call where a post is ready (saves 4 % with the two lines below).
            posts = self._posts
            if posts and self._reads_left and self._news is None and self._caught_up is None:
                self._reads_left -= 1
                post: ChunkEvent | _Batch | ResultEvent | None = posts.popleft()
            else:
                post = await self._next_post()
            if isinstance(post, ChunkEvent):
                return post
            if post is None:
                raise StopAsyncIteration
            if isinstance(post, ResultEvent):
                self._delivered += 1
                self._consumed()
                return post
            self._batch = batch = post
        position = batch.position
        batch.position = position + 1
        if batch.position == len(batch.chunks):
            self._batch = None
        return ChunkEvent(batch.index, batch.request, batch.chunks[position])

    async def read_batch(self) -> list[ChunkEvent | ResultEvent]:
        """Return the next event and all that wait behind it; [] at the end.

        For callers that pass events on in bulk. Cancelled, it loses nothing.
        """
        try:
            events = [await self.__anext__()]
        except StopAsyncIteration:
            return []
        while self._batch is not None or (self._posts and self._reads_left):
            # Returned without suspending: a cancellation here would lose events.
            events.append(await self.__anext__())
        return events

    async def _child(self, index: int, item: Request, slot: Slot) -> None:
        completion: ChatCompletion | None = None
        failure: Exception | None = None
        stream: CompletionStream | None = None
        try:
            stream = opened = open_stream(self._client, item)
            async with opened:
                forward_tokens(opened, _Sink(index, item, self._has_room, self._put))
                while chunks := await opened.read_batch():
                    self._post(_Batch(index, item, chunks))
                    # A stream waits for room after it has posted, not before: so no task that
                    # may be cancelled holds a batch. Each stream exceeds the bound by at most
                    # one network read.
                    if len(self._posts) > self._buffer:
                        await self._catch_up()
            # Nothing is left to read; this checks the answer against a type as response_format.
            completion = await opened.collect()
        except Exception as error:  # noqa: BLE001 - errors are values here
            failure = error
        except anyio.get_cancelled_exc_class():  # noqa: ASYNC103 - a task that was not cancelled goes on
            if not cancelled_by_itself():
                raise
            failure = RuntimeError("the completion raised a cancellation by itself")
        statistics = None if stream is None else stream.statistics()
        result: Any = OneResultEvent(index, item, completion, failure, statistics)
        self._post(result)

    async def _catch_up(self) -> None:
        """Return when the consumer has caught up."""
        if self._caught_up is None:
            self._caught_up = anyio.Event()
        await self._caught_up.wait()

    def _has_room(self) -> bool:
        """Return True if a stream may post what has arrived without waiting behind it."""
        return len(self._posts) < self._buffer

    def _put(self, event: ChunkEvent) -> None:
        """Post a token where it arrives."""
        posts = self._posts
        posts.append(event)
        if len(posts) == 1:  # else the reader has been told
            self._tell()

    def _may_pull(self) -> bool:
        limit = self._limit
        return self._pulled - self._delivered < limit + self._buffer

    def _take(self) -> ChunkEvent | _Batch | ResultEvent:
        post = self._posts.popleft()
        if self._caught_up is not None and len(self._posts) <= self._buffer:
            # Wake all of them, since the server of any one may be silent now.
            self._caught_up.set()
            self._caught_up = None
        return post

    def _leave(self) -> None:
        super()._leave()
        self._batch = None


class _Sink:
    """Posts a stream's tokens where they arrive, so that its task sleeps on.

    Two tasks were woken for each token otherwise, the stream's and the consumer's.
    """

    __slots__ = ("_has_room", "_index", "_put", "_request")

    def __init__(
        self,
        index: int,
        request: Request,
        has_room: Callable[[], bool],
        put: Callable[[ChunkEvent], None],
    ) -> None:
        self._index = index
        self._request = request
        self._has_room = has_room
        self._put = put

    def has_room(self) -> bool:
        return self._has_room()

    def put(self, chunk: ChatCompletionChunk) -> None:
        self._put(ChunkEvent(self._index, self._request, chunk))


def fan_out_chunks(
    client: HasCompletions,
    requests: Source[Request],
    *,
    limit: int | Limiter = 64,
    buffer: int | None = None,
) -> ChunkFeed:
    """Stream many completions at once; their chunks arrive merged, each request's in order.

    `requests` is an iterable or async iterable of the keyword arguments of `create()`, pulled
    lazily: a request is taken only when it can start. At most `limit` are in flight (a number,
    or a `Limiter` shared with others). At most `buffer` network reads (default: `limit`) wait
    for the consumer: when it is slow, the streams stop reading.

        async with fan_out_chunks(client, requests, limit=8) as events:
            async for event in events:
                if isinstance(event, ResultEvent):
                    ...

    Yields `ChunkEvent`s, then one `ResultEvent` for each request, with its completion or
    its error: a request that fails does not affect the others. An error of the source is
    raised after the last result. Leaving the block, for whatever reason, closes every
    connection first; an exception of the body leaves the block unchanged. A cancelled read
    loses nothing.

    Raises TypeError for a source, client or limit of another type, ValueError for a `buffer`
    below 1. One task reads at a time, else StreamBusyError; reading after the block was left
    raises StreamClosedError.
    """
    return ChunkFeed(client, requests, limit, buffer)
