"""The server's end of a real connection: a raw socket, because faults need the socket itself.

anyio's streams send a FIN before they close, which a RST must not follow.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct

import anyio


class Gone(Exception):
    """The client has left."""


class LoopbackStream:
    """A connected socket on any anyio backend, with TLS from the moment it is started."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._tls: ssl.SSLObject | None = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._sending = anyio.Lock()
        self._ended = False
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            # Each Send leaves at once; the client's kernel may still join them.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def receive(self) -> bytes:
        """Return some bytes, or b"" when the client has closed or reset the connection."""
        while self._tls is not None and not self._ended:
            try:
                return self._tls.read(65536)
            except ssl.SSLWantReadError:
                await self._flush()
            except ssl.SSLError:
                return b""
            data = await self._receive_raw()
            if not data:
                return b""
            self._incoming.write(data)
        return await self._receive_raw()

    async def wait_gone(self) -> None:
        """Wait until the client has closed or reset the connection, without reading."""
        hung_up = select.poll()
        hung_up.register(self._sock, getattr(select, "POLLRDHUP", 0))
        while not hung_up.poll(0):  # noqa: ASYNC110 - no event says so while bytes wait
            await anyio.sleep(0.01)

    async def send(self, data: bytes) -> None:
        """Send all of it. Raises Gone if that is no longer possible."""
        if self._tls is None:
            await self._send_raw(data)
        else:
            view = memoryview(data)
            while view:
                view = view[self._tls.write(view) :]  # a record at a time
                await self._flush()

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Do the server's part of a handshake. Raises Gone if it fails."""
        tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._flush()
            except ssl.SSLError as error:
                await self._flush()  # the alert  # noqa: ASYNC120
                raise Gone from error
            data = await self._receive_raw()
            if not data:
                raise Gone
            self._incoming.write(data)
        await self._flush()
        self._tls = tls

    async def end(self) -> None:
        """End cleanly: close_notify inside TLS, and a FIN."""
        if self._tls is not None:
            self._ended = True
            try:
                self._tls.unwrap()
            except ssl.SSLError:
                pass  # it has written its close_notify and would now wait for the client's
            await self._flush()
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise Gone from error

    def reset(self) -> None:
        """Close with a RST."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def close(self) -> None:
        """Close with a FIN."""
        self._sock.close()

    async def _receive_raw(self) -> bytes:
        while True:
            try:
                return self._sock.recv(65536)
            except BlockingIOError:
                await anyio.wait_readable(self._sock)
            except OSError:
                return b""

    async def _send_raw(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view) :]
            except BlockingIOError:
                await anyio.wait_writable(self._sock)
            except OSError as error:
                raise Gone from error

    async def _flush(self) -> None:
        async with self._sending:  # reading may have to send as well, and records have an order
            await self._send_raw(self._outgoing.read())
