"""A network without sockets: an httpcore network backend that plays scripts.

There is no background task. A stream's own read() plays the steps: those that the server would
have done by now, on the event loop's clock, have happened, and for later ones it waits. So it
works in virtual time, and a cancelled read loses nothing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import anyio
import anyio.lowlevel

from .._http import lazy
from .records import Connection, Records
from .requests import RequestReader
from .script import (
    End,
    Fault,
    Pause,
    Player,
    RecordedRequest,
    Reply,
    Reset,
    Script,
    Send,
    Stall,
    Step,
    unroll,
)
from .stacks import capture

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Iterator


@dataclass
class MemoryConnection(Connection):
    """What happened on one connection to a `MemoryNetwork`; `bytes_sent` counts what was read."""

    host: str = ""
    """The host that the client connected to, or the path of a Unix socket."""
    port: int = 0
    """The port; 0 for a Unix socket."""
    tls: list[str | None] = field(default_factory=list[str | None])
    """The `server_hostname` of each start_tls."""
    stream: MemoryStream | None = None
    """The client's end."""


networks: WeakSet[MemoryNetwork] = WeakSet()
"""All networks, for `no_leaks`."""


class MemoryNetwork(Records[MemoryConnection], lazy.httpcore.AsyncNetworkBackend):
    """Plays `script` on every connection, and records what happens.

    `refuse`: this many of the next connects fail. `stall`: this many after them hang. `delay`:
    the seconds that any other connect takes. `max_read`: no read returns more bytes than this.
    `early`: requests are answered when this many bytes of their body are in; with
    `reads_on=False` the server then takes nothing more, and the client's writes wait.
    All can be changed while the network is in use.
    """

    def __init__(
        self,
        script: Script,
        *,
        refuse: int = 0,
        stall: int = 0,
        delay: float = 0.0,
        max_read: int | None = None,
        early: int | None = None,
        reads_on: bool = True,
    ) -> None:
        super().__init__()
        self._player = Player(script)
        self.refuse: int = refuse
        """How many of the next connects fail."""
        self.stall: int = stall
        """How many connects after them hang."""
        self.delay: float = delay
        """Seconds that any other connect takes."""
        self.max_read: int | None = max_read
        """The most bytes that a read returns; None is no limit."""
        self.early: int | None = early
        """Bytes of a body after which new connections answer; None is all of them."""
        self.reads_on: bool = reads_on
        """Whether the server takes the rest of a request that it answers early."""
        self.connects: list[tuple[str, int]] = []
        """Host and port of each connect, also of failed ones."""
        networks.add(self)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> MemoryStream:
        """Open a connection to the script; the address is only recorded."""
        return await self._connect(host, port, timeout)

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> MemoryStream:
        """The same for a Unix socket."""
        return await self._connect(path, 0, timeout)

    async def sleep(self, seconds: float) -> None:
        """Part of httpcore's interface."""
        await anyio.sleep(seconds)

    async def _connect(self, host: str, port: int, timeout: float | None) -> MemoryStream:
        self.connects.append((host, port))
        wait = self.delay
        if self.refuse > 0:
            self.refuse -= 1
            await anyio.lowlevel.checkpoint()
            raise lazy.httpcore.ConnectError("connection refused (by the script)")
        if self.stall > 0:
            self.stall -= 1
            wait = float("inf")
        if timeout is not None and timeout < wait:
            await anyio.sleep(timeout)
            raise lazy.httpcore.ConnectTimeout("connect timed out")
        if wait == float("inf"):
            await anyio.sleep_forever()
        await anyio.sleep(wait)
        # From here on there is no await: a connection that was opened is always handed out.
        number = len(self.connections)
        connection = MemoryConnection(
            number, anyio.current_time(), host=host, port=port, used_at=capture()
        )
        connection.stream = MemoryStream(self, self._player, connection)
        self.connections.append(connection)
        return connection.stream


