"""Ctrl-C on trio: it must not strike between two steps of a fan-out's book-keeping.

asyncio turns Ctrl-C into a cancellation of the main task. trio raises KeyboardInterrupt in whatever
code runs, which may be that of a child that has just taken a slot, unless the code is protected:
then the main task gets it at its next checkpoint.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from .._loops import in_trio

__all__ = ["interruptible", "protect"]

R = TypeVar("R")


def protect(*functions: Callable[..., Any]) -> None:
    """Keep Ctrl-C out of these functions, and of what they call. Does nothing on asyncio."""
    if in_trio():
        import trio

        for function in functions:
            trio.lowlevel.enable_ki_protection(function)
        trio.lowlevel.disable_ki_protection(_unprotected)


def interruptible(fn: Callable[..., Any], call: Awaitable[R]) -> Awaitable[R]:
    """Return a call of `fn` such that Ctrl-C may interrupt it, unless `fn` is penstock's own.

    A function of the user's may never come to a checkpoint.
    """
    own = (getattr(fn, "__module__", None) or "").partition(".")[0] == "penstock"
    return call if own or not in_trio() else _unprotected(call)


async def _unprotected(call: Awaitable[R]) -> R:
    return await call
