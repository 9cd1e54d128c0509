"""Who was cancelled, and which of many exceptions leaves a block: no group ever does."""

from __future__ import annotations

import math
from typing import cast

import anyio

__all__ = ["cancelled_by_itself", "scope_cancelled", "sole"]


def sole(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one that stands for all: KeyboardInterrupt and its like, else a cancellation.

    Errors that are an Exception have been taken care of where they arose.
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


def cancelled_by_itself() -> bool:
    """Whether the cancellation in hand came from a call's own doing, so that this task goes on.

    Tasks of a fan-out are cancelled by scopes alone. asyncio's CancelledError can also be the
    result of an awaited future that was cancelled, and a generator may yield inside a cancel
    scope that is cancelled later, whoever runs then.
    """
    return not scope_cancelled()


def scope_cancelled() -> bool:
    """Whether a cancel scope around this task is cancelled."""
    return anyio.current_effective_deadline() == -math.inf
