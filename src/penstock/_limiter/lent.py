"""Slots that are lent to what runs on their behalf; see `slots`.

It imports nothing of limiters, so that a call without one needs none of them.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .slots import Slot

__all__ = ["lent", "lent_slots"]

_lent: ContextVar[tuple[Slot, ...]] = ContextVar("penstock_lent_slots", default=())


@contextmanager
def lent(slot: Slot) -> Generator[None]:
    """Lend this slot to requests made within, by this task and the tasks it starts."""
    token = _lent.set((*_lent.get(), slot))
    try:
        yield
    finally:
        _lent.reset(token)


def lent_slots() -> tuple[Slot, ...]:
    """Return the slots of this event loop that are lent to this task, the outermost first."""
    lent = _lent.get()
    return tuple(slot for slot in lent if slot.line.home.is_here) if lent else lent
