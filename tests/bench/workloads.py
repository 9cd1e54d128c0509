"""What is measured, each time the same for all clients, and in three sizes."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Iterable

import anyio
import msgspec

from . import payloads
from .drivers.base import Merging, NoPause, Pause, Peer, Received
from .measure import Stopwatch, resident_memory

__all__ = ["WORKLOADS", "Measured", "Size", "Workload", "WrongAnswer", "size_of"]


class Size(msgspec.Struct, frozen=True):
    """How much of it. `paced` takes (events - warm_up) / rate seconds."""

    streams: int = 1
    events: int = 1
    rate: int = 0
    warm_up: int = 0
    """Events of each paced stream before the clock starts; elsewhere requests of the kind."""


class Measured(msgspec.Struct):
    """What a workload saw, its clock included."""

    clock: Stopwatch
    received: list[Received]
    events: int
    """In the measured part, as requests."""
    requests: int
    memory: int = 0
    """Bytes that all the open streams take."""


class WrongAnswer(Exception):
    """A client received something else than the server sent: its time is worth nothing."""


Run = Callable[[Peer, Size], Awaitable[Measured]]


class Workload(msgspec.Struct, frozen=True):
    """One kind of work."""

    unit: str
    run: Run | None
    """None where the process itself is what is measured."""
    full: Size
    quick: Size
    tiny: Size
    """For the test suite."""
    only: tuple[str, ...] = ()
    """The drivers that can do it; none named: all."""
    base: str = ""
    """The workload that this one adds something to."""
    tls: bool = False


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
    _check(received, size.streams, size.events)
    return Measured(clock, received, size.streams * (size.events - size.warm_up), size.streams)


async def paced_merged(peer: Peer, size: Size) -> Measured:
    """The same through one loop."""
    assert isinstance(peer, Merging)
    clock = Stopwatch()
    warm_up = size.streams * size.warm_up
    received = await peer.merged([_paced(size)] * size.streams, warm_up, clock.start)
    clock.stop()
    _check(received, size.streams, size.events)
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
    _check(received, size.streams, size.events)
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
    _check(received, size.streams, size.events)
    return Measured(clock, received, size.streams * size.events, size.streams)


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
    expected = payloads.text(size.events) if model else " ".join(payloads.MODELS)
    if any(text != expected for _, text in received):
        raise WrongAnswer(f"{model}: {received[0]}")
    return Measured(clock, received, size.streams * size.events, size.streams)


async def idle(peer: Peer, size: Size) -> Measured:
    """Streams that are open and have nothing to say: what each of them takes."""
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
                group.start_soon(_stream, peer, "endless", pause, received)
            await pause.reached_by_all.wait()
            clock.stop()
        gc.collect()
        memory = resident_memory() - memory
        group.cancel_scope.cancel()
    return Measured(clock, received, size.streams, size.streams, memory)


async def _stream(peer: Peer, model: str, pause: Pause, received: list[Received]) -> None:
    received.append(await peer.stream(model, pause))


def _paced(size: Size) -> str:
    return f"paced:{size.streams}:{size.rate}:{size.events}"


def _nothing() -> None:
    pass


def _check(received: Iterable[Received], streams: int, events: int) -> None:
    expected = [Received(events, payloads.text(events))] * streams
    for got, due in zip(received, expected, strict=True):
        if got != due:
            raise WrongAnswer(f"{got.events} events and {len(got.text)} characters, not {due}")


def size_of(workload: str, scale: str) -> Size:
    """How much of this workload; the scale is full, quick or tiny."""
    size: Size = getattr(WORKLOADS[workload], scale)
    return size


_PACED = (Size(100, 160, 50, 10), Size(100, 60, 50, 10), Size(4, 5, 100, 2))
_DRAIN = (Size(1, 20_000, warm_up=5), Size(1, 5_000, warm_up=5), Size(1, 40, warm_up=1))
_FAN = (Size(1000, 20, warm_up=5), Size(200, 20, warm_up=5), Size(5, 20, warm_up=1))
_ONLY = ("penstock",)

WORKLOADS = {
    "paced": Workload("us/event", paced, *_PACED),
    "drain": Workload("us/event", burst, *_DRAIN),
    "fan": Workload("us/request", burst, *_FAN),
    "paced-tls": Workload("us/event", paced, *_PACED, tls=True),
    "drain-tls": Workload("us/event", burst, *_DRAIN, tls=True),
    "paced-merged": Workload("us/event", paced_merged, *_PACED, only=_ONLY, base="paced"),
    "drain-merged": Workload("us/event", burst_merged, *_DRAIN, only=_ONLY, base="drain"),
    "fan-merged": Workload("us/request", burst_merged, *_FAN, only=_ONLY, base="fan"),
    "collect": Workload("us/event", collect, *_DRAIN, only=_ONLY),
    "complete": Workload("us/event", complete, *_DRAIN, only=_ONLY),
    "create": Workload(
        "us/request",
        create,
        Size(500, 100, warm_up=10),
        Size(100, 100, warm_up=5),
        Size(3, 20, warm_up=1),
    ),
    "models": Workload(
        "us/request",
        models,
        Size(500, warm_up=10),
        Size(100, warm_up=5),
        Size(3, warm_up=1),
    ),
    "idle": Workload(
        "KiB/stream",
        idle,
        Size(900, warm_up=50),  # the OpenAI SDK opens 1000 connections at most
        Size(300, warm_up=20),
        Size(5, warm_up=1),
    ),
    "import": Workload("ms", None, Size(), Size(), Size()),
}
