"""Network stream on an asyncio transport (uvloop's as well).

Lean on purpose, because it runs for each network read of each stream: one future per wait,
no cancel scope, and one timer per connection that is re-armed only when it fires. (httpcore's
own backend spends about 30 us a read on scopes, events and pausing.)
"""

from __future__ import annotations

import asyncio
import math
import os
from typing import Any, NoReturn, cast
from weakref import WeakKeyDictionary

from .descriptors import (
    fd_is_readable,
    read_fd,
    reset_on_close,
    set_options,
    shutdown_fd,
)
from .network import (
    READ_SIZE,
    ClosedLocally,
    ConnectionFailed,
    Deadline,
    LazyDeadline,
    NetworkStream,
    Taken,
    Tap,
    Upload,
    without_frames,
)
from .unix import connect_unix_socket

__all__ = ["AsyncioStream", "connect_tcp", "connect_unix"]

# Bytes that may wait for the consumer before the transport stops reading. One more read may
# come on top.
HIGH_WATER = 4096
# Bytes that are read at once while nobody waits for them.
FEW = 4096

_ENDS, _GOES_ON = Taken.ENDS, Taken.GOES_ON


class AsyncioStream(asyncio.BaseProtocol, NetworkStream):
    """A transport's protocol whose buffer is read by one task at a time."""

    __slots__ = (
        "_chunks",
        "_closed",
        "_deadline",
        "_ended",
        "_error",
        "_few",
        "_lazy",
        "_loop",
        "_lost",
        "_paused",
        "_pid",
        "_size",
        "_stuck",
        "_tap",
        "_timer",
        "_timer_at",
        "_transport",
        "_uploading",
        "_waiter",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pid = os.getpid()
        self._transport: asyncio.Transport | None = None
        self._chunks: list[bytes] = []
        self._size = 0
        self._paused = False
        # Much has come: FEW bytes are read at once until somebody waits for more.
        self._few = False
        self._ended = False
        self._closed = False
        # The transport's own buffer is full: the peer takes bytes too slowly.
        self._stuck = False
        # Part of an upload is out, and the rest is not.
        self._uploading = False
        self._error: Exception | None = None
        # Of the one task that reads or writes.
        self._waiter: asyncio.Future[None] | None = None
        self._lost: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._deadline = math.inf
        # Who gets the next bytes, in a wait that `wait` began.
        self._tap: Tap | None = None
        # The deadline of the last of these waits.
        self._lazy: LazyDeadline | None = None

    # --- called by the transport ---

    def connection_made(self, transport: Any) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._read_at_once(READ_SIZE)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            set_options(sock.fileno())

    def data_received(self, data: bytes) -> None:
        waiter, tap = self._waiter, self._tap
        if tap is not None:
            now = self._loop.time()
            # The task takes what arrives after its deadline, as it must learn that it is late.
            if now < self._deadline or not self._is_late(now):
                taken = tap(data, now)
                if taken is _GOES_ON:
                    return
                if taken is _ENDS:
                    self._tap = self._waiter = None
                    # A wait that was cancelled is over, although its task has not run since.
                    if waiter is not None and not waiter.done():
                        waiter.set_result(None)
                    return
            self._tap = None
        self._chunks.append(data)
        self._size += len(data)
        if len(data) >= FEW and not self._few:
            self._few = True
            self._read_at_once(FEW)
        if self._size > HIGH_WATER and self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        # As `_wake` does, for each network read.
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _read_at_once(self, size: int) -> None:
        # Of asyncio's transports, which would read 256 KiB.
        transport: Any = self._transport
        transport.max_size = size

    def eof_received(self) -> bool:
        self._ended = True
        self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and not self._closed:
            # What arrived before a write failed: a transport gives up without reading it.
            self.take_in()
        self._ended = True
        self._error = None if exc is None else without_frames(exc)
        self._transport = None
        self._wake()
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)

    def pause_writing(self) -> None:
        self._stuck = True

    def resume_writing(self) -> None:
        self._stuck = False
        self._wake()

    # --- called by the modules above ---

    async def receive(self, deadline: Deadline) -> bytes:
        if self._chunks or self._ended:
            # There is nothing to wait for. Let other tasks run, and let a pending
            # cancellation arrive here, before anything leaves the buffer.
            await asyncio.sleep(0)
            deadline.check(self._loop.time())
        loop = self._loop
        waiting = not (self._chunks or self._ended or self._closed)
        # Not in a coroutine of its own: this runs for each network read.
        if waiting:
            now = loop.time()
            self._deadline = deadline.begin(now)
            if self._deadline <= now:
                # Not left to the timer: the loop reads sockets before it looks at timers, so
                # a peer that always has something to send would never be late.
                deadline.end(now)
                await self._too_late(deadline)
            # Keep a timer that fires early enough; when it fires, it re-checks the current
            # deadline. So a stream that keeps receiving hardly ever touches the timers.
            if self._deadline < self._timer_at:
                self._arm()
            if self._few and self._transport is not None:
                self._few = False
                self._read_at_once(READ_SIZE)
            self._waiter = waiter = loop.create_future()
            try:
                await waiter
            finally:
                self._waiter = None
                deadline.end(loop.time())
            waiting = not (self._chunks or self._ended or self._closed)
            if waiting:
                await self._too_late(deadline)
        if self._closed:
            raise ClosedLocally
        chunks = self._chunks
        if len(chunks) == 1 and not self._paused:
            self._size = 0
            return chunks.pop()
        if chunks:
            return self._take()
        if self._error is not None:
            raise ConnectionFailed(_reason(self._error)) from self._error
        return b""

    def wait(self, deadline: LazyDeadline, tap: Tap) -> asyncio.Future[None] | None:
        if self._chunks or self._few or self._ended or self._closed:
            return None
        # As in `receive`, but without a coroutine. It computes the deadline only if no timer is
        # set for it (saves 8 % of a live token on uvloop).
        loop = self._loop
        deadline.since = now = loop.time()
        if self._timer is None or self._lazy is not deadline:
            self._lazy = deadline
            self._deadline = deadline.due()
            if self._deadline <= now:
                return None
            if self._deadline < self._timer_at:
                self._arm()
        self._tap = tap
        self._waiter = waiter = loop.create_future()
        return waiter

    def _is_late(self, now: float) -> bool:
        """Return True if the wait has passed its deadline, which may have moved on since."""
        if self._lazy is not None:
            self._deadline = self._lazy.due()
        return self._deadline <= now

    def stop_waiting(self, deadline: Deadline) -> None:
        if self._waiter is not None:
            self._tap = self._waiter = None
            deadline.end(self._loop.time())

    async def _too_late(self, deadline: Deadline) -> NoReturn:
        # An outer scope that has expired goes first. Its cancellation needs one more loop
        # iteration, because it could not reach a wait that was already over.
        error = deadline.error()
        await asyncio.sleep(0)
        raise error

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self._deadline
        self._timer = self._loop.call_at(self._deadline, self._on_timer)

    def _on_timer(self) -> None:
        timer_at = self._timer_at
        early = timer_at < self._deadline
        self._timer = None
        self._timer_at = math.inf
        if self._waiter is None:
            return
        if self._tap is not None:
            early = not self._is_late(timer_at)
        if early:
            if self._deadline < math.inf:
                self._arm()
            return
        self._wake()

    def _wake(self) -> None:
        # A result, never an exception: asyncio reports an exception that a native
        # cancellation overtakes as never retrieved.
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

    def take_in(self) -> None:
        sock = None if self._transport is None else self._transport.get_extra_info("socket")
        if sock is not None and not self._paused:
            data = read_fd(sock.fileno(), READ_SIZE)
            if data:
                self._chunks.append(data)

    async def send(self, data: bytes, deadline: Deadline) -> None:
        self._writer().write(data)
        # pause_writing is called from within write.
        while self._stuck and not (self._ended or self._closed):
            await self._wait_to_write(deadline)
        if self._closed:
            raise ClosedLocally

    async def upload(self, upload: Upload, deadline: Deadline) -> bool:
        self._uploading = True
        while True:
            transport = self._writer()
            if not self._stuck:
                piece = upload.peek()
                transport.write(piece)
                upload.advance(len(piece))
            while self._stuck and not (self._chunks or self._ended or self._closed):
                await self._wait_to_write(deadline)
            if self._closed:
                raise ClosedLocally
            if not upload:
                self._uploading = False
                return True
            if self._chunks or self._ended:
                return False
            await asyncio.sleep(0)

    def _writer(self) -> asyncio.Transport:
        if self._closed:
            raise ClosedLocally
        if self._transport is None or self._transport.is_closing():
            raise ConnectionFailed(_reason(self._error)) from self._error
        return self._transport

    async def _wait_to_write(self, deadline: Deadline) -> None:
        """Wait once; the caller looks at what has happened. Raises when the time is up."""
        loop = self._loop
        left = self._unwritten()
        now = loop.time()
        self._deadline = deadline.begin(now)
        if self._deadline <= now:
            deadline.end(now)
            raise deadline.error()
        if self._deadline < self._timer_at:
            self._arm()
        self._waiter = waiter = loop.create_future()
        try:
            await waiter
        finally:
            self._waiter = None
            deadline.end(loop.time())
            if self._unwritten() < left:
                # Slow, but not silent.
                deadline.byte_arrived()

    def _unwritten(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def is_clean(self) -> bool:
        transport = self._transport
        if self._closed or self._ended or self._chunks or transport is None:
            return False
        if self._paused or transport.is_closing() or _running_loop() is not self._loop:
            return False
        if self._pid != os.getpid():
            return False
        sock = transport.get_extra_info("socket")
        return sock is not None and not fd_is_readable(sock.fileno())

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._tap = None
        if self._pid != os.getpid():
            return
        # Shut down, not only closed: the peer learns of it now, even if this is garbage
        # collection or another thread, or if a forked process holds the descriptor too.
        sock = None if self._transport is None else self._transport.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            if self._uploading:
                reset_on_close(sock.fileno())
            shutdown_fd(sock.fileno())
        if _running_loop() is self._loop:
            self._abort()
            return
        # The loop closes the descriptor in its next iteration, if there is one.
        try:
            self._loop.call_soon_threadsafe(self._abort)
        except RuntimeError:  # the loop is closed
            self._give_up_transport()

    def _give_up_transport(self) -> None:
        """Close the descriptor of a transport that no event loop will tell of its end.

        asyncio's would only be closed by the garbage collector, with a ResourceWarning. uvloop
        has closed its own with the loop.
        """
        self._waiter = self._lost = None  # nobody can wait any more
        end = getattr(self._transport, "_call_connection_lost", None)
        if end is not None:
            end(None)

    def _abort(self) -> None:
        self._chunks.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()
        if self._transport is not None:
            self._transport.abort()

    async def aclose(self, grace: float | None) -> None:
        # Plain TCP has no farewell message, and what was written is out.
        self.close()
        if self._pid != os.getpid():
            return
        while self._transport is not None and _running_loop() is self._loop:
            if self._lost is None:
                self._lost = self._loop.create_future()
            # The transport reports the loss in the next iteration of the loop.
            await asyncio.shield(self._lost)


class UvloopStream(AsyncioStream):
    """The same on uvloop, which reads 256 KiB at once unless it is given a buffer."""

    __slots__ = ("_buffer", "_part")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        buffer = _buffers.get(loop)
        if buffer is None:
            buffer = _buffers[loop] = memoryview(bytearray(READ_SIZE))
        self._buffer = self._part = buffer

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._part

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(self._buffer[:nbytes].tobytes())

    def _read_at_once(self, size: int) -> None:
        self._part = self._buffer[:size]


# One for all streams of an event loop: what is read into it is taken out at once.
_buffers: WeakKeyDictionary[asyncio.AbstractEventLoop, memoryview] = WeakKeyDictionary()


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
    sock = await connect_unix_socket(path)
    try:
        return await _connect("create_unix_connection", sock=sock)
    except BaseException:
        if not isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop):
            # uvloop has closed the descriptor, and the socket object must not close it again.
            sock.detach()
        raise


async def _connect(method: str, **address: Any) -> AsyncioStream:
    loop = asyncio.get_running_loop()
    of_asyncio = isinstance(loop, asyncio.BaseEventLoop)
    stream = AsyncioStream(loop) if of_asyncio else UvloopStream(loop)
    try:
        await getattr(loop, method)(lambda: stream, **address)
    except BaseException:
        # The loop closes a transport that it could not deliver; this closes a delivered one.
        stream.close()
        raise
    return stream
