"""The scripts on real loopback sockets, in the same event loop as the client under test."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import anyio
import anyio.lowlevel
from anyio.from_thread import start_blocking_portal

from .certificates import client_ssl_context, server_ssl_context
from .loopback import Gone, LoopbackStream
from .records import Connection, Records
from .requests import RequestReader
from .script import (
    End,
    Fault,
    Pause,
    Player,
    RecordedRequest,
    Reset,
    Script,
    Send,
    Stall,
    StartTLS,
    unroll,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Awaitable, Callable


class Server(Records[Connection]):
    """A running server; made by `serve`."""

    def __init__(
        self,
        script: Script,
        base_url: str,
        tls: bool | Literal["stall"],
        early: int | None,
        reads_on: bool,
    ) -> None:
        super().__init__()
        self.early = early
        """Bytes of a body after which requests are answered; None is all of them."""
        self.reads_on = reads_on
        """Whether the rest of a request is read that is answered early."""
        self.base_url = base_url
        """Where clients connect, for instance "http://127.0.0.1:40000/v1"."""
        self._player = Player(script)
        self._tls = tls
        self._changed = anyio.Event()

    async def wait_until(self, condition: Callable[[], object], timeout: float = 5.0) -> None:
        """Wait until `condition()` is true. TimeoutError if it does not become true in time."""
        await anyio.lowlevel.checkpoint()
        with anyio.fail_after(timeout):
            while not condition():
                await self._changed.wait()

    async def wait_closed(self, n: int = 1, timeout: float = 5.0) -> None:
        """Wait until `n` connections have been closed since the start."""
        await self.wait_until(lambda: len(self.connections) - self.open_connections >= n, timeout)

    async def wait_requests(self, n: int = 1, timeout: float = 5.0) -> None:
        """Wait until `n` requests have arrived since the start."""
        await self.wait_until(lambda: len(self.requests) >= n, timeout)

    def client_ssl_context(self) -> ssl.SSLContext:
        """Return a client's context that trusts this server's certificate."""
        return client_ssl_context()

    def note_change(self) -> None:
        """Let waiting tasks check their conditions again."""
        self._changed.set()
        self._changed = anyio.Event()

    async def accept(self, listener: socket.socket) -> None:
        """Serve every connection, until cancelled."""
        async with anyio.create_task_group() as group:
            while True:
                await anyio.wait_readable(listener)
                try:
                    sock, _ = listener.accept()
                except OSError:  # the client has gone again
                    continue
                connection = Connection(len(self.connections), anyio.current_time())
                self.connections.append(connection)
                self.note_change()
                group.start_soon(self._serve, LoopbackStream(sock), connection)

    async def _serve(self, stream: LoopbackStream, connection: Connection) -> None:
        try:
            if self._tls:
                if self._tls == "stall":
                    while await stream.receive():
                        pass
                    raise Gone
                await stream.start_tls(server_ssl_context())
            await _Conversation(self, self._player, stream, connection).run()
        except Gone:
            connection.ended = connection.ended or "client closed"
        except Exception as error:  # noqa: BLE001 -- reported when the block is left
            self.errors.append(error)
            connection.ended = connection.ended or "server stopped"
        finally:
            connection.ended = connection.ended or "server stopped"
            if connection.ended == "reset":
                stream.reset()
            else:
                stream.close()
            connection.closed_at = anyio.current_time()
            connection.in_flight.clear()
            self.note_change()


class _Conversation:
    """Two tasks on one connection: one plays replies, the other reads requests."""

    def __init__(
        self, server: Server, player: Player, stream: LoopbackStream, connection: Connection
    ) -> None:
        self._server = server
        self._player = player
        self._stream = stream
        self._connection = connection
        self._waiting: deque[RecordedRequest] = deque()
        self._wake_player = anyio.Event()
        self._wake_listener = anyio.Event()
        self._error: Exception | None = None

    async def run(self) -> None:
        # Nothing is raised inside the group, so that it raises no ExceptionGroup.
        async with anyio.create_task_group() as group:

            async def listen() -> None:
                await self._catch(self._listen)
                group.cancel_scope.cancel()

            group.start_soon(listen)
            await self._catch(self._play)
            group.cancel_scope.cancel()
        if self._error is not None:
            raise self._error

    async def _catch(self, part: Callable[[], Awaitable[None]]) -> None:
        try:
            await part()
        except Exception as error:  # noqa: BLE001
            self._error = self._error or error

    async def _listen(self) -> None:
        requests = RequestReader(self._server.early)
        number = self._connection.number
        while data := await self._stream.receive():
            self._connection.bytes_received += len(data)
            if self._connection.dead is not None:
                await self._die(self._connection.dead)
                continue
            if self._connection.ended is not None:
                continue  # sent on a connection that the script has ended
            for request in requests.feed(data, connection=number, time=anyio.current_time()):
                self._connection.requests.append(request)
                self._connection.in_flight.append(request)
                self._server.requests.append(request)
                self._waiting.append(request)
                self._wake_player.set()
                self._server.note_change()
                if requests.skipping and not self._server.reads_on:
                    await self._stream.wait_gone()
                    raise Gone
                if request.method == "CONNECT":
                    # The next bytes may be TLS; the player decides that.
                    await self._wake_listener.wait()
        raise Gone

    async def _die(self, fault: Fault) -> None:
        """Do what a half-dead connection does when it is used."""
        if isinstance(fault, Reset):
            self._connection.ended = "reset"
            raise Gone
        if isinstance(fault, End):
            self._connection.ended = "server closed"
            await self._stream.end()

    async def _play(self) -> None:
        while True:
            while not self._waiting:
                self._wake_player = anyio.Event()
                await self._wake_player.wait()
            request = self._waiting.popleft()
            for step in unroll(self._player.reply_to(request).steps):
                match step:
                    case Send(data):
                        await self._stream.send(data)
                        self._connection.bytes_sent += len(data)
                        await anyio.lowlevel.checkpoint()
                    case Pause(seconds):
                        await anyio.sleep(seconds)
                    case StartTLS():
                        await self._stream.start_tls(server_ssl_context())
                    case Stall():
                        await anyio.sleep_forever()
                    case End():
                        self._connection.ended = "server closed"
                        self._connection.in_flight.remove(request)
                        await self._stream.end()
                        await anyio.sleep_forever()
                    case Reset():
                        self._connection.ended = "reset"
                        return
            self._connection.in_flight.remove(request)
            self._server.note_change()
            self._wake_listener.set()
            self._wake_listener = anyio.Event()


@asynccontextmanager
async def serve(
    script: Script,
    *,
    tls: bool | Literal["stall"] = False,
    uds: str | Path | None = None,
    early: int | None = None,
    reads_on: bool = True,
) -> AsyncGenerator[Server]:
    """Run a server for as long as the block lasts.

    `tls="stall"` accepts connections and never answers the handshake. With `early` a request is
    answered when this many bytes of its body are in; with `reads_on=False` the server then reads
    nothing more, so that a large upload gets stuck. An error of the script, or
    a request that is not HTTP, is raised when the block is left.
    """
    listener = _listen(uds)
    scheme = "https" if tls else "http"
    address = "localhost" if uds is not None else f"127.0.0.1:{listener.getsockname()[1]}"
    server = Server(script, f"{scheme}://{address}/v1", tls, early, reads_on)
    failure: BaseException | None = None
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(server.accept, listener)
            try:
                yield server
            except (GeneratorExit, anyio.get_cancelled_exc_class()):
                raise
            except BaseException as error:  # noqa: BLE001 -- raised below, without an ExceptionGroup
                failure = error
            group.cancel_scope.cancel()
    finally:
        listener.close()
        if uds is not None:
            Path(uds).unlink(missing_ok=True)
    if failure is not None:
        raise failure
    if server.errors:
        raise server.errors[0]


def closed_port() -> int:
    """Return a port that refuses connections."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _listen(uds: str | Path | None) -> socket.socket:
    family = socket.AF_INET if uds is None else socket.AF_UNIX
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setblocking(False)
    listener.bind(("127.0.0.1", 0) if uds is None else str(uds))
    listener.listen(1024)
    return listener


@contextmanager
def serve_in_thread(script: Script, *, tls: bool = False) -> Generator[Server]:
    """Run `serve(script, tls=tls)` in a thread. Read its records, but call no methods of it."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve(script, tls=tls)) as server,
    ):
        yield server


def becomes_true(condition: Callable[[], object], seconds: float = 20.0) -> bool:
    """Return whether the condition becomes true in time, checked every ten milliseconds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
