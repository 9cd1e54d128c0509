"""Which event loop runs, and its clock."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

__all__ = ["event_loop_clock", "in_trio"]


def in_trio() -> bool:
    """Whether the calling task runs under trio, without importing trio to find out."""
    trio = sys.modules.get("trio")
    return trio is not None and bool(trio.lowlevel.in_trio_task())


def event_loop_clock() -> Callable[[], float]:
    """The running event loop's clock: `anyio.current_time` without its look-ups."""
    if in_trio():
        import trio

        return trio.current_time
    return asyncio.get_running_loop().time
