"""Network stream on an asyncio transport (uvloop's as well).

Lean on purpose: this runs once for each network read of each stream. One future a wait,
no cancel scope, and one timer for the connection that is re-armed only when it fires
(httpcore's stock backend spends about 30 us a read on scopes, events and pausing).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
from typing import Any, NoReturn, cast

from .descriptors import enable_keepalive, fd_is_readable, shutdown_fd
from .network import ClosedLocally, ConnectionFailed, Deadline, NetworkStream

__all__ = ["AsyncioStream", "connect_tcp", "connect_unix"]

# Bytes that may wait for the consumer before the transport stops reading. asyncio hands
# over at most 256 KiB at a time, so this bounds a connection at about 320 KiB.
HIGH_WATER = 65536


class AsyncioStream(asyncio.Protocol, NetworkStream):
    """A transport's protocol whose buffer is read by one task at a time."""

    __slots__ = (
        "_chunks",
        "_closed",
        "_deadline",
        "_ended",
        "_error",
        "_loop",
        "_lost",
        "_paused",
        "_pid",
        "_size",
        "_timer",
        "_timer_at",
        "_transport",
        "_waiter",
        "_writable",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pid = os.getpid()
        self._transport: asyncio.Transport | None = None
        self._chunks: list[bytes] = []
        self._size = 0
        self._paused = False
        self._ended = False
        self._closed = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._lost: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._deadline = math.inf

    # --- called by the transport ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            enable_keepalive(sock)

    def data_received(self, data: bytes) -> None:
        self._chunks.append(data)
        self._size += len(data)
        if self._size > HIGH_WATER and self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._ended = True
        self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._error = exc
        self._transport = None
        self._wake()
        for waiter in (self._writable, self._lost):
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # --- called by the rooms above ---

    async def receive(self, deadline: Deadline) -> bytes:
        if self._chunks or self._ended:
            # Nobody waited: siblings get their turn, and a pending cancellation is
            # delivered here, before anything leaves the buffer.
            await asyncio.sleep(0)
            deadline.check(self._loop.time())
        # A loop, since what woke it may have been taken by `receive_nowait` since then.
        while not (self._chunks or self._ended or self._closed):
            await self._wait(deadline)
        if self._closed:
            raise ClosedLocally
        if self._chunks:
            return self._take()
        if self._error is not None:
            raise ConnectionFailed(_reason(self._error)) from self._error
        return b""

    async def _wait(self, deadline: Deadline) -> None:
        """Wait until something has happened; raises when nothing does in time."""
        loop = self._loop
        now = loop.time()
        self._deadline = deadline.begin(now)
        if self._deadline <= now:
            # Not left to the timer: the loop reads sockets before it looks at timers, so
            # a peer who always has something to send would never be late.
            deadline.end(now)
            await self._too_late(deadline)
        # An armed timer that is early enough stays: firing, it looks at the deadline of
        # the day. So a stream that keeps receiving hardly ever touches the timers.
        if self._deadline < self._timer_at:
            self._arm()
        self._waiter = waiter = loop.create_future()
        try:
            await waiter
        finally:
            self._waiter = None
            deadline.end(loop.time())
        if not (self._chunks or self._ended or self._closed):
            await self._too_late(deadline)

    async def _too_late(self, deadline: Deadline) -> NoReturn:
        # An outer scope that expired by now goes first; its cancellation needs a turn of the
        # loop, and could not be delivered to a wait that was over already.
        error = deadline.error()
        await asyncio.sleep(0)
        raise error

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self._deadline
        self._timer = self._loop.call_at(self._deadline, self._on_timer)

    def _on_timer(self) -> None:
        early = self._timer_at < self._deadline
        self._timer = None
        self._timer_at = math.inf
        if self._waiter is None and self._writable is None:
            return
        if early:
            if self._deadline < math.inf:
                self._arm()
            return
        self._wake()
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    def _wake(self) -> None:
        # A result, never an exception: one that a native cancellation overtakes would be
        # reported as never retrieved.
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _take(self) -> bytes:
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._size = 0
        if self._paused:
            self._paused = False
            if self._transport is not None and not self._ended:
                self._transport.resume_reading()
        return data

    def receive_nowait(self) -> bytes:
        return self._take() if self._chunks else b""

    async def send(self, data: bytes, deadline: Deadline) -> None:
        self._check_open()
        if self._transport is None or self._transport.is_closing():
            raise ConnectionFailed(_reason(self._error)) from self._error
        self._transport.write(data)
        # pause_writing comes from within write, when the peer takes bytes too slowly.
        while (writable := self._stuck()) is not None:
            loop = self._loop
            self._deadline = deadline.begin(loop.time())
            if self._deadline < self._timer_at:
                self._arm()
            try:
                await asyncio.shield(writable)
            finally:
                deadline.end(loop.time())
            if self._stuck() is writable:
                raise deadline.error()
        self._check_open()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedLocally

    def _stuck(self) -> asyncio.Future[None] | None:
        """What a writer has to wait for, unless it would wait for nothing any more."""
        return None if self._ended or self._closed else self._writable

    def is_clean(self) -> bool:
        transport = self._transport
        if self._closed or self._ended or self._chunks or transport is None:
            return False
        if self._paused or transport.is_closing() or _running_loop() is not self._loop:
            return False
        sock = transport.get_extra_info("socket")
        return sock is not None and not fd_is_readable(sock.fileno())

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._pid != os.getpid():
            # In a forked process: the connection is the parent's, and goes on.
            return
        # Shut, not only closed: the peer learns of it now, also when this is garbage
        # collection, another thread, or a forked process holds the descriptor, too.
        sock = None if self._transport is None else self._transport.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            shutdown_fd(sock.fileno())
        if _running_loop() is self._loop:
            self._abort()
            return
        # The loop closes the descriptor when it comes round, if it is still there.
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._abort)

    def _abort(self) -> None:
        self._chunks.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        if self._transport is not None:
            self._transport.abort()

    async def aclose(self, grace: float | None) -> None:
        # A plain TCP connection has nothing to say goodbye with; what was written is out.
        self.close()
        while self._transport is not None and _running_loop() is self._loop:
            if self._lost is None:
                self._lost = self._loop.create_future()
            # The transport reports the loss on the next turn of the loop.
            await asyncio.shield(self._lost)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _reason(error: Exception | None) -> str:
    if error is None:
        return "the server closed the connection"
    return f"the connection failed: {error}" if str(error) else "the connection failed"


async def connect_tcp(host: str, port: int, family: int) -> AsyncioStream:
    """Connect to a numeric address. Raises OSError; cancelled, it leaves nothing open."""
    return await _connect("create_connection", host=host, port=port, family=family)


async def connect_unix(path: str) -> AsyncioStream:
    """Connect to a Unix socket. Raises OSError; cancelled, it leaves nothing open."""
    return await _connect("create_unix_connection", path=path)


async def _connect(method: str, **address: Any) -> AsyncioStream:
    loop = asyncio.get_running_loop()
    stream = AsyncioStream(loop)
    try:
        await getattr(loop, method)(lambda: stream, **address)
    except BaseException:
        # The loop closes a transport it could not hand over; this covers one it could.
        stream.close()
        raise
    return stream
