"""One exchange on one connection: send a request, read the head, read the body.

`HeadGate` sends the request and reads the head; the body is read from our own stream and
de-framed by `_wire.framing`. A cancelled read loses nothing.

With PENSTOCK_HTTP11=httpcore in the environment, httpcore writes and reads every head: the
reference that the tests compare with.
"""

from __future__ import annotations

import math
import os
from collections.abc import Awaitable
from typing import Any, cast

from .._wire.encoding import EncodingError, content_decoder
from .._wire.excerpt import one_line
from .._wire.framing import ChunkedBody, FramingError, body_framing, keeps_alive
from .._wire.head import MAX_HEADER_LINES, ResponseHead
from ..errors import PenstockError
from ..headers import Headers
from . import lazy
from .connections import Connections
from .debug_log import httpcore_logs
from .duplex import Duplex
from .head_gate import HeadGate, HeadTooLarge
from .network import (
    ClosedLocally,
    ConnectionFailed,
    Deadline,
    LazyDeadline,
    NetworkStream,
    Tap,
    without_frames,
)
from .outgoing import Outgoing, as_bytes, as_httpcore
from .pieces import Pieces, UnsendableRequest

__all__ = ["BodyTooLarge", "Exchange", "MalformedResponse"]

# After [DONE] the end of the body is usually one segment behind. Waiting for it briefly lets
# the connection be used again.
DRAIN_SECONDS = 0.05
DRAIN_BYTES = 65536

# Bytes of a read that are given to the decoders at once. Decoded events take four times as much
# memory as their bytes, and a consumer that stalls holds them; what comes behind waits as bytes.
# (An event of a long drain costs 4 % more than with reads of 64 KiB that are decoded as a whole;
# a stalled stream holds a third.)
DECODED_AT_ONCE = 20480
# How far in front of that a chunk's end is looked for.
_CHUNK = 2048

_BY_HTTPCORE = os.environ.get("PENSTOCK_HTTP11") == "httpcore"


_NO_HEADERS = Headers()


class MalformedResponse(Exception):
    """The head is not an HTTP/1.1 response, or is above a bound."""


