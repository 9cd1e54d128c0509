"""Gives httpcore a response up to the end of its head, and holds back the rest.

httpcore (with h11) serialises the request and parses the head; the body is read past
it, by decoders that lose nothing when a read is cancelled.
"""

from __future__ import annotations

import re
import ssl
from typing import Any, NoReturn, cast

from . import lazy
from .network import ConnectionFailed, Deadline, NetworkStream

__all__ = ["MAX_HEAD_BYTES", "HeadGate", "HeadTooLarge"]

MAX_HEAD_BYTES = 64 * 1024
"""Bound of a response's head, informational heads (1xx) before it included.

Of precedents: h11 has 16 KiB, Node.js 16 KiB, curl 300 KiB, each without the informational ones.
"""

# A head ends at an empty line; h11 takes a bare LF for a line's end as well.
_HEAD_END = re.compile(rb"\n\r?\n")
# How much of what went before can belong to that pattern.
_TAIL = 2


class HeadTooLarge(Exception):
    """A head above the bound, or no end of informational ones."""

    def __init__(self) -> None:
        super().__init__(f"the head of the response is larger than {MAX_HEAD_BYTES} bytes")


class HeadGate:
    """One exchange's view of a connection: an httpcore network stream by its methods.

    Not by inheritance, so that httpcore is imported at the first request only.
    """

    def __init__(self, stream: NetworkStream, deadline: Deadline, *, reused: bool = False) -> None:
        self._stream = stream
        self._reused = reused
        self._deadline = deadline
        self._unsent: list[bytes] = []
        self._tail = b""
        self._write_failed: ConnectionFailed | None = None
        self._given: list[bytes] = []
        self._again = b""
        self._left = MAX_HEAD_BYTES
        self.sent = False
        """Whether the request is out."""
        self.rest = b""
        """What came after the end of the head."""
        self.touched = False
        """Whether any byte of a response has arrived."""
        self.ended = False
        """Whether the peer ended the connection before the head was whole."""

    async def answer(self, request: lazy.httpcore.Request) -> lazy.httpcore.Response:
        """Have httpcore send the request and parse the head of its answer.

        By a fresh connection object each time: it holds no state between two exchanges, and
        the stream it stands on is ours.
        """
        stream = cast("lazy.httpcore.AsyncNetworkStream", self)
        connection = lazy.httpcore.AsyncHTTP11Connection(request.url.origin, stream)
        return await connection.handle_async_request(request)

    def rewind(self) -> None:
        """Let another httpcore connection take over where a cancelled one was.

        The request is out and is not sent again; what had been given of the head is given
        once more.
        """
        self._again = b"".join(self._given)
        self._unsent.clear()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if not self.sent:
            await self._flush()
            self.sent = True
        if self._again:
            again, self._again = self._again, b""
            return again
        piece = await self._next_piece()
        self._left -= len(piece)
        if self._left < 0:
            raise HeadTooLarge
        self._given.append(piece)
        return piece

    async def _next_piece(self) -> bytes:
        data, self.rest = self.rest, b""
        if not data:
            try:
                data = await self._stream.receive(self._deadline)
            except ConnectionFailed:
                if self._write_failed is not None:
                    raise self._write_failed from None
                raise
            self._deadline.byte_arrived()
            if not data:
                self.ended = True
                return b""
            self.touched = True
        window = self._tail + data
        end = _HEAD_END.search(window)
        if end is None:
            self._tail = window[-_TAIL:]
            return data
        cut = end.end() - len(self._tail)
        self._tail = b""
        # Kept for the next read: after an informational head (1xx) another head follows.
        self.rest = data[cut:]
        return data[:cut]

    async def _flush(self) -> None:
        # httpcore writes head and body apart; together they are one segment.
        data = b"".join(self._unsent)
        self._unsent.clear()
        # Looked at once more, at the last moment: what comes before the request is sent
        # cannot be its answer.
        if self._reused and not self._stream.is_clean():
            raise ConnectionFailed("the idle connection was no longer usable")
        try:
            await self._stream.send(data, self._deadline)
        except ConnectionFailed as error:
            # A server may answer, and close, before it has read the whole request: its
            # answer says more than the broken pipe.
            self._write_failed = error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if buffer and not self.sent:
            self._unsent.append(buffer)

    async def aclose(self) -> None:
        """Nothing: httpcore closes on every exception, and this may be a wait to be resumed.

        Who owns the connection closes it.
        """

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> NoReturn:
        raise RuntimeError("TLS is set up before an exchange begins")

    def get_extra_info(self, info: str) -> Any:
        return None
