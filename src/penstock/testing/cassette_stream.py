"""A connection that answers each request from a recording, or passes it to the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from .._http import lazy
from .memory import MemoryNetwork, MemoryStream
from .not_recorded import NotRecordedError
from .requests import NotHTTP, RequestReader
from .script import reply

if TYPE_CHECKING:
    import ssl

    from .script import RecordedRequest
    from .tape import TapedStream
    from .transcript import Exchange

_TUNNEL = b"HTTP/1.1 200 OK\r\n\r\n"

Stream = lazy.httpcore.AsyncNetworkStream


class CassetteStream(lazy.httpcore.AsyncNetworkStream):
    """The client's end of a connection; the server's is chosen for each request.

    No connection is made before a request needs the server. What came before it, a proxy's
    CONNECT and TLS, is then made up for.
    """

    def __init__(
        self,
        dial: Callable[[], Awaitable[Stream]],
        taped: Callable[[Stream], TapedStream],
        recording_of: Callable[[RecordedRequest], Exchange | None],
    ) -> None:
        self._dial = dial
        self._taped = taped
        self._recording_of = recording_of
        self._requests = RequestReader()
        self._unanswered = b""  # of a request that is not complete
        self._prologue: list[bytes | tuple[ssl.SSLContext, str | None]] = []
        self._source: Stream | None = None  # what answers now
        self._playing: Exchange | None = None
        self._closed = False
        self._failure = ""
        self._changed = anyio.Event()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return bytes of the answer; before there is a whole request, wait."""
        with anyio.move_on_after(timeout):
            while self._source is None:
                if self._closed or self._failure:
                    raise lazy.httpcore.ReadError(self._failure or "the stream was closed")
                await self._changed.wait()
            self._check_left()
            return await self._source.read(max_bytes)
        raise lazy.httpcore.ReadTimeout("read timed out")

    def _check_left(self) -> None:
        """Raise an error where a recording ends because the client had left."""
        source, playing = self._source, self._playing
        if playing is None or playing.end != "client closed":
            return
        assert isinstance(source, MemoryStream)
        if source.connection.bytes_sent == len(playing.data):
            raise NotRecordedError(
                f"the recording of {playing.method} {playing.target} ends here, because the "
                "client had read no further; record it again"
            )

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Take bytes of a request, and choose what answers it once it is complete."""
        await anyio.lowlevel.checkpoint()
        if self._closed:
            raise lazy.httpcore.WriteError("the stream was closed")
        self._unanswered += buffer
        now = anyio.current_time()
        try:
            requests = self._requests.feed(buffer, connection=0, time=now)
        except NotHTTP:
            raise NotRecordedError("a cassette sees only HTTP/1.1, and no SOCKS") from None
        if requests:
            sent, self._unanswered = self._unanswered, b""
            try:
                await self._answer(requests[-1], sent)  # clients do not send two at once
            except BaseException as error:
                # A client may look for an answer although it could not write.
                self._failure = str(error) or type(error).__name__
                self._wake()
                raise

    async def _answer(self, request: RecordedRequest, sent: bytes) -> None:
        if request.method == "CONNECT":
            self._prologue.append(sent)
            await self._play(reply(_TUNNEL), sent)
            return
        exchange = self._recording_of(request)
        if exchange is not None:
            await self._play(exchange.reply(timed=False), sent)
            self._playing = exchange
            return
        source = self._source
        if source is None or isinstance(source, MemoryStream) or _is_stale(source):
            await self._drop()
            source = await self._reach()
            if self._closed:
                await source.aclose()
                raise lazy.httpcore.WriteError("the stream was closed")
        self._choose(source)
        await source.write(sent)

    async def _play(self, script: Any, sent: bytes) -> None:
        await self._drop()
        stream = await MemoryNetwork(script).connect_tcp("cassette", 0)
        self._choose(stream)
        await stream.write(sent)

    def _choose(self, source: Stream) -> None:
        self._source = source
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def _drop(self) -> None:
        source, self._source, self._playing = self._source, None, None
        if source is not None:
            await source.aclose()

    async def _reach(self) -> Stream:
        """Connect to the server, through what the client believes to have passed."""
        stream = await self._dial()
        try:
            for step in self._prologue:
                if isinstance(step, bytes):
                    await stream.write(step)
                    await _expect_tunnel(stream)
                else:
                    context, hostname = step
                    stream = await stream.start_tls(context, hostname)
        except BaseException:
            with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                await stream.aclose()  # noqa: ASYNC102
            raise
        return self._taped(stream)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> CassetteStream:
        """Note it, for a connection to the server."""
        await anyio.lowlevel.checkpoint()
        self._prologue.append((ssl_context, server_hostname))
        return self

    async def aclose(self) -> None:
        """Close it, and what answers."""
        self._closed = True
        self._wake()
        if self._source is None:
            await anyio.lowlevel.checkpoint()
        else:
            await self._source.aclose()

    def get_extra_info(self, info: str) -> Any:
        """Answer as the connection to the server does, or that in memory."""
        return None if self._source is None else self._source.get_extra_info(info)


def _is_stale(stream: Stream) -> bool:
    return bool(stream.get_extra_info("is_readable"))


async def _expect_tunnel(stream: Stream) -> None:
    """Read a proxy's answer to CONNECT."""
    head = b""
    while b"\r\n\r\n" not in head:
        data = await stream.read(65536)
        if not data:
            raise lazy.httpcore.ProxyError("the proxy closed the connection")
        head += data
    status = head.split(b"\r\n", 1)[0].decode("latin-1")
    if not status.split(" ")[1:2] == ["200"]:
        raise lazy.httpcore.ProxyError(f"the proxy answered {status}")
