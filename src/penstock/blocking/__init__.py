"""penstock without `async`: the client, and the fan-outs for plain `with` and `for`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized
from inspect import iscoroutinefunction
from typing import Any, TypeVar

from .._limiter.limiter import Limiter
from .._many.chunks import ChunkFeed
from .._many.fan_out import FanOut
from .._many.race import Entry, Race
from .._many.requests import Request
from ._loop.block import Block
from ._loop.loop_thread import LoopThread
from ._loop.sources import in_threads, pulled_in_threads
from .client import Client
from .feeds import ChunkIterator, RaceBlock, ResultIterator
from .resources import Chat, Completions, Models
from .stream import Stream

__all__ = [
    "Chat",
    "ChunkIterator",
    "Client",
    "Completions",
    "Models",
    "RaceBlock",
    "ResultIterator",
    "Stream",
    "fan_out",
    "fan_out_chunks",
    "race",
]

T = TypeVar("T")
R = TypeVar("R")


def fan_out(
    fn: Callable[[T], R],
    items: Iterable[T],
    *,
    limit: int | Limiter = 64,
    buffer: int = 0,
    ordered: bool = False,
    window: int | None = None,
) -> ResultIterator[T, R]:
    """Call `fn` on every item, at most `limit` at once; `with` and `for` over the results.

        with fan_out(client.complete, requests, limit=32) as results:
            for result in results:
                completion = result.unwrap()

    As the async `fan_out`, with the same arguments. `client.complete` of a blocking client
    runs on the event loop, without threads. Any other function runs in worker threads, one
    for each call that is under way. So do the steps of the source, unless it is a list or
    the like: both may block, and use clients.

    Leaving the block ends every call: what blocking clients do in those threads is cancelled,
    with the connections closed before the block is left, and a StreamClosedError there. A
    function that does something else cannot be stopped; it is left behind, its result
    dropped. A generator is closed when it comes out of the step it is in.

    TypeError for an async function, or a source that is not iterable.
    """
    loop = LoopThread()
    owner = getattr(fn, "__self__", None)
    call: Any
    clients: list[LoopThread] = []
    if isinstance(owner, Client) and getattr(fn, "__func__", None) is Client.complete:
        call = owner.asynchronous.complete
        clients = [owner.loop]
    elif iscoroutinefunction(fn) or not callable(fn):
        raise TypeError(f"fn has to be a plain function here, not {fn!r}")
    else:
        call = in_threads(loop.workers, fn)
    source = pulled_in_threads(loop.workers, items)
    total = len(items) if isinstance(items, Sized) else None
    feed: FanOut[T, R] = FanOut(call, source, limit, buffer, ordered, window, total)
    return ResultIterator(Block(loop, feed, clients), feed)


def fan_out_chunks(
    client: Client,
    requests: Iterable[Request],
    *,
    limit: int | Limiter = 64,
    buffer: int | None = None,
) -> ChunkIterator:
    """Stream many completions at once, merged as they arrive; `with` and `for` over the events.

    As the async `fan_out_chunks`, with the same arguments; the source as that of `fan_out`.
    Leaving the block, for whatever reason, closes every connection first.
    """
    loop = LoopThread()
    source = pulled_in_threads(loop.workers, requests)
    if buffer is None and isinstance(limit, Limiter):
        # The default, found without an event loop.
        buffer = limit.line.limit.limit
    feed = ChunkFeed(client.asynchronous, source, limit, buffer)
    return ChunkIterator(Block(loop, feed, [client.loop]), feed)


def race(
    client: Client,
    requests: Iterable[Request | tuple[Client, Request]],
    *,
    delay: float | None = 0.0,
    max_live: int = 2,
) -> RaceBlock:
    """Run several requests against each other; `with` gives the stream of the winner.

    As the async `race`, with the same arguments; entries may be `(client, request)` pairs.
    """
    clients = {id(client): client}
    entries: list[Entry] = []
    for entry in requests:
        if isinstance(entry, tuple):
            other, request = entry
            clients[id(other)] = other
            entries.append((other.asynchronous, request))
        else:
            entries.append(entry)
    contest = Race(client.asynchronous, entries, delay, max_live)
    loops = [each.loop for each in clients.values()]
    return RaceBlock(contest, Block(LoopThread(), contest, loops))
