"""The floor on trio: a socket that is waited for and read, no cancel scope, no deadline."""

from __future__ import annotations

import socket

import trio

__all__ = ["RawTrioStream"]


class RawTrioStream:
    """What `raw_sockets` asks of a connection."""

    __slots__ = ("_sock",)

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    @classmethod
    async def connect(cls, host: str, port: int) -> RawTrioStream:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            sock.connect((host, port))
        except BlockingIOError:
            await trio.lowlevel.wait_writable(sock)
        return cls(sock)

    def write(self, data: bytes) -> None:
        # A request is far below what an empty socket takes at once.
        if self._sock.send(data) != len(data):
            raise RuntimeError("the socket did not take the whole request")

    async def receive(self) -> bytes:
        await trio.lowlevel.wait_readable(self._sock)
        return self._sock.recv(262144)

    def close(self) -> None:
        self._sock.close()
