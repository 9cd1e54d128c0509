"""When the events of the server's streams leave it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

from . import payloads

__all__ = ["InTurn", "Together", "Writer"]

_SLOT = 0.001  # seconds; timed streams that share one are written to one after the other
_BATCH = 16  # of them that share one look at the clock


class Writer(Protocol):
    """A stream's way out."""

    def write(self, data: bytes) -> None: ...


class Together:
    """All streams get each event at the same moment."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, group: Sequence[Writer], rate: int, events: int
    ) -> None:
        self._loop = loop
        self._group = group
        self._segments = payloads.segments(events)
        self._step = 1 / rate
        self._begun = loop.time()
        self._at = 0
        self._tick()

    def _tick(self) -> None:
        data = self._segments[self._at]
        self._at += 1
        last = self._at == len(self._segments)
        if last:
            data += payloads.END
        for stream in self._group:
            stream.write(data)
        if not last:
            self._loop.call_at(self._begun + self._at * self._step, self._tick)


class InTurn:
    """Each stream gets its events at moments of its own, spread evenly."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, group: Sequence[Writer], rate: int, events: int
    ) -> None:
        self._loop = loop
        slots = min(len(group), max(1, round(1 / rate / _SLOT)))
        self._slots = [group[start::slots] for start in range(slots)]
        self._pairs = payloads.stamped(events)
        self._step = 1 / rate / slots
        self._begun = time.monotonic() + self._step
        self._at = 0
        self._late: list[float] = []
        self._tick()

    def _tick(self) -> None:
        """One slot for each turn of the loop, so that what is written has left before the next."""
        early = self._begun + self._at * self._step - time.monotonic()
        if early > _SLOT / 2:
            self._loop.call_later(early, self._tick)
            return
        self._late.append(max(0.0, -early))
        number, slot = divmod(self._at, len(self._slots))
        before, after = self._pairs[number]
        last = number == len(self._pairs) - 1
        if last:
            after += payloads.END
        streams = self._slots[slot]
        for start in range(0, len(streams), _BATCH):
            data = b"%b%019d%b" % (before, time.monotonic_ns(), after)
            for stream in streams[start : start + _BATCH]:
                stream.write(data)
        self._at += 1
        if not last or slot < len(self._slots) - 1:
            self._loop.call_soon(self._tick)

    def late(self) -> float:
        """Milliseconds: 99 of 100 slots were at most so late."""
        late = sorted(self._late)
        return late[len(late) * 99 // 100] * 1e3 if late else 0.0
