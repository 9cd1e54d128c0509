"""A place of a limiter that is lent to the calls made within a block."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType

from .lent import lent
from .line import Line
from .slots import Slot

__all__ = ["Place"]


class Place:
    """Async context manager: `Limiter.place()` returns it. Entered once."""

    __slots__ = ("_lent", "_slot")

    def __init__(self, line: Line) -> None:
        self._slot = Slot(line)
        self._lent: AbstractContextManager[None] | None = None

    async def __aenter__(self) -> None:
        """Wait in line and take the place. Cancelled, it takes nothing.

        Raises RuntimeError if it was entered before.
        """
        if self._lent is not None:
            raise RuntimeError("a place of a limiter is entered once: ask for another one")
        await self._slot.acquire()
        self._lent = lent(self._slot)
        self._lent.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the place back, without waiting."""
        if self._lent is not None:
            self._lent.__exit__(None, None, None)
        self._slot.release()