class MemoryStream(lazy.httpcore.AsyncNetworkStream):
    """The client's end of one connection; reads run the server's end."""

    def __init__(
        self, network: MemoryNetwork, player: Player, connection: MemoryConnection
    ) -> None:
        self.connection: MemoryConnection = connection
        """What happened on it so far."""
        self._network = network
        self._player = player
        self._requests = RequestReader(network.early)
        self._waiting: deque[RecordedRequest] = deque()  # requests the server has not come to
        self._steps: Iterator[Step] = iter(())
        self._answering: RecordedRequest | None = None
        self._server_time = 0.0  # when the server will have done all the steps taken so far
        self._next: tuple[float, bytes | type[Exception]] | None = None  # when, and what
        self._over = False  # the server has ended or stalled: no step will follow
        self._changed = anyio.Event()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return bytes of one segment at most; b"" at the end. A cancelled call reads nothing."""
        start = anyio.current_time()
        deadline = float("inf") if timeout is None else start + timeout
        await anyio.lowlevel.checkpoint()
        while True:
            if self.connection.closed_at is not None:
                raise lazy.httpcore.ReadError("the stream was closed")
            self._look_ahead()
            ready = self._next[0] if self._next else float("inf")
            now = anyio.current_time()
            if ready <= now:
                return self._take(max_bytes)
            if deadline <= now:
                raise lazy.httpcore.ReadTimeout("read timed out")
            with anyio.CancelScope(deadline=min(ready, deadline)):
                await self._changed.wait()

    def _take(self, max_bytes: int) -> bytes:
        assert self._next is not None
        when, segment = self._next
        if isinstance(segment, type):
            raise segment("connection reset (by the script)")
        size = min(max_bytes, self._network.max_read or max_bytes)
        data, rest = segment[:size], segment[size:]
        if rest:
            self._next = (when, rest)
        elif data:  # an empty one is the end of file, which can be read for ever
            self._next = None
            self._look_ahead()  # is that all?
        self.connection.bytes_sent += len(data)
        return data

    def _look_ahead(self) -> None:
        """Run the server until the next thing to read is known, without regard to the clock."""
        while self._next is None and not self._over:
            step = next(self._steps, None)
            if step is None:
                self._answered()
                if not self._waiting:
                    return
                self._answering = request = self._waiting.popleft()
                self._server_time = max(self._server_time, request.time)
                self._steps = unroll(self._reply_to(request).steps)
            elif isinstance(step, Pause):
                self._server_time += step.seconds
            elif isinstance(step, Send):
                if step.data:
                    self._next = (self._server_time, step.data)
            elif isinstance(step, End):
                self._next = (self._server_time, b"")
                self._over = True
                self._answered()
            elif isinstance(step, Reset):
                self._next = (self._server_time, lazy.httpcore.ReadError)
                self._over = True
                self._answered()
            elif isinstance(step, Stall):
                self._over = True

    def _reply_to(self, request: RecordedRequest) -> Reply:
        try:
            return self._player.reply_to(request)
        except Exception as error:
            self._network.errors.append(error)
            self._next = (self._server_time, lazy.httpcore.ReadError)
            self._over = True
            self._answered()
            raise

    def _answered(self) -> None:
        if self._answering is not None:
            self.connection.in_flight.remove(self._answering)
            self._answering = None

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Hand bytes to the server, which hears them at once."""
        await anyio.lowlevel.checkpoint()
        if self.connection.closed_at is not None:
            raise lazy.httpcore.WriteError("the stream was closed")
        self._look_ahead()
        now = anyio.current_time()
        if self._next and self._next[1] is lazy.httpcore.ReadError and self._next[0] <= now:
            raise lazy.httpcore.WriteError("connection reset (by the script)")
        if self.connection.dead is not None:
            self._die(self.connection.dead)
            return
        while self._requests.skipping and not self._network.reads_on:
            await self._changed.wait()
            if self.connection.closed_at is not None:
                raise lazy.httpcore.WriteError("the stream was closed")
        self.connection.bytes_received += len(buffer)
        number = self.connection.number
        for request in self._requests.feed(buffer, connection=number, time=now):
            self._network.requests.append(request)
            self.connection.requests.append(request)
            self.connection.in_flight.append(request)
            self.connection.used_at = capture()
            self._waiting.append(request)
        self._wake()

    def _die(self, fault: Fault) -> None:
        """Play what a half-dead connection does when it is used."""
        if not self._over:
            self._over = True
            if not isinstance(fault, Stall):
                ending = lazy.httpcore.ReadError if isinstance(fault, Reset) else b""
                self._next = (anyio.current_time(), ending)
            self._wake()

    async def aclose(self) -> None:
        """Close the connection, also when cancelled."""
        # Closed before the checkpoint: a close that is cancelled has closed all the same.
        self.close_nowait()
        await anyio.lowlevel.checkpoint()

    def close_nowait(self) -> None:
        """Close the connection; a reader elsewhere gets a ReadError."""
        if self.connection.closed_at is None:
            self.connection.closed_at = now = anyio.current_time()
            self.connection.ended = "client closed"
            if self._next is not None and self._next[0] <= now:
                ending = self._next[1]
                if isinstance(ending, type):
                    self.connection.ended = "reset"
                elif not ending:
                    self.connection.ended = "server closed"
            self.connection.in_flight.clear()
            self._answering = None
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> MemoryStream:
        """Only record the host name; the bytes stay as they are."""
        await anyio.lowlevel.checkpoint()
        self.connection.tls.append(server_hostname)
        return self

    def get_extra_info(self, info: str) -> Any:
        """Answer "is_readable", as a socket would; None to anything else."""
        if info == "is_readable":  # so an idle connection is known to be stale
            if self.connection.closed_at is not None:
                return True
            self._look_ahead()
            return self._next is not None and self._next[0] <= anyio.current_time()
        return None
