"""A stream of ours connected to a plain socket, which the test holds in its hand."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import anyio
import anyio.lowlevel

from penstock._http import asyncio_stream, trio_stream
from penstock._http.asyncio_stream import AsyncioStream
from penstock._http.descriptors import fd_is_readable
from penstock._http.network import NetworkStream
from penstock._http.trio_stream import TrioStream
from penstock._loops import in_trio
from penstock.testing.clock import Backend, virtual

T = TypeVar("T")


@contextmanager
def listening(host: str = "127.0.0.1", buffer: int | None = None) -> Iterator[socket.socket]:
    """A listener; `buffer` bounds what the kernel takes for the sockets it accepts."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        if buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        listener.bind((host, 0))
        listener.listen(16)
        listener.settimeout(5)
        yield listener


async def connect_tcp(host: str, port: int) -> AsyncioStream | TrioStream:
    """Connect by the stream of the backend that runs."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if in_trio():
        return await trio_stream.connect_tcp(host, port, family)
    return await asyncio_stream.connect_tcp(host, port, family)


@asynccontextmanager
async def connected(
    buffer: int | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[NetworkStream, socket.socket]]:
    """A stream and the socket at its other end, both closed afterwards."""
    with listening(host, buffer) as listener:
        stream = await connect_tcp(host, listener.getsockname()[1])
        if buffer is not None:
            raw_socket(stream).setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            raw_socket(stream).setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        peer, _ = listener.accept()
        with peer:
            peer.settimeout(5)
            try:
                yield stream, peer
            finally:
                stream.close()
                with anyio.CancelScope(shield=True):
                    await stream.aclose(0)


def raw_socket(stream: NetworkStream) -> Any:
    """The stream's own socket (asyncio's: what its transport shows of it)."""
    if isinstance(stream, TrioStream):
        return stream._sock
    assert isinstance(stream, AsyncioStream)
    assert stream._transport is not None
    return stream._transport.get_extra_info("socket")


def reset(peer: socket.socket) -> None:
    """Close with a RST."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def saw_the_end(peer: socket.socket) -> bool:
    """Wait for the end of the connection, however it comes, dropping what comes before."""
    while True:
        try:
            if not peer.recv(65536):
                return True
        except TimeoutError:
            return False
        except OSError:
            return True


async def turns(count: int) -> None:
    """Let the event loop go round so many times."""
    for _ in range(count):
        await anyio.lowlevel.checkpoint()


async def until(condition: Callable[[], object]) -> None:
    """Let the event loop go round until the condition holds, for seconds at most."""
    with anyio.fail_after(5):
        while not condition():  # noqa: ASYNC110 - of the kernel, or of the library's insides
            await anyio.sleep(0.001)


async def at_the_door(stream: NetworkStream) -> None:
    """Wait until something has reached the stream's socket, without letting the stream see it."""
    fd = raw_socket(stream).fileno()
    for _ in range(100_000):
        if fd_is_readable(fd):
            return
    raise AssertionError("nothing came")


def run(backend: Backend, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run it in an event loop of its own."""
    name, options = backend
    return anyio.run(function, backend=name, backend_options=options)


def run_virtual(name: str, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run it in virtual time. Sockets may be used where the test itself is the peer."""
    return run(virtual(name), function)
