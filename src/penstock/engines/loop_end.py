"""What is to be closed when an event loop ends.

Engines own their event loops, and nobody in them has an `async with` to leave. An event loop
closes async generators at its end, asyncio as well as trio: so one that waits in each loop closes
what is registered there, while the loop still runs. At the exit of the interpreter whatever is
left is closed without a loop.
"""

from __future__ import annotations

import atexit
import weakref
from collections.abc import AsyncGenerator
from typing import Any, Protocol

__all__ = ["close_at_end", "has_ended"]


class Closable(Protocol):
    """What can be closed without waiting, any number of times."""

    def close(self) -> None: ...


class _Watch:
    """Waits for the end of one event loop."""

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.closables: weakref.WeakSet[Closable] = weakref.WeakSet()
        self._waiting = self._until_the_end()

    async def start(self) -> None:
        """Let the event loop know the generator. Never waits."""
        await anext(self._waiting)

    async def _until_the_end(self) -> AsyncGenerator[None]:  # noqa: ASYNC900 - its user closes it
        try:
            yield
        finally:
            self.close()

    def close(self) -> None:
        _watches.pop(self.loop, None)
        while self.closables:
            self.closables.pop().close()

    def give_up(self) -> None:
        """Close without the event loop, which will not do it any more."""
        self.close()
        # Finished here, the generator is nothing that a collector would want to finish.
        try:
            self._waiting.aclose().send(None)
        except (StopIteration, RuntimeError):  # over, or its loop is at it
            pass


_watches: dict[Any, _Watch] = {}
"""By event loop: asyncio's, or trio's token."""


async def close_at_end(loop: Any, closable: Closable) -> None:
    """Have it closed when this event loop, the running one, ends. It is referred to weakly.

    Never waits.
    """
    watch = _watches.get(loop)
    if watch is None:
        for ended in list(_watches.values()):
            if has_ended(ended.loop):
                ended.give_up()
        watch = _watches[loop] = _Watch(loop)
        await watch.start()
    watch.closables.add(closable)


def has_ended(loop: Any) -> bool:
    """Return whether an event loop, asyncio's or a token of trio's, is over."""
    if hasattr(loop, "is_closed"):
        ended: bool = loop.is_closed()
        return ended
    try:
        loop.run_sync_soon(_nothing)
    except RuntimeError:  # trio.RunFinishedError
        return True
    return False


def _nothing() -> None:
    pass


@atexit.register
def _at_exit() -> None:
    for watch in list(_watches.values()):
        watch.give_up()
