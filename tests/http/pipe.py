"""Streams in memory, in which the test itself is the peer, and nothing is left to chance."""

from __future__ import annotations

import itertools
import ssl
from collections import deque
from collections.abc import Callable

import anyio
import anyio.lowlevel

from penstock._http.dial import Dialer, NewScope
from penstock._http.network import ClosedLocally, Deadline, NetworkStream, Upload
from penstock._http.proxy import Proxy
from penstock._wire.url import Origin
from penstock.testing.certificates import server_ssl_context

ORIGIN = Origin("http", "example.com", 80)


class Pipe(NetworkStream):
    """The client's end of a connection in memory.

    `feed` gives what the peer sends, a piece for each read: bytes, b"" for its end, or an
    exception. `on_send` is told what the client has sent.
    """

    def __init__(self, *items: bytes | Exception) -> None:
        self.incoming: deque[bytes | Exception] = deque(items)
        self.sent = bytearray()
        self.on_send: Callable[[bytes], object] | None = None
        self.send_error: Exception | None = None
        self.stuck = False
        """Whether the peer takes nothing more: writes wait."""
        self.closed = False
        self.acloses: list[float | None] = []
        self.foreign = False
        """Whether it belongs to another event loop."""
        self._changed: anyio.Event | None = None

    def feed(self, *items: bytes | Exception) -> None:
        self.incoming.extend(items)
        self._wake()

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()

    async def _wait(self, deadline: Deadline) -> None:
        self._changed = anyio.Event()
        at = deadline.begin(anyio.current_time())
        try:
            with anyio.CancelScope(deadline=at) as scope:
                await self._changed.wait()
        finally:
            deadline.end(anyio.current_time())
        if scope.cancelled_caught:
            raise deadline.error()

    async def receive(self, deadline: Deadline) -> bytes:
        await anyio.lowlevel.checkpoint()
        if self.incoming:
            deadline.check(anyio.current_time())
        while not self.incoming and not self.closed:
            await self._wait(deadline)
        if self.closed:
            raise ClosedLocally
        return self._take()

    def _take(self) -> bytes:
        item = self.incoming[0]
        if isinstance(item, Exception):
            raise item
        if item:
            self.incoming.popleft()
        return item

    def receive_nowait(self) -> bytes:
        pieces = []
        while self.incoming and isinstance(self.incoming[0], bytes) and self.incoming[0]:
            pieces.append(self._take())
        return b"".join(pieces)

    async def send(self, data: bytes, deadline: Deadline) -> None:
        await anyio.lowlevel.checkpoint()
        while self.stuck and not self.closed:
            await self._wait(deadline)
        if self.closed:
            raise ClosedLocally
        if self.send_error is not None:
            raise self.send_error
        self.sent += data
        if self.on_send is not None:
            self.on_send(data)

    async def upload(self, upload: Upload, deadline: Deadline) -> bool:
        await anyio.lowlevel.checkpoint()
        while True:
            if self.closed:
                raise ClosedLocally
            if self.send_error is not None:
                raise self.send_error
            if not self.stuck:
                data = bytes(upload.peek())
                upload.advance(len(data))
                self.sent += data
                if self.on_send is not None:
                    self.on_send(data)
                if not upload:
                    return True
            if self.incoming:
                return False
            if self.stuck:
                await self._wait(deadline)

    def is_clean(self) -> bool:
        return not self.closed and not self.incoming and not self.foreign

    def close(self) -> None:
        self.closed = True
        self._wake()

    async def aclose(self, grace: float | None) -> None:
        self.acloses.append(grace)
        self.close()
        await anyio.lowlevel.checkpoint()


class TLSPeer:
    """A TLS server at the other end of a pipe; of another one as well, for TLS inside TLS.

    `cut` says where what it sends is cut into reads: the lengths, and the last one repeated.
    """

    def __init__(
        self,
        below: Pipe | TLSPeer,
        context: ssl.SSLContext | None = None,
        cut: list[int] | None = None,
    ) -> None:
        self.below = below
        self.cut = deque(cut or [])
        self.received = bytearray()
        self.on_send: Callable[[bytes], object] | None = None
        self.ready = False
        self.ended = False
        self.alert: ssl.SSLError | None = None
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.object = (context or server_ssl_context()).wrap_bio(
            self.incoming, self.outgoing, server_side=True
        )
        below.on_send = self._take

    def _take(self, data: bytes) -> None:
        self.incoming.write(data)
        try:
            if not self.ready:
                self.object.do_handshake()
                self.ready = True
            while not self.ended:
                text = self.object.read(65536)
                if not text:
                    self.ended = True
                    break
                self.received += text
                if self.on_send is not None:
                    self.on_send(text)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        except OSError as error:
            # Of a broken connection OpenSSL may give no reason of its own, but what the last
            # system call had left behind.
            if self.alert is None and isinstance(error, ssl.SSLError):
                self.alert = error
        self.flush()

    def encrypt(self, data: bytes) -> bytes:
        """The records of this text, without sending them."""
        self.flush()
        if data:
            self.object.write(data)
        return self.outgoing.read()

    def feed(self, data: bytes) -> None:
        """Send this text."""
        if data:
            self.object.write(data)
        self.flush()

    def end(self) -> None:
        """Send close_notify."""
        try:
            self.object.unwrap()
        except ssl.SSLError:
            pass
        self.flush()

    def flush(self) -> None:
        data = self.outgoing.read()
        while data:
            size = len(data)
            if self.cut:
                size = self.cut.popleft() if len(self.cut) > 1 else self.cut[0]
            self.below.feed(data[:size])
            data = data[size:]


class PipeDialer(Dialer):
    """Gives out these pipes, one for each dial."""

    def __init__(
        self, *pipes: NetworkStream, origin: Origin = ORIGIN, proxy: Proxy | None = None
    ) -> None:
        super().__init__(origin, proxy=proxy)
        self.pipes = deque(pipes)
        self.dials = 0

    async def dial(
        self, deadline: Deadline, new_scope: NewScope = anyio.CancelScope
    ) -> NetworkStream:
        self.dials += 1
        await anyio.lowlevel.checkpoint()
        return self.pipes.popleft()


def split(data: bytes, places: list[int]) -> list[bytes]:
    """The same bytes, cut at these places."""
    cuts = [0, *sorted({place for place in places if 0 < place < len(data)}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(cuts) if data[a:b]]
