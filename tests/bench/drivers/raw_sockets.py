"""The floor: sockets, the least of HTTP that the bench's server needs, and msgspec."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol, cast
from urllib.parse import urlsplit

from penstock._loops import in_trio

from .base import Address, Driver, Pause, Peer, Received
from .by_hand import DONE, Events, body, decode_chunk, decode_completion, decode_models

__all__ = ["DRIVER", "RawPeer", "RawStream", "opens"]


class RawStream(Protocol):
    """A connection."""

    async def send(self, data: bytes) -> None: ...
    async def receive(self) -> bytes: ...
    def close(self) -> None: ...


class RawAsyncioStream(asyncio.Protocol):
    """Hands over what has arrived: one future a wait, no limit, no backpressure."""

    __slots__ = ("_arrived", "_loop", "_transport", "_waiter")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._transport = cast("asyncio.Transport", None)

    @classmethod
    async def connect(
        cls, host: str, port: int, ssl_context: ssl.SSLContext | None
    ) -> RawAsyncioStream:
        loop = asyncio.get_running_loop()
        _, stream = await loop.create_connection(cls, host, port, ssl=ssl_context)
        return stream

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._arrived.append(data)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def receive(self) -> bytes:
        if not self._arrived:
            self._waiter = self._loop.create_future()
            await self._waiter
        data = b"".join(self._arrived)
        self._arrived.clear()
        return data

    async def send(self, data: bytes) -> None:
        self._transport.write(data)

    def close(self) -> None:
        self._transport.abort()


class Chunked:
    """Takes the chunked coding off, in time that is linear in the body's length."""

    __slots__ = ("_due", "_rest", "ended")

    def __init__(self, rest: bytes) -> None:
        self._rest = bytearray(rest)
        self._due = 0  # so much of the rest has to be there before there is anything to do
        self.ended = False

    def feed(self, data: bytes) -> bytes:
        if self._rest:
            self._rest += data
            if len(self._rest) < self._due:
                return b""
            data = bytes(self._rest)
        payloads: list[bytes] = []
        start = due = 0
        while (line_end := data.find(b"\r\n", start)) >= 0:
            size = int(data[start:line_end], 16)
            end = line_end + 2 + size
            if len(data) < end + 2:
                due = end + 2 - start
                break
            if size == 0:
                self.ended = True
                break
            payloads.append(data[line_end + 2 : end])
            start = end + 2
        self._rest = bytearray(data[start:])
        self._due = due
        return b"".join(payloads)


class RawPeer(Peer):
    def __init__(self, address: Address) -> None:
        url = urlsplit(address.base_url)
        self._ssl_context = address.ssl_context
        self._host, self._port = url.hostname or "", url.port or 80
        self._path = url.path
        self._idle: list[RawStream] = []

    async def stream(self, model: str, pause: Pause) -> Received:
        events, after = 0, pause.after
        parts = pause.parts()
        split = Events()
        stream, _, rest = await self._ask("POST", "/chat/completions", body(model, stream=True))
        chunked = Chunked(rest)
        data = b""
        try:
            while True:
                for event in split.feed(chunked.feed(data)):
                    if event == DONE:
                        continue
                    events += 1
                    content = decode_chunk(event).choices[0].delta.content
                    if content:
                        parts.append(content)
                    if events == after:
                        await pause.wait()
                if chunked.ended:
                    break
                data = await stream.receive()
        except BaseException:
            stream.close()
            raise
        self.keep(stream)
        return Received(events, "".join(parts))

    async def create(self, model: str) -> Received:
        content = await self._whole("POST", "/chat/completions", body(model, stream=False))
        return Received(1, decode_completion(content).choices[0].message.content or "")

    async def models(self) -> Received:
        listed = decode_models(await self._whole("GET", "/models", b""))
        return Received(1, " ".join(model.id for model in listed.data))

    async def _whole(self, method: str, path: str, content: bytes) -> bytes:
        stream, head, answer = await self._ask(method, path, content)
        size = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while len(answer) < size:
            answer += await stream.receive()
        self.keep(stream)
        return answer

    async def _ask(self, method: str, path: str, content: bytes) -> tuple[RawStream, bytes, bytes]:
        """Send the request; gives the stream, the head and what came behind it."""
        stream = await self.send(method, path, content)
        arrived = b""
        while b"\r\n\r\n" not in arrived:
            arrived += await stream.receive()
        answer, _, rest = arrived.partition(b"\r\n\r\n")
        return stream, answer, rest

    async def send(self, method: str, path: str, content: bytes) -> RawStream:
        """Send a request on an idle connection, or on a new one."""
        if self._idle:
            stream = self._idle.pop()
        else:
            stream = await _connect(self._host, self._port, self._ssl_context)
        head = (
            f"{method} {self._path}{path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
            f"Authorization: Bearer none\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        await stream.send(head.encode() + content)
        return stream

    def keep(self, stream: RawStream) -> None:
        """Take back a connection whose answer is over."""
        self._idle.append(stream)

    def close(self) -> None:
        for stream in self._idle:
            stream.close()


async def _connect(host: str, port: int, ssl_context: ssl.SSLContext | None) -> RawStream:
    if in_trio():
        from .raw_trio import connect

        return await connect(host, port, ssl_context)
    return await RawAsyncioStream.connect(host, port, ssl_context)


def opens(
    kind: Callable[[Address], RawPeer],
) -> Callable[[Address], AbstractAsyncContextManager[RawPeer]]:
    """Return what opens a peer of this kind."""

    @asynccontextmanager
    async def open_peer(address: Address) -> AsyncIterator[RawPeer]:
        peer = kind(address)
        try:
            yield peer
        finally:
            peer.close()

    return open_peer


DRIVER = Driver(opens(RawPeer), loops=("asyncio", "uvloop", "trio"))
