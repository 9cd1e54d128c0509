"""Network stream on a non-blocking socket under trio."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable

import trio

from .descriptors import enable_keepalive, fd_is_readable, shutdown_fd
from .network import READ_SIZE, ClosedLocally, ConnectionFailed, Deadline, NetworkStream

__all__ = ["TrioStream", "connect_tcp", "connect_unix"]


class TrioStream(NetworkStream):
    """Waits for the socket, then reads it; reads at once only while it is likely to be full."""

    __slots__ = ("_closed", "_failed", "_full", "_sock", "_token")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._closed = False
        # The kernel reports a reset once, and an end of file from then on.
        self._failed: OSError | None = None
        # The last read took as much as it asked for, so that there may be more.
        self._full = False
        self._token = trio.lowlevel.current_trio_token()

    async def receive(self, deadline: Deadline) -> bytes:
        if self._full:
            # Siblings get their turn.
            await trio.lowlevel.checkpoint()
            deadline.check(trio.current_time())
        else:
            # Not read first: of a live stream that would bring nothing but EAGAIN, and a
            # checkpoint besides (12 % of what an event costs).
            await self._until_readable(deadline)
        while True:
            if self._closed:
                raise ClosedLocally
            try:
                data = self._sock.recv(READ_SIZE)
            except BlockingIOError:
                await self._until_readable(deadline)  # noqa: ASYNC120 - EAGAIN is no loss
                continue
            except OSError as error:
                self._failed = error
                data = b""
            if not data and self._failed is not None:
                raise ConnectionFailed(f"the connection failed: {self._failed}") from self._failed
            self._full = len(data) == READ_SIZE
            return data

    async def _until_readable(self, deadline: Deadline) -> None:
        if self._closed:
            raise ClosedLocally
        began = trio.current_time()
        if not await self._wait(trio.lowlevel.wait_readable, deadline):
            # Bytes that came together with the deadline are bytes: they go first. But a peer
            # who always has something to send cannot outrun what had run out before.
            if not fd_is_readable(self._sock.fileno()):
                raise deadline.error()
            deadline.check(began)

    def receive_nowait(self) -> bytes:
        try:
            return self._sock.recv(READ_SIZE)
        except BlockingIOError:
            return b""
        except OSError as error:
            self._failed = error
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
                if not await self._wait(trio.lowlevel.wait_writable, deadline):  # noqa: ASYNC120 - EAGAIN is no loss
                    raise deadline.error() from None
            except OSError as error:
                self._failed = error
                raise ConnectionFailed(f"the connection failed: {error}") from error

    async def _wait(
        self, wait_ready: Callable[[socket.socket], Awaitable[None]], deadline: Deadline
    ) -> bool:
        """Wait for the socket; False when the deadline came first."""
        at = deadline.begin(trio.current_time())
        try:
            with trio.CancelScope(deadline=at) as scope:
                await wait_ready(self._sock)
        except trio.ClosedResourceError:
            raise ClosedLocally from None
        finally:
            deadline.end(trio.current_time())
        return not scope.cancelled_caught

    def is_clean(self) -> bool:
        if self._closed or _running_token() is not self._token:
            return False
        return not fd_is_readable(self._sock.fileno())

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        shutdown_fd(self._sock.fileno())
        if _running_token() is self._token:
            self._close_socket()
            return
        # Garbage collection, or another thread: the peer knows already, trio closes the
        # descriptor when it comes round, if it is still there.
        try:
            self._token.run_sync_soon(self._close_socket)
        except trio.RunFinishedError:
            self._sock.close()

    def _close_socket(self) -> None:
        if self._sock.fileno() >= 0:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()

    async def aclose(self, grace: float | None) -> None:
        # A plain TCP connection has nothing to say goodbye with.
        self.close()
        if _running_token() is self._token:
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
        enable_keepalive(sock)
        return await _connect(sock, address)
    except BaseException:
        sock.close()
        raise


async def connect_unix(path: str) -> TrioStream:
    """Connect to a Unix socket. Raises OSError; cancelled, it leaves nothing open."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        return await _connect(sock, path)
    except BaseException:
        sock.close()
        raise


def _address6(host: str, port: int) -> tuple[str, int, int, int]:
    # The zone of a link-local address is a number of its own in a socket address.
    host, _, zone = host.partition("%")
    if not zone:
        return host, port, 0, 0
    return host, port, 0, int(zone) if zone.isdecimal() else socket.if_nametoindex(zone)


async def _connect(sock: socket.socket, address: object) -> TrioStream:
    await trio.lowlevel.checkpoint_if_cancelled()
    try:
        sock.connect(address)  # type: ignore[arg-type]
    except BlockingIOError:
        await trio.lowlevel.wait_writable(sock)  # noqa: ASYNC120 - EINPROGRESS is no loss
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code)) from None
    return TrioStream(sock)
