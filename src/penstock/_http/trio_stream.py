"""Network stream on a non-blocking socket under trio."""

from __future__ import annotations

import contextlib
import math
import os
import socket
from collections.abc import Awaitable, Callable

import trio

from .descriptors import (
    fd_is_readable,
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
from .trio_watchdog import watchdog
from .unix import connect_unix_socket

__all__ = ["TrioStream", "connect_tcp", "connect_unix"]


class TrioStream(NetworkStream):
    """Waits for the socket, then reads it; reads at once only if more is likely to be there."""

    __slots__ = (
        "_clock",
        "_closed",
        "_deadline",
        "_failed",
        "_full",
        "_kept",
        "_pid",
        "_sleeps_on",
        "_sock",
        "_tap",
        "_token",
        "_uploading",
        "_watchdog",
        "until",
    )

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._pid = os.getpid()
        # Part of an upload is out, and the rest is not.
        self._uploading = False
        self._closed = False
        # The kernel reports a reset once, and an end of file from then on.
        self._failed: OSError | None = None
        # The last read returned as much as it asked for, so there may be more.
        self._full = False
        # Who gets the next bytes, in a wait that `wait` began, and how long that may take.
        self._tap: Tap | None = None
        self._deadline: LazyDeadline | None = None
        # The tap needs no task: the next wait is one of `arrivals`.
        self._sleeps_on = False
        # What the tap has left to `receive`.
        self._kept: bytes | None = None
        # `trio.current_time` looks it up, twice for each network read (3 %).
        self._clock = trio.lowlevel.current_clock()
        self._token = trio.lowlevel.current_trio_token()
        self._watchdog = watchdog()
        self._watchdog.connected()
        self.until: float = math.inf
        """When the wait of the one task that reads must end."""

    async def receive(self, deadline: Deadline) -> bytes:
        waits = not self._full and self._kept is None
        if not waits:
            # Let other tasks run.
            await trio.lowlevel.checkpoint()
            deadline.check(self._clock.current_time())
        # Else do not read first: on a live stream that returns EAGAIN, and needs a checkpoint
        # as well (12 % of what an event costs).
        watchdog = self._watchdog
        while True:
            if waits and not self._closed:
                # Not in coroutines of their own: this runs for each network read (5 %).
                began = self._clock.current_time()
                self.until = until = deadline.begin(began)
                try:
                    if until <= began or not watchdog.add(self):
                        in_time = await self._wait(trio.lowlevel.wait_readable, until)
                    else:
                        await trio.lowlevel.wait_readable(self._sock)
                        in_time = True
                except trio.ClosedResourceError:
                    in_time = False
                finally:
                    watchdog.remove(self)
                    deadline.end(self._clock.current_time())
                if not in_time:
                    await self._broken_off(deadline, began)
            if self._closed:
                raise ClosedLocally
            if self._kept is not None:
                data, self._kept = self._kept, None
                return data
            try:
                data = self._sock.recv(READ_SIZE)
            except BlockingIOError:
                waits = True
                continue
            except OSError as error:
                self._failed = without_frames(error)
                data = b""
            if not data and self._failed is not None:
                raise ConnectionFailed(f"the connection failed: {self._failed}") from self._failed
            self._full = len(data) == READ_SIZE
            return data

    async def _broken_off(self, deadline: Deadline, began: float) -> None:
        """Raise if the time is up; return to read what has arrived, or else to wait on."""
        # An outer scope that has expired goes first.
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._closed:
            return
        # Bytes that came together with the deadline go first. But a peer that always has
        # something to send cannot put off a deadline that had passed before the wait.
        if fd_is_readable(self._sock.fileno()):
            deadline.check(began)
        elif trio.current_time() >= self.until:
            raise deadline.error()

    def break_off(self) -> None:
        """Wake the task that waits; the watchdog calls it at `until`."""
        if self._sock.fileno() >= 0:
            self._watchdog.arrivals.wake(self._sock.fileno())
            trio.lowlevel.notify_closing(self._sock)

    def wait(self, deadline: LazyDeadline, tap: Tap) -> Awaitable[object] | None:
        if self._full or self._kept is not None or self._closed:
            return None
        deadline.since = began = self._clock.current_time()
        self.until = until = deadline.due()
        # `receive` is then late, even if the peer always has something to send.
        if until <= began:
            return None
        self._deadline, self._tap = deadline, tap
        return self._wait_for()

    async def _wait_for(self) -> None:
        watchdog = self._watchdog
        try:
            # If not, `receive` does what is needed.
            if watchdog.add(self):
                while not (self._sleeps_on and watchdog.takes_arrivals()):
                    await trio.lowlevel.wait_readable(self._sock)
                    if self._arrived():
                        return
                await watchdog.arrivals.wait(self._sock.fileno(), self._arrived)
        except trio.ClosedResourceError:
            pass  # by `close`, or broken off
        finally:
            watchdog.remove(self)

    def stop_waiting(self, deadline: Deadline) -> None:
        if self._tap is not None:
            self._tap = None
            deadline.end(self._clock.current_time())

    def _arrived(self) -> bool:
        """Give the tap what has arrived; return True if the wait is over."""
        now, tap, deadline = self._clock.current_time(), self._tap, self._deadline
        # The task takes what arrives after its deadline, as it must learn that it is late.
        if tap is None or deadline is None or now >= self.until:
            return True
        try:
            data = self._sock.recv(READ_SIZE)
        except BlockingIOError:
            return False
        except OSError as error:
            self._failed = without_frames(error)
            return True
        if not data:
            return True  # the kernel says it again
        taken = tap(data, now)
        self._sleeps_on = taken is Taken.GOES_ON
        if taken is Taken.NOTHING:
            self._kept = data
        elif taken is Taken.ENDS:
            self._tap = None
        elif self._tap is not None:  # which may have closed the stream
            self.until = deadline.due()
            return self.until <= now or not self._watchdog.add(self)
        return True

    def receive_nowait(self) -> bytes:
        if self._kept is not None:
            # No more with it: a consumer may stall now.
            kept, self._kept = self._kept, None
            return kept
        try:
            return self._sock.recv(READ_SIZE)
        except BlockingIOError:
            return b""
        except OSError as error:
            self._failed = without_frames(error)
            return b""

    async def send(self, data: bytes, deadline: Deadline) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        view = memoryview(data)
        while view:
            if self._closed:
                raise ClosedLocally
            try:
                view = view[self._sock.send(view) :]
            except BlockingIOError:
                await self._until_writable(deadline)  # noqa: ASYNC120 - EAGAIN is not an error
            except OSError as error:
                raise self._failure(error) from error

    async def _until_writable(self, deadline: Deadline) -> None:
        """Wait until the socket can be written; raise when the time is up."""
        until = deadline.begin(trio.current_time())
        try:
            in_time = await self._wait(trio.lowlevel.wait_writable, until)
        except trio.ClosedResourceError:
            raise ClosedLocally from None
        finally:
            deadline.end(trio.current_time())
        if not in_time:
            raise deadline.error() from None

    def _failure(self, error: OSError) -> ConnectionFailed:
        self._failed = error
        return ConnectionFailed(f"the connection failed: {error}")

    async def upload(self, upload: Upload, deadline: Deadline) -> bool:
        await trio.lowlevel.checkpoint_if_cancelled()
        self._uploading = True
        while True:
            if self._closed:
                raise ClosedLocally
            try:
                upload.advance(self._sock.send(upload.peek()))
            except BlockingIOError:
                await self._until_either(deadline)  # noqa: ASYNC120 - EAGAIN is not an error
            except OSError as error:
                raise self._failure(error) from error
            else:
                deadline.byte_arrived()
                if not upload:
                    self._uploading = False
                    return True
                await trio.lowlevel.checkpoint()
            if self._closed:
                raise ClosedLocally
            if fd_is_readable(self._sock.fileno()):
                return False

    async def _until_either(self, deadline: Deadline) -> None:
        """Wait until the socket can be read or written; raise when the time is up."""
        ready = False

        async def wait(wait_ready: Callable[[socket.socket], Awaitable[None]]) -> None:
            nonlocal ready
            if not self._closed:  # which may have happened before this task began
                with contextlib.suppress(trio.ClosedResourceError):
                    await wait_ready(self._sock)
            ready = True
            nursery.cancel_scope.cancel()

        at = deadline.begin(trio.current_time())
        try:
            # Two tasks, because trio lets a task wait for one thing; only a blocked upload
            # needs them.
            async with trio.open_nursery() as nursery:
                nursery.cancel_scope.deadline = at
                nursery.start_soon(wait, trio.lowlevel.wait_readable)
                nursery.start_soon(wait, trio.lowlevel.wait_writable)
        finally:
            deadline.end(trio.current_time())
        if not ready:
            raise deadline.error()

    async def _wait(
        self, wait_ready: Callable[[socket.socket], Awaitable[None]], until: float
    ) -> bool:
        """Wait for the socket; return False if the deadline came first."""
        with trio.CancelScope(deadline=until) as scope:
            await wait_ready(self._sock)
        return not scope.cancelled_caught

    def is_clean(self) -> bool:
        if (
            self._closed
            or self._kept is not None
            or _running_token() is not self._token
            or self._pid != os.getpid()
        ):
            return False
        return not fd_is_readable(self._sock.fileno())

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._tap = self._kept = None
        if self._pid != os.getpid():
            # Close this process's descriptor and nothing else: trio's epoll is shared, too.
            self._sock.close()
            return
        if self._uploading:
            reset_on_close(self._sock.fileno())
        shutdown_fd(self._sock.fileno())
        if _running_token() is self._token:
            self._close_socket()
            return
        # Garbage collection or another thread. The peer knows already; trio closes the
        # descriptor in its next iteration, if there is one.
        try:
            self._token.run_sync_soon(self._close_socket)
        except trio.RunFinishedError:
            self._sock.close()

    def _close_socket(self) -> None:
        if self._sock.fileno() >= 0:
            self.break_off()
            self._sock.close()
            self._watchdog.disconnected()

    async def aclose(self, grace: float | None) -> None:
        # Plain TCP has no farewell message.
        self.close()
        if _running_token() is self._token and self._pid == os.getpid():
            self._close_socket()


def _running_token() -> trio.lowlevel.TrioToken | None:
    try:
        return trio.lowlevel.current_trio_token()
    except RuntimeError:
        return None


async def connect_tcp(host: str, port: int, family: int) -> TrioStream:
    """Connect to a numeric address. Raises OSError; cancelled, it leaves nothing open."""
    address = (host, port) if family == socket.AF_INET else _address6(host, port)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        set_options(sock.fileno())
        return await _connect(sock, address)
    except BaseException:
        sock.close()
        raise


async def connect_unix(path: str) -> TrioStream:
    """Connect to a Unix socket. Raises OSError; cancelled, it leaves nothing open."""
    return TrioStream(await connect_unix_socket(path))


def _address6(host: str, port: int) -> tuple[str, int, int, int]:
    # In a socket address the zone of a link-local address is a number of its own.
    host, _, zone = host.partition("%")
    if not zone:
        return host, port, 0, 0
    return host, port, 0, int(zone) if zone.isdecimal() else socket.if_nametoindex(zone)


async def _connect(sock: socket.socket, address: tuple[object, ...]) -> TrioStream:
    await trio.lowlevel.checkpoint_if_cancelled()
    try:
        sock.connect(address)
    except BlockingIOError:
        await trio.lowlevel.wait_writable(sock)  # noqa: ASYNC120 - EINPROGRESS is not an error
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code)) from None
    return TrioStream(sock)
