"""An HTTP proxy on loopback that makes tunnels, itself behind TLS or not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from penstock.testing.certificates import server_ssl_context
from penstock.testing.loopback import LoopbackStream

from .relays import listening, relay

__all__ = ["serve_tunnels"]


@asynccontextmanager
async def serve_tunnels(*, tls: bool) -> AsyncIterator[str]:
    """Run a proxy that connects to the port asked for on 127.0.0.1; gives its URL."""

    async def serve(client: LoopbackStream) -> None:
        if tls:
            await client.start_tls(server_ssl_context())
        asked = b""
        while b"\r\n\r\n" not in asked:
            data = await client.receive()
            if not data:
                return
            asked += data
        head, _, rest = asked.partition(b"\r\n\r\n")
        method, target, _ = head.split(b"\r\n")[0].split(b" ")
        assert method == b"CONNECT"
        await client.send(b"HTTP/1.1 200 OK\r\n\r\n")
        await relay(client, ("127.0.0.1", int(target.rpartition(b":")[2])), rest)

    async with listening(serve) as port:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}"
