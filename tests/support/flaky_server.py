"""A server on loopback that can be killed, stalled and brought back, and counts what it sent."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.abc

from penstock.testing.replies import chunk, head, sse_event, tokens

EVENTS: list[str | dict[str, Any]] = [*tokens("a", "b", "c", "d", "e"), "[DONE]"]
HEAD = head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})


class FlakyServer:
    """Streams five tokens to each request, which is known by its member `nth`."""

    def __init__(self, tasks: anyio.abc.TaskGroup) -> None:
        self.port = 0
        self.pause = 0.002
        """Seconds between two tokens."""
        self.requests: Counter[int] = Counter()
        """How often each request arrived."""
        self.begun: Counter[int] = Counter()
        """How often the first byte of a body was sent for each request."""
        self.ended: Counter[int] = Counter()
        """How often an answer was sent whole."""
        self.users: Counter[str] = Counter()
        """How many requests of each user were answered."""
        self._tasks = tasks
        self._scope = anyio.CancelScope()
        self._running = anyio.Event()
        self._running.set()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> None:
        """Listen, on the same port as before."""
        listener = await anyio.create_tcp_listener(
            local_host="127.0.0.1", local_port=self.port, reuse_port=False
        )
        self.port = listener.extra(anyio.abc.SocketAttribute.local_port)
        self._scope = anyio.CancelScope()
        self._tasks.start_soon(self._serve, listener, self._scope)

    def kill(self) -> None:
        """Close the listener and every connection at once."""
        self._scope.cancel()

    def stall(self) -> None:
        """Answer nothing and nobody from now on; connections stay open."""
        self._running = anyio.Event()

    def resume(self) -> None:
        """Go on."""
        self._running.set()

    async def _serve(
        self, listener: anyio.abc.Listener[anyio.abc.SocketStream], scope: anyio.CancelScope
    ) -> None:
        with scope:
            async with listener:
                await listener.serve(self._connection)

    async def _connection(self, stream: anyio.abc.SocketStream) -> None:
        async with stream:
            received = b""
            try:
                while True:
                    while b"\r\n\r\n" not in received:
                        received += await stream.receive()
                    lines, _, received = received.partition(b"\r\n\r\n")
                    size = int(lines.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                    while len(received) < size:
                        received += await stream.receive()
                    body, received = json.loads(received[:size]), received[size:]
                    await self._answer(stream, body)
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass

    async def _answer(self, stream: anyio.abc.SocketStream, body: dict[str, Any]) -> None:
        nth = body["nth"]
        self.requests[nth] += 1
        await self._running.wait()
        await stream.send(HEAD)
        for place, event in enumerate(EVENTS):
            await anyio.sleep(self.pause)
            await self._running.wait()
            if not place:
                self.begun[nth] += 1
            await stream.send(chunk(sse_event(event)))
        await stream.send(b"0\r\n\r\n")
        self.ended[nth] += 1
        self.users[body.get("user", "")] += 1


@asynccontextmanager
async def flaky_servers(count: int) -> AsyncIterator[list[FlakyServer]]:
    """Run several of them for as long as the block lasts."""
    async with anyio.create_task_group() as tasks:
        servers = [FlakyServer(tasks) for _ in range(count)]
        for server in servers:
            await server.start()
        try:
            yield servers
        finally:
            tasks.cancel_scope.cancel()
