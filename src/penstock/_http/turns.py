"""Has connections that are wanted at once begin a few at a time."""

from __future__ import annotations

from collections import deque
from weakref import WeakValueDictionary

import anyio

from .._loops import call_in_next_iteration, event_loop

__all__ = ["AT_ONCE", "Turns"]

AT_ONCE = 16
"""Connections that begin in one iteration of an event loop.

With hundreds of them in one iteration, nothing else runs until the last one has begun, and all
hold at the same time what only connecting needs: memory that the process keeps afterwards, 4 KiB
for each of 900 streams.
"""


class Turns:
    """Lets so many tasks go on in each iteration of an event loop, in the order they came."""

    __slots__ = ("_lines",)

    def __init__(self) -> None:
        # By event loop, from the first turn of an iteration until one in which none was taken.
        self._lines: WeakValueDictionary[object, _Line] = WeakValueDictionary()

    async def take(self) -> None:
        """Return in this task's turn, at once if the iteration has one left."""
        here = event_loop()
        line = self._lines.get(here)
        if line is None:
            line = self._lines[here] = _Line()
        group = line.join()
        if group is not None:
            await group.wait()


class _Line:
    """The turns in one event loop, which keeps this object as long as there are any."""

    __slots__ = ("__weakref__", "_groups", "_left")

    def __init__(self) -> None:
        # One event for those that go on in the same iteration, as each takes half a kilobyte.
        self._groups: deque[anyio.Event] = deque()
        self._left = AT_ONCE  # places in the last group; without any, turns of this iteration
        call_in_next_iteration(self._next)

    def join(self) -> anyio.Event | None:
        """Take a place; return what to wait for, or None where there is nothing."""
        if not self._left:
            self._groups.append(anyio.Event())
            self._left = AT_ONCE
        self._left -= 1
        return self._groups[-1] if self._groups else None

    def _next(self) -> None:
        if self._groups:
            self._groups.popleft().set()
            if not self._groups:
                self._left = 0  # the turns of this iteration are those of the group
        elif self._left == AT_ONCE:
            return
        else:
            self._left = AT_ONCE
        call_in_next_iteration(self._next)
