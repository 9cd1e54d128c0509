"""What passes through one connection, kept as tapes: one for each request and its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio

from .._http import lazy
from .requests import NotHTTP, RequestReader, ResponseEnd
from .transcript import ExchangeEnd, Segment

if TYPE_CHECKING:
    import ssl

    from .script import RecordedRequest


class Tape:
    """One request, and the answer to it so far."""

    def __init__(self, request: RecordedRequest) -> None:
        self.request: RecordedRequest = request
        """The request as it was sent, with its secrets."""
        self.segments: list[Segment] = []
        """What each read returned."""
        self.end: ExchangeEnd | None = None
        """How it ended; None while it has not."""
        self.ended_at: float = 0.0
        """When it ended, in seconds after the request."""
        self.waits_in_vain: bool = False
        """True if the last wait for the server was cancelled, perhaps by a deadline."""
        self._response = ResponseEnd(request.method, request.target)

    @property
    def broken_off(self) -> bool:
        """True if a cancellation or a deadline ended it, before the answer was all there."""
        return self.waits_in_vain and self.end == "client closed" and not self._response.answered

    def add(self, data: bytes) -> None:
        """Take what a read returned."""
        self.waits_in_vain = False
        self.segments.append(Segment(self._now(), data))
        if self.end is None and self._response.feed(data):
            self.end, self.ended_at = "kept", self.segments[-1].at

    def finish(self, end: ExchangeEnd) -> None:
        """Note how it ended, unless the response was whole before."""
        if self.end is None:
            self.end, self.ended_at = end, self._now()

    def _now(self) -> float:
        return round(anyio.current_time() - self.request.time, 6)


class TapedStream(lazy.httpcore.AsyncNetworkStream):
    """A stream that changes nothing, and adds a tape to `tapes` for each request.

    `ended` is called once for each of them, when its answer is whole or its connection over.
    Another protocol passes without a tape.
    """

    def __init__(
        self,
        inner: lazy.httpcore.AsyncNetworkStream,
        tapes: list[Tape],
        ended: Callable[[Tape], None] = lambda tape: None,
    ) -> None:
        self._inner = inner
        self._tapes = tapes
        self._ended = ended
        self._own: list[Tape] = []
        self._requests: RequestReader | None = RequestReader()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read, and keep what is read."""
        try:
            data = await self._inner.read(max_bytes, timeout)
        except lazy.httpcore.NetworkError:
            self._finish("reset")
            raise
        except BaseException:
            if self._own:
                self._own[-1].waits_in_vain = True
            raise
        if not data:
            self._finish("server closed")
        elif self._own:
            tape = self._own[-1]
            before = tape.end
            tape.add(data)
            if before is None and tape.end is not None:
                self._ended(tape)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write, and begin a tape where a request is complete."""
        now = anyio.current_time()
        await self._inner.write(buffer, timeout)
        if self._requests is None:
            return
        try:
            requests = self._requests.feed(buffer, connection=0, time=now)
        except NotHTTP:  # another protocol, such as SOCKS
            self._requests = None
            return
        for request in requests:
            tape = Tape(request)
            self._own.append(tape)
            self._tapes.append(tape)

    async def aclose(self) -> None:
        """Close."""
        self._finish("client closed")
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> TapedStream:
        """Return a stream over TLS that goes on with the tapes."""
        stream = await self._inner.start_tls(ssl_context, server_hostname, timeout)
        self._tapes[:] = [
            tape
            for tape in self._tapes
            if tape not in self._own  # with a proxy, which is not the server
        ]
        return TapedStream(stream, self._tapes, self._ended)

    def get_extra_info(self, info: str) -> Any:
        """Answer as the stream behind it does."""
        return self._inner.get_extra_info(info)

    def _finish(self, end: ExchangeEnd) -> None:
        if self._own and self._own[-1].end is None:
            self._own[-1].finish(end)
            self._ended(self._own[-1])
