"""Sends a request, and reads the response up to the end of its head; holds back the rest.

    plain request ──> answer_plainly() ──> a plain head in one piece
                           │ anything else
                           v
                       rewind(), answer() ──> what httpcore (with h11) makes of it

Plain heads, which nearly all are, need no httpcore; see `_wire.head`. The body is read without it
in any case, by decoders that lose nothing when a read is cancelled.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NoReturn, cast

from .._wire.head import ResponseHead, plain_response
from . import lazy
from .debug_log import hide_answers
from .network import ConnectionFailed, Deadline, NetworkStream, Upload, without_frames
from .pieces import Pieces, PiecewiseUpload

if TYPE_CHECKING:
    import ssl

__all__ = ["MAX_HEAD_BYTES", "HeadGate", "HeadTooLarge"]

MAX_HEAD_BYTES = 64 * 1024
"""Bound of a response's head, informational heads (1xx) before it included.

Precedents: h11 has 16 KiB, Node.js 16 KiB, curl 300 KiB, each without the informational ones.
"""

# A head ends at an empty line; h11 accepts a bare LF as a line ending, too.
_HEAD_END = re.compile(rb"\n\r?\n")
# How many bytes of the previous piece can belong to that pattern.
_TAIL = 2


class HeadTooLarge(Exception):
    """The head is above the bound, or informational heads never end."""

    def __init__(self) -> None:
        super().__init__(f"the head of the response is larger than {MAX_HEAD_BYTES} bytes")


class HeadGate:
    """One exchange's view of a connection, with the methods of an httpcore network stream.

    It does not inherit from that class, so that httpcore is imported only where it is needed.
    """

    __slots__ = (
        "_again",
        "_deadline",
        "_given",
        "_left",
        "_pieces",
        "_request",
        "_reused",
        "_stream",
        "_tail",
        "_upload",
        "_uploading",
        "_write_failed",
        "ended",
        "plain",
        "rest",
        "sent",
        "touched",
    )

    def __init__(
        self,
        stream: NetworkStream,
        deadline: Deadline,
        *,
        reused: bool = False,
        pieces: Pieces | None = None,
        uploading: Deadline | None = None,
    ) -> None:
        self._stream = stream
        # Of the writes, where they have one of their own.
        self._uploading = deadline if uploading is None else uploading
        self._pieces = pieces
        self._reused = reused
        self._deadline = deadline
        self._request: list[bytes] = []
        self.plain: bool = False
        """True while no httpcore is needed: the request is plain, and so is what has come."""
        # Made of `_request` when httpcore, or `take`, has written it all.
        self._upload: Upload | None = None
        # The end of the head may lie across two pieces.
        self._tail = b""
        # Raised only if no response explains why the server stopped reading.
        self._write_failed: ConnectionFailed | None = None
        # What httpcore was given of the head, and, after `rewind`, is given once more.
        self._given: list[bytes] = []
        self._again = b""
        self._left = MAX_HEAD_BYTES
        self.sent: bool = False
        """True once the whole request is written, or can no longer be written."""
        self.rest: bytes = b""
        """What came after the end of the head."""
        self.touched: bool = False
        """True once any byte of a response has arrived."""
        self.ended: bool = False
        """True if the peer ended the connection before the head was whole."""

    def take(self, request: bytes | None) -> None:
        """Take a plain request for `answer_plainly`; None if it is not plain."""
        if request is not None:
            self._request.append(request)
            self.plain = True

    async def answer_plainly(self) -> ResponseHead | None:
        """Send the request that was taken, and return the head of the response.

        None if that is not plain, or comes in several pieces: then httpcore is given the pieces
        by `rewind` and `answer`, and nothing is sent again. Cancelled, it may be repeated.
        """
        head = plain_response(await self.read(0))
        self.plain = head is not None
        return head

    async def answer(self, request: lazy.httpcore.Request) -> lazy.httpcore.Response:
        """Let httpcore send the request and parse the head of the response.

        Each time with a new connection object: it holds no state between two exchanges, and
        the stream below it is ours.
        """
        hide_answers(HeadGate.answer.__code__)
        stream = cast("lazy.httpcore.AsyncNetworkStream", self)
        connection = lazy.httpcore.AsyncHTTP11Connection(request.url.origin, stream)
        return await connection.handle_async_request(request)

    def rewind(self) -> None:
        """Let another httpcore connection begin with what has come so far.

        The request is not written again; the pieces of the head are given once more.
        """
        self._again = b"".join(self._given)
        self._request.clear()

    @property
    def began(self) -> bool:
        """True once any byte of the request is written."""
        return self.sent if self._upload is None else self._upload.begun

    @property
    def unsent(self) -> Upload | None:
        """What is left of the request when the server answered early, else None."""
        return None if self.sent else self._upload

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        # Before the upload continues, which a refusal in here may end.
        if self._again:
            again, self._again = self._again, b""
            return again
        if self.ended:
            return b""
        # An early answer is read first. If it is informational, or not whole, httpcore reads
        # again, and the upload continues.
        if not self.sent and not self.rest:
            await self._write()
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
        return self._up_to_end(data)

    def _up_to_end(self, data: bytes) -> bytes:
        """Return these bytes up to the end of the head; keep what is behind it."""
        window = self._tail + data if self._tail else data
        end = _HEAD_END.search(window)
        if end is None:
            self._tail = window[-_TAIL:]
        else:
            cut = end.end() - len(self._tail)
            self._tail = b""
            # For the next read: after an informational head (1xx) another head follows.
            self.rest = data[cut:]
            data = data[:cut]
        self._left -= len(data)
        if self._left < 0:
            raise HeadTooLarge
        self._given.append(data)
        return data

    async def _write(self) -> None:
        """Write the request, until all is written or the server sends something."""
        if self._upload is None:
            # httpcore writes head and body separately; together they are one segment.
            request = b"".join(self._request)
            self._upload = (
                Upload(request) if self._pieces is None else PiecewiseUpload(request, self._pieces)
            )
            self._request.clear()
            # Checked again at the last moment: what arrives before the request is written
            # cannot be its response.
            if self._reused and not self._stream.is_clean():
                raise ConnectionFailed("the idle connection was no longer usable")
        try:
            self.sent = await self._upload.write(self._stream, self._uploading)
            if self.sent:
                # It has a copy of the prompt, and a head may take minutes.
                self._upload = None
        except ConnectionFailed as error:
            # A server may answer, and close, before it has read the whole request. Its
            # response says more than the broken pipe.
            self._write_failed = without_frames(error)
            self.sent = True

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if buffer and not self.sent:
            self._request.append(buffer)

    async def aclose(self) -> None:
        """Do nothing: httpcore closes on every exception, but this wait may be resumed.

        The owner of the connection closes it.
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
