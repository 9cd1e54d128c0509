"""What proxies on loopback have in common: they listen, and pass bytes on in both directions."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import anyio

from penstock.testing.loopback import Gone, LoopbackStream

__all__ = ["listening", "relay"]


@asynccontextmanager
async def listening(serve: Callable[[LoopbackStream], Awaitable[None]]) -> AsyncIterator[int]:
    """Have `serve` called with each connection to a port of 127.0.0.1, which is given."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)

        async def one(client: LoopbackStream) -> None:
            try:
                with suppress(Gone):
                    await serve(client)
            finally:
                client.close()

        async def accept() -> None:
            while True:
                await anyio.wait_readable(listener)
                sock, _ = listener.accept()
                group.start_soon(one, LoopbackStream(sock))

        async with anyio.create_task_group() as group:
            group.start_soon(accept)
            try:
                yield listener.getsockname()[1]
            finally:
                group.cancel_scope.cancel()


async def relay(client: LoopbackStream, target: tuple[str, int], first: bytes) -> None:
    """Connect to the target, send it `first`, and copy both ways until one of them has gone."""
    sock = socket.create_connection(target)  # on loopback it takes no time
    server = LoopbackStream(sock)
    try:
        await server.send(first)
        async with anyio.create_task_group() as group:
            group.start_soon(_copy, server, client, group.cancel_scope)
            group.start_soon(_copy, client, server, group.cancel_scope)
    finally:
        server.close()


async def _copy(source: LoopbackStream, sink: LoopbackStream, scope: anyio.CancelScope) -> None:
    with suppress(Gone):
        while data := await source.receive():
            await sink.send(data)
    scope.cancel()
