"""A SOCKS5 proxy (RFC 1928, 1929): the protocol without I/O, and on real loopback sockets."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from penstock.testing.loopback import LoopbackStream

from .relays import listening, relay

REFUSED_BY_RULES = 2
HOST_UNREACHABLE = 4


@dataclass
class SocksServer:
    """The proxy's side of one connection: bytes in, bytes out, until `target` is known.

    `credentials`: the user and password it wants (None: no authentication). `reply`: its answer
    to the request; 0 connects. `method`, if given, is what it chooses, whatever was offered.
    """

    credentials: tuple[str, str] | None = None
    reply: int = 0
    method: int | None = None
    offered: bytes = b""
    given: tuple[str, str] | None = None
    target: tuple[str, int] | None = None
    rest: bytes = b""  # what came after the request
    failed: bool = False
    _buffer: bytes = field(default=b"", repr=False)
    _stage: str = "methods"

    @property
    def connected(self) -> bool:
        """Whether the bytes that follow are for the target."""
        return self._stage == "open"

    def feed(self, data: bytes) -> bytes:
        """Take what the client sent, give the answer to it."""
        self._buffer += data
        answer = b""
        while not (self.connected or self.failed):
            size = self._size()
            if size is None or len(self._buffer) < size:
                return answer
            message, self._buffer = self._buffer[:size], self._buffer[size:]
            answer += self._answer(message)
        self.rest, self._buffer = self.rest + self._buffer, b""
        return answer

    def _size(self) -> int | None:
        buffer = self._buffer
        if self._stage == "methods":
            return 2 + buffer[1] if len(buffer) > 1 else None
        if self._stage == "password":
            if len(buffer) < 2 or len(buffer) < 3 + buffer[1]:
                return None
            return 3 + buffer[1] + buffer[2 + buffer[1]]
        if len(buffer) < 5:
            return None
        return 6 + {1: 4, 3: 1 + buffer[4], 4: 16}[buffer[3]]

    def _answer(self, message: bytes) -> bytes:
        if self._stage == "methods":
            self.offered = message[2:]
            wanted = 0 if self.credentials is None else 2
            method = wanted if self.method is None else self.method
            if method not in self.offered and self.method is None:
                method = 0xFF
            self.failed = method == 0xFF
            self._stage = "password" if method == 2 else "request"
            return bytes([5, method])
        if self._stage == "password":
            length = message[1]
            self.given = (message[2 : 2 + length].decode(), message[3 + length :].decode())
            self.failed = self.given != self.credentials
            self._stage = "request"
            return bytes([1, self.failed])
        kind, port = message[3], int.from_bytes(message[-2:], "big")
        address = message[4:-2]
        host = address[1:].decode() if kind == 3 else str(ipaddress.ip_address(address))
        self.target = (host, port)
        self.failed = self.reply != 0
        self._stage = "open" if not self.failed else "request"
        return bytes([5, self.reply, 0, 1, 127, 0, 0, 1, 0, 80])


@dataclass
class SocksProxy:
    """A running proxy; made by `serve_socks`."""

    port: int
    connections: list[SocksServer] = field(default_factory=list)


@asynccontextmanager
async def serve_socks(
    *, credentials: tuple[str, str] | None = None, reply: int = 0
) -> AsyncIterator[SocksProxy]:
    """Run a proxy on 127.0.0.1 that connects to whatever is asked for there (no names)."""
    connections: list[SocksServer] = []

    async def serve(client: LoopbackStream) -> None:
        server = SocksServer(credentials=credentials, reply=reply)
        connections.append(server)
        while not server.connected:
            data = await client.receive()
            if not data:
                return
            await client.send(server.feed(data))
        assert server.target is not None
        await relay(client, server.target, server.rest)

    async with listening(serve) as port:
        yield SocksProxy(port, connections)
