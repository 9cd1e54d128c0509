"""uvloop in virtual time, and the fixture that runs a module on all three event loops.

uvloop keeps its timers in C and asks nobody before it waits. Here they are kept in Python, and
the loop never waits: a callback of ours goes round in its queue. Whenever it comes back without
anything else having been scheduled, every task is waiting, and the clock jumps.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import time
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import TypeVar, TypeVarTuple

import anyio
import pytest
import uvloop

from penstock.testing import clock
from penstock.testing.clock import Backend, DeadlockError, virtual

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
BACKENDS = ("asyncio", "uvloop", "trio")


class VirtualUvloop(uvloop.Loop):
    """A uvloop whose time starts at 0 and moves only from timer to timer."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = itertools.count()
        self._cancelled = 0
        self._turn: asyncio.Handle  # the callback of ours
        self._scheduled = 0  # other callbacks, since it came round last
        self._idle_since: float | None = None
        self._deadlocked = False

    def time(self) -> float:
        return self._now

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        self._scheduled += 1
        return super().call_soon(callback, *args, context=context)

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        self._scheduled += 1
        return super().call_soon_threadsafe(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        # asyncio's name. It is skipped when its turn comes; many are thrown away together.
        self._cancelled += 1
        if self._cancelled > 100 and self._cancelled > len(self._timers) // 2:
            self._timers = [timer for timer in self._timers if not timer[2].cancelled()]
            heapq.heapify(self._timers)
            self._cancelled = 0

    def run_forever(self) -> None:
        self._turn = super().call_soon(self._come_round)
        try:
            super().run_forever()
        finally:
            self._turn.cancel()
        if self._deadlocked:
            raise DeadlockError

    def _come_round(self) -> None:
        if self._scheduled:
            self._scheduled = 0
            self._idle_since = None
        elif not self._jump():
            self._wait_for_others()
        self._turn = super().call_soon(self._come_round)

    def _jump(self) -> bool:
        """Move the clock to the next timer; whether there was one."""
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        # anyio.sleep_forever() sets a timer too, at infinity.
        if not self._timers or self._timers[0][0] == math.inf:
            return False
        self._idle_since = None
        self._now = max(self._now, self._timers[0][0])
        while self._timers and self._timers[0][0] <= self._now:
            handle = heapq.heappop(self._timers)[2]
            super().call_soon(_run, handle)
        return True

    def _wait_for_others(self) -> None:
        """Nothing is left to do: a thread may be at work for us, or we wait for ever."""
        now = time.monotonic()
        if self._idle_since is None:
            self._idle_since = now
        if now - self._idle_since < clock.DEADLOCK_AFTER:
            time.sleep(0.001)
        else:
            self._deadlocked = True
            self.stop()


def _run(handle: asyncio.TimerHandle) -> None:
    if not handle.cancelled():
        handle._run()


def in_virtual_time(name: str) -> Backend:
    """One of `BACKENDS` with virtual time, as anyio's fixture and `anyio.run` take it."""
    if name == "uvloop":
        return "asyncio", {"loop_factory": VirtualUvloop}
    return virtual(name)


@pytest.fixture(
    scope="module", params=[pytest.param(name, id=f"{name}-virtual") for name in BACKENDS]
)
def virtual_backend(request: pytest.FixtureRequest) -> Backend:
    """Each event loop with virtual time: what a promise's module takes as its `anyio_backend`."""
    return in_virtual_time(request.param)


def run_virtually(name: str, function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
    """Run an async function on one of `BACKENDS` with virtual time."""
    backend, options = in_virtual_time(name)
    return anyio.run(function, *args, backend=backend, backend_options=options)
