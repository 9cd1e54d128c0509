"""What every stream offers its user: opening, reading, closing, and what is known about it."""

from __future__ import annotations

import warnings
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import anyio

from .._http.exchange import Exchange
from .._wire.credentials import shown_target
from ..headers import Headers, request_id
from ..observing.figures import StreamStatistics
from .body import BodyReader, busy
from .lifecycle import Event, StreamState

__all__ = ["BaseStream", "exchange_of"]

T = TypeVar("T")


class BaseStream(Generic[T]):
    """An answer as it arrives: an async context manager and async iterator.

    Made without any I/O. The request is sent by `async with`, or by the first read when used
    without it. It may be opened, read and closed from different tasks; one task reads at a time.
    """

    __slots__ = ("__weakref__", "_reader")

    def __init__(self, reader: BodyReader[T]) -> None:
        self._reader = reader

    # --- opening and closing ---

    async def __aenter__(self) -> Self:
        """Send the request; returns when the head of a success response is in.

        Raises the errors of `PenstockError` that a request can meet. Raised or cancelled,
        nothing stays open.
        """
        await self._reader.enter()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        cancelled = exc is not None and isinstance(exc, anyio.get_cancelled_exc_class())
        await self._reader.aclose("cancelled" if cancelled else "abandoned")  # noqa: ASYNC102 - closing shields what it must

    async def open(self) -> None:
        """Send the request, and return when the head of a success response is in.

        For use without `async with`, to know the head before the first item. Read to the end
        then, or call `aclose()`. Raises as `async with` does; raised or cancelled, nothing stays
        open. Does nothing if the stream is open already.
        """
        await self._reader.enter(managed=self._reader.managed)

    async def aclose(self) -> None:
        """Close the connection at once, unless the answer was complete. Idempotent.

        From any task: one that is blocked in a read gets StreamClosedError.
        """
        await self._reader.aclose("abandoned")

    def abandon(self) -> None:
        """Close the connection now, without waiting; for the `__del__` of an owner. Idempotent.

        Where it is possible to wait, `aclose()` is right: it also tells the observer.
        """
        sender = self._reader.sender
        sender.advance(Event.CLOSE)
        sender.abort()

    def __del__(self) -> None:
        if globals()["warnings"] is None:  # as in AsyncClient
            return
        reader = getattr(self, "_reader", None)
        if reader is None:
            return
        sender = reader.sender
        if sender.reports is not None:
            sender.reports.soon(partial(reader.report, "abandoned", None))
        if sender.exchange is None or sender.exchange.settled:
            return
        completed = sender.state is StreamState.COMPLETED
        sender.abort()
        if not completed and not sender.call.quiet:
            warnings.warn(
                f"unclosed {self!r}: use `async with`, or call aclose()",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )

    # --- reading ---

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        """Return the next item. Cancelled, it loses nothing; StopAsyncIteration means completed."""
        # The usual cases without another coroutine: a read brings many items, or the next token
        # is put into the batch where it arrives (saves 9 % of a live token).
        reader = self._reader
        if reader.reading:
            raise busy()
        if reader.pos == len(reader.batch):
            waiter = reader.wait()
            if waiter is not None:
                reader.reading = True
                try:
                    await waiter
                except BaseException:
                    reader.cancelled()
                    raise
                reader.reading = False
                if reader.pos == len(reader.batch):
                    reader.woken()
            if reader.pos == len(reader.batch) and not await reader.fill():
                raise StopAsyncIteration
        pos = reader.pos
        reader.pos = pos + 1
        return reader.batch[pos]

    async def read_batch(self) -> list[T]:
        """Return all items that the next network read brings, or that wait already; [] at the end.

        For those who pass them on in bulk. Cancelled, it loses nothing.
        """
        reader = self._reader
        if reader.pos == len(reader.batch) and not await reader.fill():
            return []
        items = reader.batch[reader.pos :]
        reader.pos = len(reader.batch)
        return items

    def receive_nowait(self) -> T:
        """Return the next item if it has been read already; raises anyio.WouldBlock if not."""
        reader = self._reader
        pos = reader.pos
        if pos == len(reader.batch):
            raise anyio.WouldBlock
        reader.pos = pos + 1
        return reader.batch[pos]

    async def fill(self) -> bool:
        """Read the network until further items can be received; False when completed.

        Cancelled, it loses nothing. Raises as reading does.
        """
        return await self._reader.fill()

    # --- what is known about it ---

    @property
    def state(self) -> StreamState:
        """new, sending, waiting, open, flowing, completed, failed or closed."""
        return self._reader.sender.state

    @property
    def status_code(self) -> int | None:
        """The response's HTTP status, once there is one."""
        exchange = self._reader.sender.exchange
        return None if exchange is None or not exchange.status else exchange.status

    @property
    def headers(self) -> Headers:
        """The response's headers; empty until they are in."""
        return self._reader.headers

    @property
    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """The response's header lines as they came, in order; empty until they are in."""
        exchange = self._reader.sender.exchange
        return [] if exchange is None else list(exchange.raw_headers)

    @property
    def request_id(self) -> str | None:
        """The server's id of the request, when it gave one."""
        return request_id(self.headers)

    def statistics(self) -> StreamStatistics:
        """Numbers of this moment."""
        return self._reader.statistics()

    def __repr__(self) -> str:
        call = self._reader.sender.call
        model, target = call.model, call.outgoing.target
        what = shown_target(target) if model is None else repr(model)
        return f"<{type(self).__name__} {what} {self.state.value}>"


def exchange_of(stream: BaseStream[Any]) -> Exchange | None:
    """Return the exchange of a stream's present or last attempt; None while it has none."""
    return stream._reader.sender.exchange  # pyright: ignore[reportPrivateUsage] - of this module
