"""`run`: the rows of any source, asked, and their outcomes as they come."""

from __future__ import annotations

from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from types import TracebackType
from typing import Any, Self

from .._client.spread import Spread
from .._limiter.limiter import Limiter
from .._many.feed import Source
from .asking import Asker, OnCut, Policy
from .feed import Item, RowFeed
from .outcomes import Failure, Outcome
from .rows import InvalidRow, Params, Request, invalid_id, row_of
from .stops import BatchStopped, Stop

__all__ = ["Run", "client_of", "limiter_of", "refused_row", "run"]


class Run:
    """Async context manager and async iterator of `Outcome`; made by `run`."""

    def __init__(
        self,
        client: Any,
        requests: Source[Request],
        limiter: Limiter,
        policy: Policy,
        params: Params,
    ) -> None:
        self._asker = Asker(
            client,
            limiter,
            policy,
            on_stop=self._stop,
            on_wait=self._row_waits,
        )
        self._feed = RowFeed(self._asker, items_of(requests, params), limiter)

    def _stop(self, stop: Stop) -> None:
        self._feed.stop(stop)

    def _row_waits(self) -> None:
        self._feed.row_waits()

    async def __aenter__(self) -> Self:
        await self._feed.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._feed.__aexit__(exc_type, exc, traceback)  # noqa: ASYNC102 - closing shields what it must

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome:
        """Return the next outcome. Cancelled, it loses nothing.

        Raises BatchStopped after the last one if the run has stopped.
        """
        outcome = await self._feed.next()
        if outcome is not None:
            return outcome
        stopped = self._asker.stopped
        if stopped is not None:
            raise BatchStopped(stopped.message, reason=stopped.reason)
        raise StopAsyncIteration


def run(
    client: Any,
    requests: Source[Request],
    *,
    limit: int | Limiter = 64,
    max_retries: int = 5,
    patience: float = 300.0,
    on_cut: OnCut = "retry",
    stream: bool = False,
    params: Mapping[str, Any] | None = None,
) -> Run:
    """Ask every request of a source, at most `limit` at once, and yield an `Outcome` for each.

        async with batch.run(client, requests) as outcomes:
            async for outcome in outcomes:
                ...

    `client` is a client, a `Spread`, or a list of clients to spread the requests over. `requests`
    is an iterable or async iterable, pulled as requests can start. Outcomes come as they are
    completed; `index` tells their order. `limit` is a number, which adapts to what the server
    bears, or a `Limiter`. `params` are put into every body, over what it has. With `stream`
    completions are streamed inside, and collected.

    A row never raises: its failure is `outcome.error`. It is asked again, whole, after a timeout,
    a server error, an answer cut off, an error inside a 200 and a lost connection, at most
    `max_retries` times, and 20 times after an overload (429, 503, 529). A server that is away
    counts against no row: all wait, until there was no answer for `patience` seconds. With
    `on_cut="fail"` an answer that was cut off is not asked for again.

    Raises BatchStopped after the last outcome if the run stopped: the account was refused, 100
    rows failed one after the other, or `patience` ended. Rows without an outcome have not failed.
    An error of the source is raised after the last outcome. Leaving the block closes every
    connection at once. ValueError or TypeError for arguments that make no sense.
    """
    client = client_of(client)
    policy = Policy(max_retries, patience, on_cut, stream)
    return Run(client, requests, limiter_of(limit), policy, Params(params))


def client_of(client: Any) -> Any:
    """Return the client itself, or a Spread over several. TypeError if it is neither."""
    if isinstance(client, (list, tuple)):
        return Spread(client)  # pyright: ignore[reportUnknownArgumentType]
    if not callable(getattr(client, "request", None)):
        raise TypeError(f"client must be a penstock.AsyncClient, not {type(client).__name__}")
    return client


def limiter_of(limit: int | Limiter) -> Limiter:
    """Return the limiter itself, or one that adapts, with this number at most."""
    if isinstance(limit, bool) or not isinstance(limit, (int, Limiter)):
        raise TypeError(f"limit must be a number or a Limiter, not {limit!r}")
    return Limiter(limit, adaptive=True) if isinstance(limit, int) else limit


def refused_row(index: int, error: InvalidRow, text: bytes, code: str = "invalid_row") -> Outcome:
    """Return the outcome of what cannot be asked, written as `text`."""
    failure = Failure(code, str(error))
    return Outcome(index, error.custom_id, invalid_id(text), None, None, b"", failure, 0, 0.0, 0.0)


def items_of(requests: Any, params: Params) -> Source[Item]:
    """Return the requests of a source as what a feed pulls, lazily."""
    if isinstance(requests, AsyncIterable):
        return _Items(requests, params)  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(requests, Iterable):
        return _items(iter(requests), params)  # pyright: ignore[reportUnknownArgumentType]
    return requests  # type: ignore[no-any-return]  # the feed says what is wrong


def _items(requests: Iterator[Request], params: Params) -> Generator[Item]:
    try:
        for index, request in enumerate(requests):
            yield _item(index, request, params)
    finally:
        if isinstance(requests, Generator):
            requests.close()


class _Items:
    """The same of an async source."""

    def __init__(self, requests: AsyncIterable[Request], params: Params) -> None:
        self._requests: AsyncIterator[Request] = aiter(requests)
        self._params = params
        self._index = 0

    def __aiter__(self) -> AsyncIterator[Item]:
        return self

    async def __anext__(self) -> Item:
        request = await anext(self._requests)
        index = self._index
        self._index += 1
        return _item(index, request, self._params)

    async def aclose(self) -> None:
        close: Any = getattr(self._requests, "aclose", None)
        if close is not None:
            await close()


def _item(index: int, request: object, params: Params) -> Item:
    try:
        if isinstance(request, InvalidRow):
            raise request
        if not isinstance(request, Request):
            raise InvalidRow(f"a {type(request).__name__} is not a penstock.batch.Request")
        return index, row_of(request, params)
    except InvalidRow as error:
        return refused_row(index, error, repr(request).encode("utf-8", "replace"))
