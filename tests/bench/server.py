"""The server of the bench: pre-rendered answers over loopback, in a process of its own.

    python -m tests.bench.server CERTIFICATE

It prints two ports, the second for TLS with this certificate; `serving` starts it.

It does next to nothing for an event, so that what is measured is the client: one write for
each event of a paced stream, one for each 64 KiB of a burst. See `payloads` for what it says.
"""

from __future__ import annotations

import asyncio
import gc
import json
import re
import ssl
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, cast

from . import payloads
from .measure import more_files
from .pace import InTurn, Together

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_MODEL = re.compile(rb'"model": ?"([^"]*)"')


class Connection(asyncio.Protocol):
    """Answers one request after the other."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._inbox = b""
        self._unsent: Iterator[bytes] = iter(())
        self._paused = False
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._house.connections += 1
        self._house.open += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._house.open -= 1
        self._house.leave(self)
        if not self._house.open:
            gc.collect()

    def data_received(self, data: bytes) -> None:
        self._inbox += data
        head, separator, rest = self._inbox.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        size = int(length[1]) if length else 0
        if separator and len(rest) >= size:
            self._inbox = rest[size:]
            self._answer(head, rest[:size])

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET "):
            if head.startswith(b"GET /v1/stats "):
                self.transport.write(payloads.json_response(self._house.statistics()))
            else:
                self._house.requests += 1
                self.transport.write(payloads.models())
            return
        self._house.requests += 1
        found = _MODEL.search(body)
        model = found[1].decode() if found else ""
        kind, *numbers = model.split(":")
        counts = [int(number) for number in numbers]
        if kind == "whole":
            self.transport.write(payloads.whole(counts[0]))
            return
        self.transport.write(payloads.EVENT_STREAM_HEAD)
        if kind == "burst":
            self._unsent = iter(payloads.rendered(*counts))
            self._send()
        elif kind in ("paced", "timed"):
            self._house.join(model, self)
        elif kind == "endless":
            self.transport.write(payloads.segments(2)[0])

    def _send(self) -> None:
        while not self._paused and (slab := next(self._unsent, None)) is not None:
            self.transport.write(slab)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._send()


class House:
    """What the connections share: those that wait for one another, and the count of everything."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.connections = 0
        self.requests = 0
        self.open = 0
        self._loop = loop
        self._waiting: defaultdict[str, list[Connection]] = defaultdict(list)
        self._timed: InTurn | None = None

    def join(self, model: str, connection: Connection) -> None:
        """Wait for enough streams of the same kind; then all of them go."""
        group = self._waiting[model]
        group.append(connection)
        kind, *numbers = model.split(":")
        streams, rate, events = map(int, numbers)
        if len(group) < streams:
            return
        del self._waiting[model]
        writers = [waiting.transport for waiting in group]
        if kind == "timed":
            self._timed = InTurn(self._loop, writers, rate, events)
        else:
            Together(self._loop, writers, rate, events)

    def leave(self, connection: Connection) -> None:
        """Nobody waits any longer for a client that has failed."""
        for group in self._waiting.values():
            if connection in group:
                group.remove(connection)

    def statistics(self) -> bytes:
        counts = {
            "connections": self.connections,
            "requests": self.requests,
            "open": self.open,
            "late": self._timed.late() if self._timed is not None else 0.0,
        }
        return json.dumps(counts).encode()


async def main(certificate: str) -> None:
    """Serve until whoever started this process closes its end of our input."""
    more_files()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    house = House(loop)
    servers = [
        await loop.create_server(
            lambda: Connection(house), "127.0.0.1", 0, backlog=4096, ssl=encryption
        )
        for encryption in (None, context)
    ]
    gc.freeze()
    gc.disable()  # a pause of the server would look like one of the client
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    for server in servers:
        server.close()


def event_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop's where it is installed: the server costs less, and disturbs less."""
    try:
        uvloop: Any = import_module("uvloop")
    except ImportError:
        return asyncio.new_event_loop
    return cast("Callable[[], asyncio.AbstractEventLoop]", uvloop.new_event_loop)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=event_loop()) as runner:
        runner.run(main(sys.argv[1]))
