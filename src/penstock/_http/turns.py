"""Has connections that are wanted at once begin a few at a time."""

from __future__ import annotations

from weakref import WeakValueDictionary

import anyio
import anyio.lowlevel

__all__ = ["AT_ONCE", "Turns"]

AT_ONCE = 32
"""Connections that begin in one iteration of an event loop.

With hundreds of them in one iteration, nothing else runs until the last one has begun, and all
hold at the same time what only connecting needs: memory that the process keeps afterwards, 4 KiB
for each of 900 streams.
"""


class Turns:
    """Lets so many tasks go on in each iteration of an event loop, in the order they came."""

    __slots__ = ("_lines",)

    def __init__(self) -> None:
        # By event loop, as long as a task waits in it.
        self._lines: WeakValueDictionary[object, anyio.Semaphore] = WeakValueDictionary()

    async def take(self) -> None:
        """Return in this task's turn. Cancelled, it leaves its turn to the next one."""
        here = anyio.lowlevel.current_token()
        line = self._lines.get(here)
        if line is None:
            line = self._lines[here] = anyio.Semaphore(AT_ONCE, fast_acquire=True)
        async with line:
            await anyio.lowlevel.checkpoint()