class Exchange:
    """A request and its response. `aclose` (or `close`) ends it and settles the connection."""

    __slots__ = (
        "_collected",
        "_connections",
        "_cut",
        "_deadline",
        "_decoder",
        "_encoded",
        "_fault",
        "_framing",
        "_gate",
        "_keep",
        "_pieces",
        "_raw_headers",
        "_rest",
        "_stream",
        "_uploading",
        "body_bytes",
        "content_type",
        "goes_on",
        "headers",
        "http_version",
        "may_be_stale",
        "reason_phrase",
        "settled",
        "status",
    )

    def __init__(
        self,
        connections: Connections,
        stream: NetworkStream,
        deadline: Deadline,
        *,
        reused: bool,
        encoded: bool = False,
        uploading: Deadline | None = None,
    ) -> None:
        self._connections = connections
        # The deadline of writes, where they have one of their own.
        self._uploading = uploading
        # Leave the content coding on the body.
        self._encoded = encoded
        self._stream = stream
        self._deadline = deadline
        # Set from the first `send` until the head is in: a cancelled `send` resumes with it.
        self._gate: HeadGate | None = None
        # The request's body, if it comes in pieces.
        self._pieces: Pieces | None = None
        # Bytes of the body that came with the head.
        self._rest = b""
        # `_rest` is a part of a read that was given out in part.
        self._cut = False
        self._collected: bytearray | None = None
        # The head allows another request on this connection, and nothing has gone wrong since.
        self._keep = False
        # What `read` raises from now on, so that no clean end follows a failure.
        self._fault: Exception | None = None
        self.may_be_stale: bool = reused
        """True while a connection that served before has brought no byte of this response.

        Its failure then says nothing about the server.
        """
        self.settled: bool = False
        """True once the connection went back to the idle ones or was closed."""
        self.status: int = 0
        """The response's status; 0 until its head is in."""
        self.headers: Headers = _NO_HEADERS
        """The response's headers; empty until its head is in."""
        self.content_type: str | None = None
        """Its Content-Type, if it has one."""
        # Only of a head that was not plain: the others are made of the block.
        self._raw_headers: list[tuple[bytes, bytes]] | None = None
        self.http_version: bytes = b""
        """The version in its status line, for instance b"HTTP/1.1"."""
        self.reason_phrase: bytes = b""
        """What its status line says after the status, perhaps nothing."""
        self.body_bytes: int = 0
        """Bytes of the body that have been decoded, as framed on the wire."""
        self.goes_on: bool = False
        """True if the last `read` returned what had arrived together with the one before it."""

    async def send(self, outgoing: Outgoing) -> None:
        """Send the request and read the response's head.

        Raises ConnectionFailed, ClosedLocally, MalformedResponse, UnsendableRequest, what the
        request's pieces raise, or the error of the deadline; the caller then closes the exchange.
        A call that was cancelled after the request was sent (`awaits_head`) may be repeated: it
        continues to wait.
        """
        gate = self._gate
        if gate is None:
            pieces = self._pieces = outgoing.pieces
            if pieces is not None:
                await pieces.start()
            gate = self._gate = HeadGate(
                self._stream,
                self._deadline,
                reused=self.may_be_stale,
                pieces=pieces,
                uploading=self._uploading,
            )
            if not _BY_HTTPCORE and not httpcore_logs():
                gate.take(as_bytes(outgoing, self._connections.dialer))
        try:
            head = await gate.answer_plainly() if gate.plain else None
            if head is None:
                head = await self._by_httpcore(gate, outgoing)
        except HeadTooLarge as error:
            raise MalformedResponse(str(error)) from error
        finally:
            if gate.touched:
                self.may_be_stale = False
        self.status = status = head.status
        self.headers = head.headers
        self.content_type = head.fields.get("content-type")
        self.http_version = head.version
        self.reason_phrase = head.reason
        self._rest = gate.rest
        self._gate = None
        unsent = gate.unsent
        if unsent is not None and status < 300:
            # The server answers while it reads, and may need the rest of the request. Any
            # other early answer ends the upload.
            self._stream = Duplex(self._stream, unsent)
        try:
            self._framing = body_framing(
                method=outgoing.method,
                status=status,
                headers=head.fields,
            )
            self._decoder = None if self._encoded else content_decoder(head.fields)
        except ValueError as error:
            # Raised by `read`: the status counts even if the body cannot be read.
            self._fault = without_frames(error)
        else:
            # The request did not ask to switch protocols (101): what follows is not HTTP.
            self._keep = (
                unsent is None
                and status >= 200
                and keeps_alive(head.version, head.fields, self._framing)
            )

    async def _by_httpcore(self, gate: HeadGate, outgoing: Outgoing) -> ResponseHead:
        """Let httpcore write the request, unless it is sent, and read the head."""
        if not lazy.is_ready():
            await lazy.ready()
        gate.rewind()
        request = as_httpcore(outgoing, self._connections.dialer)
        try:
            response = await gate.answer(request)
        except lazy.httpcore.LocalProtocolError as error:
            raise UnsendableRequest(
                f"the request cannot be sent: {one_line(str(error))}"
            ) from error
        except lazy.httpcore.RemoteProtocolError as error:
            if gate.ended:
                raise ConnectionFailed(
                    "the server closed the connection without answering", ended=True
                ) from error
            raise MalformedResponse(
                f"the response is not HTTP/1.1: {one_line(str(error))}"
            ) from error
        lines = self._raw_headers = response.headers
        if len(lines) > MAX_HEADER_LINES:
            raise MalformedResponse(f"the response has more than {MAX_HEADER_LINES} header lines")
        extensions = cast("Any", response).extensions
        headers = Headers(lines)
        return ResponseHead(
            response.status,
            headers,
            headers,
            extensions["http_version"],
            extensions.get("reason_phrase", b""),
        )

    @property
    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """Its header lines as they came, in order; empty until its head is in."""
        lines = self._raw_headers
        return self.headers.raw_lines() if lines is None else lines

    @property
    def began(self) -> bool:
        """True once the server may have seen any byte of the request."""
        return self.status != 0 or (self._gate is not None and self._gate.began)

    @property
    def awaits_head(self) -> bool:
        """True between the end of the request and the end of the response's head."""
        return self._gate is not None and self._gate.sent and not self.settled

    @property
    def refused(self) -> bool:
        """True if the status is not a success and its body may still be read."""
        return self.status != 0 and not 200 <= self.status < 300 and not self.settled

    async def read(self) -> bytes:
        """Return the next bytes of the body, de-framed and decoded; b"" at its proper end.

        Raises ConnectionFailed if the body ends in any other way, FramingError or
        EncodingError if it cannot be decoded. After a failure every further call raises the
        same error. A cancelled call loses nothing.
        """
        self.goes_on = self._cut
        while self._fault is None:
            raw = self._rest
            if raw:
                self._rest = b""
            elif self._framing.finished:
                return b""
            else:
                try:
                    raw = await self._stream.receive(self._deadline)
                except ConnectionFailed as error:
                    self._fault = error
                    raise
                if not raw:
                    self._ended()
                    continue
                self._deadline.byte_arrived()
                self.goes_on = False
            self._cut = len(raw) > DECODED_AT_ONCE
            if self._cut:
                raw = self._first_of(raw)
            self.body_bytes += len(raw)
            # Payload before a fault is returned first, wherever the reads were split. The
            # next call raises the fault.
            try:
                data = self._framing.feed(raw)
            except FramingError as error:
                self._fault = without_frames(error)
                data = error.payload
            if self._decoder is not None:
                try:
                    data = self._decoder.feed(data)
                except EncodingError as error:
                    self._fault = without_frames(error)
                    data = error.payload
                if self._framing.finished:
                    self._check_encoding()
            if data:
                return data
        raise self._fault

    def _first_of(self, raw: bytes) -> bytes:
        """Return what is decoded first, and keep the rest."""
        # Up to the end of a chunk's data or size, where servers end events: the decoders then
        # have nothing to join.
        end = raw.rfind(b"\r\n", DECODED_AT_ONCE - _CHUNK, DECODED_AT_ONCE) + 2
        if end < 2:
            end = DECODED_AT_ONCE
        self._rest = raw[end:]
        return raw[:end]

    def _ended(self) -> None:
        """Take the end of the connection."""
        if self._framing.eof():
            self._check_encoding()
        else:
            self._fault = ConnectionFailed(
                "the connection ended in the middle of the body", ended=True
            )

    @property
    def at_rest(self) -> bool:
        """True between two chunks of a chunked body that is not compressed."""
        return (
            not self._rest
            and isinstance(self._framing, ChunkedBody)
            and self._framing.at_rest
            and self._decoder is None
            and self._fault is None
        )

    def receive(self) -> Awaitable[bytes]:
        """Return what returns the next bytes of the connection, for an exchange at rest.

        The caller takes them as a whole and adds them to `body_bytes`, or puts them back.
        """
        return self._stream.receive(self._deadline)

    def wait(self, deadline: LazyDeadline, tap: Tap) -> Awaitable[object] | None:
        """Begin a wait for bytes at rest: see `NetworkStream.wait`."""
        return self._stream.wait(deadline, tap)

    def stop_waiting(self) -> None:
        """End the wait that it began, if it is not over. Idempotent."""
        self._stream.stop_waiting(self._deadline)

    def receive_nowait(self) -> bytes:
        """Return what `receive` would return at once, perhaps b""."""
        return self._stream.receive_nowait()

    def put_back(self, raw: bytes) -> None:
        """Have the next `read` take what `receive` has returned."""
        if raw:
            self._deadline.byte_arrived()
            self._rest = raw
        else:
            self._ended()

    def _check_encoding(self) -> None:
        decoder = self._decoder
        if decoder is not None and self._fault is None and self.body_bytes and not decoder.eof():
            self._fault = ConnectionFailed("the compressed body ended too early", ended=True)

    async def read_all(self, limit: int) -> bytes:
        """Return the whole body. Raises as `read` does, and BodyTooLarge above `limit` bytes.

        A cancelled call loses nothing and may be repeated.
        """
        if self._collected is None:
            self._collected = bytearray()
        while data := await self.read():
            self._collected += data
            if len(self._collected) > limit:
                raise BodyTooLarge(limit)
        return self.collected

    @property
    def collected(self) -> bytes:
        """What `read_all` has read so far."""
        return bytes(self._collected or b"")

    async def aclose(self, *, drain: bool = False) -> None:
        """Settle the connection: keep it if the message is over, else close it.

        With `drain`, wait up to DRAIN_SECONDS for an end of the body that is on its way.
        Idempotent. If cancelled, the connection is closed all the same.
        """
        if self.settled:
            # Perhaps by `close`, or by a call that was cancelled.
            if self._pieces is not None:
                await self._pieces.aclose()
            return
        self.settled = True
        # Its frames lead back here, once it is raised.
        self._fault = None
        try:
            if drain and self._keep:
                await self._drain()
        finally:
            if self._is_reusable():
                self._connections.release(self._stream)
            else:
                await self._connections.discard(self._stream)  # noqa: ASYNC102 - shielded inside
            if self._pieces is not None:
                await self._pieces.aclose()  # noqa: ASYNC102 - its owner's

    def close(self) -> None:
        """Close the connection now, without waiting; a blocked reader gets ClosedLocally."""
        if not self.settled:
            self.settled = True
            self._fault = None
            self._stream.close()

    def expect_no_end(self) -> None:
        """Note that no end of the body is to be waited for: the connection is not used again."""
        self._keep = False

    def settle_nowait(self) -> None:
        """Give the connection back if the message is already over; never waits."""
        if self._keep and not self.settled:
            self._swallow(self._rest or self._stream.receive_nowait())
            if self._is_reusable():
                self.settled = True
                self._connections.release(self._stream)

    def _is_reusable(self) -> bool:
        return (
            self._keep
            and self._framing.finished
            # Bytes after the end would be taken for the next response.
            and not self._framing.excess
            and not self._rest
            and self._connections.keeps
            and self._stream.is_clean()
        )

    async def _drain(self) -> None:
        deadline = _DrainDeadline()
        left = DRAIN_BYTES
        raw = self._rest or self._stream.receive_nowait()
        while self._swallow(raw) and not self._framing.finished:
            left -= len(raw)
            if left < 0:
                return
            try:
                raw = await self._stream.receive(deadline)
            except (ConnectionFailed, ClosedLocally, TimeoutError, PenstockError):
                return
            if not raw:
                return

    def _swallow(self, raw: bytes) -> bool:
        """Take these bytes as the rest of the body; return False if they cannot be that."""
        self._rest = b""
        try:
            self._framing.feed(raw)
        except ValueError:
            self._keep = False
        return self._keep


class BodyTooLarge(Exception):
    """The body is above the bound."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body is larger than {limit} bytes")


class _DrainDeadline:
    """DRAIN_SECONDS in all, counted from the first wait."""

    def __init__(self) -> None:
        self._until = math.inf

    def begin(self, now: float) -> float:
        self._until = min(self._until, now + DRAIN_SECONDS)
        return self._until

    def end(self, now: float) -> None:
        pass

    def check(self, now: float) -> None:
        if now >= self._until:
            raise self.error()

    def byte_arrived(self) -> None:
        pass

    def error(self) -> Exception:
        return TimeoutError()
