"""The workloads themselves: each the same for all clients, and each checks what was received."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Sequence

import anyio
import msgspec

from . import payloads
from .drivers.base import Merging, NoPause, Pause, Peer, Received
from .measure import Size, Stopwatch, resident_memory

__all__ = [
    "Measured",
    "WrongAnswer",
    "burst",
    "burst_merged",
    "check",
    "collect",
    "complete",
    "create",
    "idle",
    "models",
    "paced",
    "paced_merged",
    "repeated",
    "stalled",
]


class Measured(msgspec.Struct):
    """What a workload saw, its clock included."""

    clock: Stopwatch
    received: list[Received]
    events: int
    """In the measured part, as requests."""
    requests: int
    memory: int = 0
    """Bytes that all the open streams take, or at most took."""
    delay: float = 0
    """Milliseconds: 99 of 100 events were delivered at most so long after they were sent."""
    size: int = 0
    """Bytes of the measured events on the wire, where that is what they are measured by."""


class WrongAnswer(Exception):
    """A client received something else than the server sent: its time is worth nothing."""


async def paced(peer: Peer, size: Size) -> Measured:
    """Streams that all get one event at a time, each in a segment of its own."""
    clock = Stopwatch()
    pause = Pause(size.warm_up, size.streams)
    received: list[Received] = []
    async with anyio.create_task_group() as group:
        for _ in range(size.streams):
            group.start_soon(_stream, peer, _paced(size), pause, received)
        await pause.reached_by_all.wait()
        clock.start()
        pause.over.set()
    clock.stop()
    check(received, size)
    return Measured(clock, received, size.streams * (size.events - size.warm_up), size.streams)


async def paced_merged(peer: Peer, size: Size) -> Measured:
    """The same through one loop."""
    assert isinstance(peer, Merging)
    clock = Stopwatch()
    warm_up = size.streams * size.warm_up
    received = await peer.merged([_paced(size)] * size.streams, warm_up, clock.start)
    clock.stop()
    check(received, size)
    return Measured(clock, received, size.streams * size.events - warm_up, size.streams)


async def burst(peer: Peer, size: Size) -> Measured:
    """Streams, all at once, that come as fast as they are taken."""
    model = f"burst:{size.events}"
    for _ in range(size.warm_up):
        await peer.stream("burst:20", NoPause())
    received: list[Received] = []
    clock = Stopwatch()
    clock.start()
    async with anyio.create_task_group() as group:
        for _ in range(size.streams):
            group.start_soon(_stream, peer, model, NoPause(), received)
    clock.stop()
    check(received, size)
    return Measured(clock, received, size.streams * size.events, size.streams)


async def burst_merged(peer: Peer, size: Size) -> Measured:
    """The same through one loop."""
    assert isinstance(peer, Merging)
    for _ in range(size.warm_up):
        await peer.merged(["burst:20"], 0, _nothing)
    clock = Stopwatch()
    clock.start()
    received = await peer.merged([f"burst:{size.events}"] * size.streams, 0, _nothing)
    clock.stop()
    check(received, size)
    return Measured(clock, received, size.streams * size.events, size.streams)


async def repeated(peer: Peer, size: Size) -> Measured:
    """Streams one after the other, on one connection."""
    model = f"burst:{size.events}:{size.characters}"

    async def ask(_: str) -> Received:
        return await peer.stream(model, NoPause())

    measured = await _one_by_one(ask, model, size)
    check(measured.received, size)
    measured.size = size.streams * payloads.length(size.events, size.characters)
    return measured


async def collect(peer: Peer, size: Size) -> Measured:
    """A long stream that only its whole is wanted of."""
    assert isinstance(peer, Merging)
    return await _one_by_one(peer.collect, f"burst:{size.events}", size)


async def complete(peer: Peer, size: Size) -> Measured:
    """The same by `client.complete`."""
    assert isinstance(peer, Merging)
    return await _one_by_one(peer.complete, f"burst:{size.events}", size)


async def create(peer: Peer, size: Size) -> Measured:
    """Answers that do not stream, one after the other on one connection."""
    return await _one_by_one(peer.create, f"whole:{size.events}", size)


async def models(peer: Peer, size: Size) -> Measured:
    """The list of models, one request after the other on one connection."""

    async def ask(_: str) -> Received:
        return await peer.models()

    return await _one_by_one(ask, "", size)


async def _one_by_one(
    ask: Callable[[str], Awaitable[Received]], model: str, size: Size
) -> Measured:
    for _ in range(size.warm_up):
        await ask(model)
    clock = Stopwatch()
    clock.start()
    received = [await ask(model) for _ in range(size.streams)]
    clock.stop()
    expected = payloads.text(size.events, size.characters) if model else " ".join(payloads.MODELS)
    if any(text != expected for _, text in received):
        raise WrongAnswer(f"{model}: {received[0]}")
    return Measured(clock, received, size.streams * size.events, size.streams)


async def idle(peer: Peer, size: Size) -> Measured:
    """Streams that are open and have nothing to say: what each of them takes."""
    return await _open(peer, size, "endless")


async def stalled(peer: Peer, size: Size) -> Measured:
    """Streams that say much, and that nobody reads on: what each of them takes."""
    return await _open(peer, size, f"burst:{size.events}")


async def _open(peer: Peer, size: Size, model: str) -> Measured:
    clock = Stopwatch()
    received: list[Received] = []
    async with anyio.create_task_group() as group:
        # The first few bring in whatever is loaded late.
        memory = 0
        for count in (size.warm_up, size.streams):
            gc.collect()
            memory = resident_memory()
            clock.start()
            pause = Pause(1, count)
            for _ in range(count):
                group.start_soon(_stream, peer, model, pause, received)
            await pause.reached_by_all.wait()
            clock.stop()
            await _at_rest()
        gc.collect()
        memory = resident_memory() - memory
        group.cancel_scope.cancel()
    return Measured(clock, received, size.streams, size.streams, memory)


async def _at_rest() -> None:
    """Wait until what arrives by itself has arrived."""
    before = -1
    while (now := resident_memory()) != before:
        before = now
        await anyio.sleep(0.2)


async def _stream(peer: Peer, model: str, pause: Pause, received: list[Received]) -> None:
    received.append(await peer.stream(model, pause))


def _paced(size: Size) -> str:
    return f"paced:{size.streams}:{size.rate}:{size.events}"


def _nothing() -> None:
    pass


def check(received: Sequence[Received], size: Size) -> None:
    """That each stream gave all of its events, and their text."""
    due = Received(size.events, payloads.text(size.events, size.characters))
    if len(received) != size.streams:
        raise WrongAnswer(f"{len(received)} streams, not {size.streams}")
    for got in received:
        if got != due:
            raise WrongAnswer(
                f"{got.events} events and {len(got.text)} characters, "
                f"not {due.events} and {len(due.text)}"
            )
