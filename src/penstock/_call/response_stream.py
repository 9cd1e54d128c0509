"""The bytes of any endpoint's response, with the guarantees of a completion stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from .._http.exchange import Exchange
from .._http.network import ConnectionFailed
from .._wire.endings import Ending, ending_of
from ..errors import APITimeoutError, PenstockError
from .base_stream import BaseStream
from .body import BodyReader
from .call import Call, Service
from .faults import UNREADABLE

__all__ = ["ResponseStream"]


class _Bytes:
    """The decoder of what is not decoded."""

    __slots__ = ("done", "error", "events", "finished_all", "token_seen")

    def __init__(self) -> None:
        self.done = False
        self.error: PenstockError | None = None
        self.token_seen = False
        self.finished_all = False
        self.events = 0

    def feed(self, data: bytes) -> Sequence[bytes]:
        self.token_seen = True
        return [data]

    def end(self) -> Sequence[bytes]:
        self.token_seen = False
        self.done = True
        return ()


class _Watched(_Bytes):
    """The same, with an eye on where an event stream ends."""

    __slots__ = ("_ending",)

    def __init__(self, ending: Ending) -> None:
        super().__init__()
        self._ending = ending

    def feed(self, data: bytes) -> Sequence[bytes]:
        self.token_seen = True
        self._ending.feed(data)
        # From then on silence is an end as well, and so is a failure of the connection.
        self.finished_all = self._ending.done
        return [data]

    def end(self) -> Sequence[bytes]:
        self.error = None if self.finished_all else self._ending.end()
        self.token_seen = False
        self.done = self.error is None
        return ()


class _BytesReader(BodyReader[bytes]):
    __slots__ = ()

    def new_decoder(self, exchange: Exchange) -> _Bytes:
        call = self.sender.call
        ending = None
        if call.check_end and exchange.status < 300:
            outgoing = call.outgoing
            ending = ending_of(outgoing.method, outgoing.target, exchange.headers)
        return _Bytes() if ending is None else _Watched(ending)

    async def _broken(self, error: Exception) -> bool:
        decoder = self._decoder
        if (
            decoder is not None
            and decoder.finished_all
            and isinstance(error, (ConnectionFailed, APITimeoutError, *UNREADABLE))
        ):
            self._exchange.expect_no_end()
            return self._digest(decoder, b"")
        return await super()._broken(error)


@final
class ResponseStream(BaseStream[bytes]):
    """The body of one response as it arrives: an async iterator of `bytes`, never empty.

    Made by `client.stream(...)` without any I/O. The request is sent by `async with`, or by the
    first read when used without it. The transfer coding and content coding are removed. Iteration
    ends at the proper end of the body; any other end is an error.

    Leaving `async with` closes the connection at once, unless the body was read to its end. A
    cancelled read loses nothing and can be repeated. One task reads at a time; any task may
    close. `Timeouts.first_token` and `idle` count any bytes as progress.
    """

    __slots__ = ()

    def __init__(self, service: Service, call: Call) -> None:
        super().__init__(_BytesReader(service, call))

    @property
    def http_version(self) -> str:
        """The version in the response's status line, "HTTP/1.1"; "" until it is in."""
        exchange = self._reader.sender.exchange
        return "" if exchange is None else exchange.http_version.decode("ascii")

    @property
    def reason_phrase(self) -> str:
        """What the status line says after the status, perhaps nothing; "" until it is in."""
        exchange = self._reader.sender.exchange
        return "" if exchange is None else exchange.reason_phrase.decode("latin-1")

    async def read(self) -> bytes:
        """Read what is left of the body and return it.

        Cancelled, it loses nothing and may be called again. Raises as reading does.
        """
        reader = self._reader
        while await reader.fill():
            pass  # what is unread stays in the batch
        rest = b"".join(reader.batch[reader.pos :])
        reader.pos = len(reader.batch)
        return rest
