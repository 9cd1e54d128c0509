"""Servers that answer before they have read the whole request, on real loopback sockets."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from penstock.testing.certificates import client_ssl_context, server_ssl_context

SMALL = 65536


@dataclass
class EarlyServer:
    """Sends `answer` after `after` bytes of the body; then does as `how` says.

    - "stops": neither reads nor closes;
    - "reads": reads on, at `rate` bytes a second (None: as fast as it can);
    - "closes": closes the connection, with bytes unread, which the kernel makes a reset;
    - "half-closes": ends its own direction and does not read.

    `pieces` cuts the answer; there is a pause between the pieces.
    """

    answer: bytes
    how: str = "stops"
    after: int = 0
    rate: float | None = None
    tls: bool = False
    pieces: int = 1
    buffer: int | None = None
    connections: int = 0
    received: int = 0
    """Bytes after the head, over all connections."""
    port: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    gone: threading.Event = field(default_factory=threading.Event)
    """Set when a server that reads on has seen the end of the connection."""

    @property
    def base_url(self) -> str:
        return f"{'https' if self.tls else 'http'}://localhost:{self.port}/v1"

    def client_ssl_context(self) -> ssl.SSLContext:
        return client_ssl_context()

    def serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            # Or else the answer may wait for an ACK, and be dropped by a reset.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls:
                sock = server_ssl_context().wrap_socket(sock, server_side=True)
            with sock:
                self._serve(sock)

    def _serve(self, sock: socket.socket) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._some(sock)
        body = len(data) - data.index(b"\r\n\r\n") - 4
        self.received += body
        while body < self.after:
            got = len(self._some(sock))
            body += got
            self.received += got
        size = max(1, -(-len(self.answer) // self.pieces))
        for place in range(0, len(self.answer), size):
            if place:
                time.sleep(0.05)
            sock.sendall(self.answer[place : place + size])
        if self.how == "reads":
            try:
                while got := len(self._read(sock)):
                    self.received += got
            finally:
                self.gone.set()
        if self.how == "half-closes":
            socket.socket.shutdown(sock, socket.SHUT_WR)
        if self.how != "closes":
            self.over.wait(30)

    def _some(self, sock: socket.socket) -> bytes:
        data = self._read(sock)
        if not data:
            raise ConnectionError("the client has gone")
        return data

    def _read(self, sock: socket.socket) -> bytes:
        data = sock.recv(SMALL)
        if self.rate is not None:
            time.sleep(len(data) / self.rate)
        return data


@contextmanager
def early_server(server: EarlyServer) -> Iterator[EarlyServer]:
    """Serve on a port of its own until the block is left."""
    threads: list[threading.Thread] = []

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            server.connections += 1
            threads.append(threading.Thread(target=server.serve, args=(sock,)))
            threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        if server.buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, server.buffer)
        server.port = listener.getsockname()[1]
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield server
        finally:
            server.over.set()
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def response(status: int, body: bytes, *headers: tuple[str, str]) -> bytes:
    """Return a whole response with Content-Length."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
