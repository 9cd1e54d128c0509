"""The floor on trio: a socket that is waited for and read, no cancel scope, no deadline."""

from __future__ import annotations

import socket
import ssl

import trio

__all__ = ["connect"]


class RawTrioStream:
    """What `raw_sockets` asks of a connection."""

    __slots__ = ("_sock",)

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    async def send(self, data: bytes) -> None:
        # A request is far below what an empty socket takes at once.
        if self._sock.send(data) != len(data):
            raise RuntimeError("the socket did not take the whole request")

    async def receive(self) -> bytes:
        await trio.lowlevel.wait_readable(self._sock)
        return self._sock.recv(262144)

    def close(self) -> None:
        self._sock.close()


class RawTrioTLSStream:
    """The same over trio's own TLS."""

    __slots__ = ("_sock", "_stream")

    def __init__(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream
        self._sock = stream.transport_stream.socket

    async def send(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def receive(self) -> bytes:
        return bytes(await self._stream.receive_some())

    def close(self) -> None:
        self._sock.close()


async def connect(
    host: str, port: int, ssl_context: ssl.SSLContext | None
) -> RawTrioStream | RawTrioTLSStream:
    if ssl_context is not None:
        return RawTrioTLSStream(
            await trio.open_ssl_over_tcp_stream(host, port, ssl_context=ssl_context)
        )
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        sock.connect((host, port))
    except BlockingIOError:
        await trio.lowlevel.wait_writable(sock)
    return RawTrioStream(sock)
