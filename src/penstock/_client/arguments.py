"""Checks of the arguments that clients and calls share, before any I/O."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..observing.added import added
from ..timeouts import Timeouts

if TYPE_CHECKING:
    from .._limiter.limiter import Limiter
    from ..observing.notifier import Notifier

__all__ = [
    "checked_keepalive",
    "checked_limiter",
    "checked_method",
    "checked_observer",
    "checked_retries",
    "checked_timeouts",
    "checked_wait",
]


def checked_method(method: object) -> str:
    """Return an HTTP method in capitals; ValueError or TypeError when it is none."""
    if not isinstance(method, str):
        raise TypeError(f"the method must be a string, not {type(method).__name__}")
    if not (method.isascii() and method.isalpha()):
        raise ValueError(f"{method!r} is not an HTTP method")
    if method.upper() == "CONNECT":
        raise ValueError("CONNECT asks for a tunnel, not for an endpoint")
    return method.upper()


def checked_timeouts(timeouts: object) -> Timeouts:
    """Return the deadlines of a call; TypeError if it is something else."""
    if not isinstance(timeouts, Timeouts):
        raise TypeError(f"timeouts must be penstock.Timeouts, not {type(timeouts).__name__}")
    return timeouts


def checked_limiter(limiter: object) -> Limiter | None:
    """Return a limiter, or None; TypeError if it is something else."""
    if limiter is None:
        return None
    from .._limiter.limiter import Limiter

    if not isinstance(limiter, Limiter):
        raise TypeError(f"limiter must be a penstock.Limiter, not {type(limiter).__name__}")
    return limiter


def checked_observer(observer: object) -> Notifier | None:
    """Return what calls a client's observer, or a list of them, and those of the process.

    None if there is none at all; TypeError if one has no method of an observer.
    """
    if observer is None and not added:
        return None
    from ..observing.notifier import Notifier

    return Notifier.of(observer)


def checked_retries(max_retries: object) -> int:
    """How often a request may be sent again."""
    if isinstance(max_retries, bool) or not isinstance(max_retries, int) or max_retries < 0:
        shown = max_retries if isinstance(max_retries, (int, float)) else type(max_retries).__name__
        raise ValueError(f"max_retries is {shown}: give 0 or a positive whole number")
    return max_retries


def checked_wait(seconds: object, name: str = "max_retry_wait") -> float:
    """Return a number of seconds that may be 0 or infinite."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{name} is {type(seconds).__name__}: give seconds as a number")
    if not seconds >= 0:
        raise ValueError(f"{name} is {seconds!r}: it cannot be negative")
    return seconds


def checked_keepalive(seconds: object) -> float:
    """Return how long an idle connection is kept, in seconds."""
    keepalive = checked_wait(seconds, "keepalive")
    if math.isinf(keepalive):
        raise ValueError("keepalive is infinite: the server, or a NAT, closes idle connections")
    return keepalive
