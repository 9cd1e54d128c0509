"""The loop of the blocking client in virtual time: no test here waits for a pause of a script."""

from __future__ import annotations

import asyncio
import math
import selectors
from typing import Any

import pytest

from penstock.blocking._loop import shared_loop
from penstock.testing.clock import VirtualLoop


class JumpingWhileAwaited:
    """A selector that moves the clock to the next timer, but only while a thread waits for a call.

    Between two calls no time passes: timers of idle connections and the like do not fire.
    """

    def __init__(self, loop: VirtualLoop) -> None:
        self._real = selectors.DefaultSelector()
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = self._real.select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        when = self._loop.next_timer()
        current = shared_loop._current
        # A call that has not come over yet is still at the thread that makes it.
        calls = () if current is None else tuple(current.pending)
        if when < math.inf and any(call._task is not None for call in calls):
            self._loop.jump_to(when)
            return []
        return self._real.select(0.005)


class VirtualLoopOfThreads(VirtualLoop):
    """VirtualLoop for threads that wait outside of it."""

    def __init__(self) -> None:
        self._now = 0.0
        asyncio.SelectorEventLoop.__init__(self, JumpingWhileAwaited(self))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def virtual_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncio.new_event_loop", VirtualLoopOfThreads)
