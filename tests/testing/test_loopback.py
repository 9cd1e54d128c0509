"""The server's end of a real connection: bytes both ways, TLS, and every way to end."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from typing import TypeVar

import anyio
import anyio.to_thread
import pytest

from penstock.testing.certificates import client_ssl_context, server_ssl_context
from penstock.testing.loopback import Gone, LoopbackStream

pytestmark = pytest.mark.anyio

T = TypeVar("T")
MEGABYTE = bytes(range(256)) * 4096


@pytest.fixture
def pair() -> Iterator[tuple[LoopbackStream, socket.socket]]:
    """The server's stream and the client's socket, which blocks."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    client.settimeout(10)
    stream = LoopbackStream(accepted)
    yield stream, client
    stream.close()
    client.close()


async def in_thread(call: Callable[[], T]) -> T:
    return await anyio.to_thread.run_sync(call)


def read_all(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(65536), b""))


async def shake_hands(
    stream: LoopbackStream, client: socket.socket, host: str = "localhost"
) -> ssl.SSLSocket:
    """Start TLS on both sides; gives the client's."""
    made: list[ssl.SSLSocket] = []

    async def wrap() -> None:
        made.append(
            await in_thread(
                lambda: client_ssl_context().wrap_socket(
                    client, server_hostname=host, suppress_ragged_eofs=False
                )
            )
        )

    async with anyio.create_task_group() as group:
        group.start_soon(wrap)
        await stream.start_tls(server_ssl_context())
    return made[0]


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
async def test_more_than_the_kernel_holds_goes_both_ways(
    pair: tuple[LoopbackStream, socket.socket], tls: bool
) -> None:
    stream, client = pair
    if tls:
        client = await shake_hands(stream, client)
    echoed = bytearray()

    async def receive() -> None:
        while len(echoed) < len(MEGABYTE):
            echoed.extend(await stream.receive())

    async with anyio.create_task_group() as group:
        group.start_soon(receive)
        await in_thread(lambda: client.sendall(MEGABYTE))
    assert bytes(echoed) == MEGABYTE

    async def send() -> None:
        await stream.send(MEGABYTE)
        await stream.end()

    async with anyio.create_task_group() as group:
        group.start_soon(send)
        assert await in_thread(lambda: read_all(client)) == MEGABYTE
    client.close()


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
async def test_a_polite_end_leaves_the_other_direction_open(
    pair: tuple[LoopbackStream, socket.socket], tls: bool
) -> None:
    stream, client = pair
    if tls:
        client = await shake_hands(stream, client)
    await stream.end()
    # With TLS it is a close_notify: without one this client would see a truncation.
    assert await in_thread(lambda: client.recv(10)) == b""
    if not tls:
        client.sendall(b"still here")
        assert await stream.receive() == b"still here"
    client.close()
    while await stream.receive():
        pass


async def test_a_reset_is_one(pair: tuple[LoopbackStream, socket.socket]) -> None:
    stream, client = pair
    stream.reset()
    with pytest.raises(ConnectionResetError):
        await in_thread(lambda: client.recv(10))


async def test_closing_inside_tls_is_a_truncation(
    pair: tuple[LoopbackStream, socket.socket],
) -> None:
    stream, client = pair
    secure = await shake_hands(stream, client)
    stream.close()
    with pytest.raises(ssl.SSLEOFError):
        await in_thread(lambda: secure.recv(10))
    secure.close()


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
async def test_a_client_that_has_left(
    pair: tuple[LoopbackStream, socket.socket], tls: bool
) -> None:
    stream, client = pair
    if tls:
        client = await shake_hands(stream, client)
    client.close()
    assert await stream.receive() == b""
    with pytest.raises(Gone):  # noqa: PT012 - the first ones may still fit into the kernel
        for _ in range(50):
            await stream.send(MEGABYTE)


@pytest.mark.parametrize("answer", [b"GET / HTTP/1.1\r\n\r\n", b""], ids=["no TLS", "nothing"])
async def test_a_handshake_that_fails(
    pair: tuple[LoopbackStream, socket.socket], answer: bytes
) -> None:
    stream, client = pair
    client.sendall(answer)
    client.shutdown(socket.SHUT_WR)
    with pytest.raises(Gone):
        await stream.start_tls(server_ssl_context())


async def test_a_cancelled_wait_loses_nothing(
    pair: tuple[LoopbackStream, socket.socket],
) -> None:
    stream, client = pair
    for _ in range(3):
        with anyio.move_on_after(0.001) as scope:
            await stream.receive()
        assert scope.cancelled_caught
    client.sendall(b"late")
    assert await stream.receive() == b"late"
