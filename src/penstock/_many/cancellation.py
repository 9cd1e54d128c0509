"""Where a cancellation comes from, and which exception of a group leaves a block."""

from __future__ import annotations

import math
from typing import cast

import anyio

from ..observing.events import Outcome

__all__ = ["cancelled_by_itself", "outcome_of", "scope_cancelled", "sole"]


def sole(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the exception to raise in place of a group.

    That is KeyboardInterrupt or another BaseException that is not an Exception, else a
    cancellation. Each Exception has been handled where it was raised.
    """
    cancellation: BaseException = errors
    stack: list[BaseException] = [errors]
    while stack:
        error = stack.pop()
        if isinstance(error, BaseExceptionGroup):
            stack.extend(reversed(cast("BaseExceptionGroup[BaseException]", error).exceptions))
        elif isinstance(error, anyio.get_cancelled_exc_class()):
            cancellation = error
        elif not isinstance(error, Exception):
            return error
    return cancellation


def outcome_of(exc: BaseException | None, *, whole: bool) -> Outcome:
    """Return how a block was left, by the exception that left it.

    `whole` tells whether all results had been taken.
    """
    if exc is None:
        return "completed" if whole else "abandoned"
    if isinstance(exc, anyio.get_cancelled_exc_class()):
        return "cancelled"
    return "failed" if isinstance(exc, Exception) else "abandoned"


def cancelled_by_itself() -> bool:
    """Return True if the awaited call raised the cancellation itself; the task should continue.

    Only cancel scopes cancel the tasks of a fan-out. A CancelledError of asyncio may also be the
    result of a cancelled future that the call awaited, and a generator may yield inside a cancel
    scope that is cancelled later.
    """
    return not scope_cancelled()


def scope_cancelled() -> bool:
    """Return True if a cancel scope around this task is cancelled."""
    return anyio.current_effective_deadline() == -math.inf
