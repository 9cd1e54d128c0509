"""The soak's server, a process of its own: `python -m tests.soak.server SEED`.

It misbehaves as `faults` chooses, over TCP and TLS, and on a third port that refuses connections
half of the time. It notes what it sent for each attempt. Its first line of output says where it
is; for each line of input it answers with what it has noted since the last one, and forgets it.
It ends when its input is closed.
"""

from __future__ import annotations

import json
import os
import random
import socket
import ssl
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.abc
import trustme

from penstock.testing.loopback import Gone, LoopbackStream
from penstock.testing.replies import head
from penstock.testing.requests import RequestReader
from penstock.testing.script import End, Pause, Reset, Send, Stall, unroll

from .faults import NEVER, Plan, plan

__all__ = ["Attempt"]

BACKLOG = 1024
HALF_DEAD = 0.1
"""The part of the waits for a request that the server does not see the end of."""
FLAPPING = 0.5
"""Seconds between a port's opening and closing."""


@dataclass
class Attempt:
    """One request that came, and what was sent in answer to it."""

    plan: Plan
    sent: int = 0

    @property
    def begun(self) -> bool:
        """Whether a byte of a success response's body was sent."""
        return self.sent > self.plan.body_at

    def summary(self) -> dict[str, Any]:
        return {
            "kind": self.plan.kind,
            "status": self.plan.status,
            "silent": not self.sent,
            "begun": self.begun,
            "whole": self.plan.complete_at < NEVER and self.sent >= self.plan.complete_at,
        }


@dataclass
class Notes:
    """What the server remembers until it is asked."""

    attempts: dict[str, list[Attempt]] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    open: int = 0
    connections: int = 0
    half_dead: int = 0

    def begin(self, seed: int, request: dict[str, Any]) -> Attempt:
        name = request["model"]
        former = self.attempts.setdefault(name, [])
        if any(attempt.begun for attempt in former):
            self.violations.append(f"{name} was sent again after a byte of its answer's body")
        streaming = bool(request.get("stream"))
        attempt = Attempt(plan(seed, name, len(former), streaming=streaming))
        former.append(attempt)
        return attempt

    def report(self) -> dict[str, Any]:
        attempts = {
            name: [attempt.summary() for attempt in attempts]
            for name, attempts in self.attempts.items()
        }
        report = {
            "attempts": attempts,
            "violations": self.violations,
            "open": self.open,
            "connections": self.connections,
            "half_dead": self.half_dead,
            "cpu": time.process_time(),
        }
        self.attempts, self.violations = {}, []
        return report


