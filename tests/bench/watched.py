"""Workloads that look at each content when it is delivered, and keep none of them."""

from __future__ import annotations

import time
import zlib
from array import array

import anyio

from . import payloads
from .drivers.base import NoPause, Peer, Received
from .measure import Size, Stopwatch, forget_peak, peak_memory, resident_memory
from .work import Measured, WrongAnswer

__all__ = ["long", "timed"]


class Deliveries(list[str]):
    """In place of the contents of one stream: how late each of them was."""

    def __init__(self, shared: Timing) -> None:
        self._shared = shared
        self._seen = 0

    def append(self, content: str) -> None:
        now = time.monotonic_ns()
        number, sent = content.split()
        if int(number) != self._seen:
            raise WrongAnswer(f"event {number}, not {self._seen}")
        self._seen += 1
        if self._seen > self._shared.warm_up:
            self._shared.delays.append(now - int(sent))
        elif self._seen == self._shared.warm_up:
            self._shared.warm()


class Timing(NoPause):
    """What the streams of `timed` share."""

    def __init__(self, warm_up: int) -> None:
        super().__init__()
        self.warm_up = warm_up
        self.delays = array("q")
        self.clock = Stopwatch()
        self._warm = False

    def parts(self) -> list[str]:
        return Deliveries(self)

    def warm(self) -> None:
        """The first stream to be warm starts the clock for all."""
        if not self._warm:
            self._warm = True
            self.clock.start_at_once()


async def timed(peer: Peer, size: Size) -> Measured:
    """Live streams, each with moments of its own; each event says when it was sent."""
    timing = Timing(size.warm_up)
    received: list[Received] = []
    model = f"timed:{size.streams}:{size.rate}:{size.events}"

    async def read() -> None:
        received.append(await peer.stream(model, timing))

    async with anyio.create_task_group() as group:
        for _ in range(size.streams):
            group.start_soon(read)
    timing.clock.stop()
    events = size.streams * (size.events - size.warm_up)
    if len(timing.delays) != events or any(got.events != size.events for got in received):
        raise WrongAnswer(f"{len(timing.delays)} events, not {events}")
    delays = sorted(timing.delays)
    worst = delays[len(delays) * 99 // 100] / 1e6
    return Measured(timing.clock, received, events, size.streams, delay=worst)


class Digest(list[str]):
    """In place of the contents of a stream: their length and checksum."""

    def __init__(self) -> None:
        self.value = (0, 0)

    def append(self, content: str) -> None:
        length, checksum = self.value
        self.value = (length + len(content), zlib.crc32(content.encode(), checksum))


class Digesting(NoPause):
    def __init__(self) -> None:
        super().__init__()
        self.digest = Digest()

    def parts(self) -> list[str]:
        self.digest = Digest()
        return self.digest


async def long(peer: Peer, size: Size) -> Measured:
    """One stream whose reader keeps nothing of it: what the client itself holds."""
    digesting = Digesting()
    for _ in range(size.warm_up):
        await peer.stream("burst:2000", digesting)
    expected = Digest()
    expected.append(payloads.text(size.events))
    clock = Stopwatch()
    clock.start()
    forget_peak()
    before = resident_memory()
    received = await peer.stream(f"burst:{size.events}", digesting)
    memory = peak_memory() - before
    clock.stop()
    if received.events != size.events or digesting.digest.value != expected.value:
        raise WrongAnswer(f"{received.events} events and {digesting.digest.value}")
    return Measured(clock, [received], size.events, 1, memory)