class Server:
    """Listens, and plays to whoever connects."""

    def __init__(self, seed: int) -> None:
        self.notes = Notes()
        self._seed = seed
        authority = trustme.CA()
        self.authority = authority.cert_pem.bytes().decode()
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self._tls)

    async def listen(self, listener: socket.socket, *, tls: bool) -> None:
        """Serve whoever comes, for ever."""
        with listener:
            async with anyio.create_task_group() as group:
                while True:
                    await anyio.wait_readable(listener)
                    with suppress(OSError):  # it may have gone again
                        sock, _ = listener.accept()
                        group.start_soon(self._serve, LoopbackStream(sock), tls)

    async def flap(self, port: int) -> None:
        """Listen for a while, and refuse for a while."""
        async with anyio.create_task_group() as group:
            while True:
                with anyio.move_on_after(FLAPPING):
                    with bound(port) as listener:
                        listener.listen(BACKLOG)
                        while True:
                            await anyio.wait_readable(listener)
                            with suppress(OSError):
                                sock, _ = listener.accept()
                                group.start_soon(self._serve, LoopbackStream(sock), False)
                await anyio.sleep(FLAPPING)

    async def refuse(self, listener: socket.socket) -> None:
        """Answer every request before it is read, and read on in some way, or not."""
        with listener:
            async with anyio.create_task_group() as group:
                while True:
                    await anyio.wait_readable(listener)
                    with suppress(OSError):
                        sock, _ = listener.accept()
                        group.start_soon(self._refuse, LoopbackStream(sock))

    async def _refuse(self, stream: LoopbackStream) -> None:
        rng = random.Random()
        self.notes.open += 1
        try:
            read, enough = b"", rng.choice([1, 100_000, 300_000])
            while b"\r\n\r\n" not in read or len(read) < enough:
                data = await stream.receive()
                if not data:
                    raise Gone
                read += data
            error = json.dumps({"error": {"message": "too large"}}).encode()
            how = rng.choice(["stops", "reads", "ends", "never"])
            if how != "never":
                await stream.send(head(413, [("content-length", str(len(error)))]) + error)
            if how == "ends":
                await stream.end()
            while how == "reads" and await stream.receive():  # noqa: ASYNC110 - only a look tells
                await anyio.sleep(rng.choice([0, 0.01]))
            if how == "never":
                await anyio.sleep(1)
            await _until_left(stream)
        except Gone:
            pass
        finally:
            stream.close()
            self.notes.open -= 1

    async def _serve(self, stream: LoopbackStream, tls: bool) -> None:
        notes = self.notes
        number = notes.connections
        notes.connections += 1
        notes.open += 1
        try:
            if random.Random(f"{self._seed}/{number}").random() < 0.02:
                stream.reset()  # before a byte was said
                return
            if tls:
                await stream.start_tls(self._tls)
            await self._converse(stream)
        except Gone:
            pass
        finally:
            stream.close()
            notes.open -= 1

    async def _converse(self, stream: LoopbackStream) -> None:
        reader = RequestReader()
        rng = random.Random()
        sent = 0
        while data := await self._next(stream, rng, sent):
            for request in reader.feed(data, connection=0, time=0.0):
                attempt = self.notes.begin(self._seed, request.json)
                await self._play(stream, attempt)
                sent = attempt.sent

    async def _next(self, stream: LoopbackStream, rng: random.Random, sent: int) -> bytes:
        """Return what the client sends next; some connections do not live to see it."""
        # A reset would take with it what the kernel has not sent yet of a large answer.
        if rng.random() > HALF_DEAD or sent > 50_000:
            return await stream.receive()
        with anyio.move_on_after(rng.uniform(0, 0.2)):
            return await stream.receive()
        self.notes.half_dead += 1
        if rng.random() < 0.5:
            stream.reset()
        else:
            await stream.end()
            await _until_left(stream)
        raise Gone

    async def _play(self, stream: LoopbackStream, attempt: Attempt) -> None:
        complete_at = attempt.plan.complete_at
        for step in unroll(attempt.plan.steps):
            match step:
                case Send(data):
                    # Cut where it matters, so that `sent` is true there even if the client
                    # leaves in the middle of the rest. What lies behind an answer's end goes out
                    # with it: later, it could meet the next request on its way.
                    at = min(max(0, complete_at - attempt.sent), len(data))
                    if attempt.plan.kind == "poison":
                        at = len(data)
                    for piece in filter(None, (data[:at], data[at:])):
                        await stream.send(piece)
                        attempt.sent += len(piece)
                case Pause(seconds):
                    await anyio.sleep(seconds)
                case Reset():
                    stream.reset()
                    raise Gone
                case End():
                    await stream.end()
                    await _until_left(stream)
                case Stall():
                    await _until_left(stream)
                case _:
                    raise AssertionError(step)


async def _until_left(stream: LoopbackStream) -> None:
    while await stream.receive():
        pass
    raise Gone


def bound(port: int = 0) -> socket.socket:
    """A socket at this port; several may have it, and one that does not listen keeps it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.setblocking(False)
    sock.bind(("127.0.0.1", port))
    return sock


async def main(seed: int) -> None:
    server = Server(seed)
    plain, secure, flapping, refusing = bound(), bound(), bound(), bound()
    for each in (plain, secure, refusing):
        each.listen(BACKLOG)
    names = ("plain", "tls", "flapping", "refusing")
    ports = [sock.getsockname()[1] for sock in (plain, secure, flapping, refusing)]
    start = {"ports": dict(zip(names, ports, strict=True)), "authority": server.authority}
    print(json.dumps(start), flush=True)
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: server.listen(plain, tls=False))
        group.start_soon(lambda: server.listen(secure, tls=True))
        group.start_soon(server.flap, ports[2])
        group.start_soon(server.refuse, refusing)
        while True:
            await anyio.wait_readable(sys.stdin)
            if not os.read(0, 1024):
                break
            print(json.dumps(server.notes.report()), flush=True)
        group.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]), backend_options={"use_uvloop": True})
