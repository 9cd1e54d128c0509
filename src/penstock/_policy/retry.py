"""Decide whether to retry a failed attempt, and when.

The rules follow OpenAI's own clients, so that servers built for them see what they expect:
connection failures, connect timeouts, 408, 409, 429 and 5xx are retried; `x-should-retry` is
obeyed; 402, a used-up quota and a limit per day are never retried. Beyond those rules, 498 and
499 are an overload like 429 and 503, and 501 and 505 are not retried: they do not go away.
Other timeouts are not retried, because the server may still be working on the request.
"""

from __future__ import annotations

from ..errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    ConnectTimeout,
    PenstockError,
    StreamInterruptedError,
)
from .retry_after import OVERLOADED, names_daily_limit

__all__ = [
    "MAX_RETRY_WAIT",
    "backoff",
    "is_overload",
    "retries_stale",
    "retry_delay",
    "sibling_pause",
]

BACKOFF_FIRST = 0.5
BACKOFF_LAST = 8.0
# Up to a quarter is taken off, so that clients cut off together do not return together.
JITTER = 0.25
# Refusals that concern the whole account or server. A 503 may come from one of many replicas.
_BACK_OFF = (429, 498, 499)
MAX_RETRY_WAIT = 60.0
"""Seconds. If a server asks for a longer wait, the error is raised at once."""


def backoff(failures: int, random: float) -> float:
    """Return the back-off in seconds after this many failures; `random` is uniform in [0, 1)."""
    # Bound the exponent before taking the power: failures may be any number.
    doubled: float = BACKOFF_FIRST * 2 ** min(failures - 1, 16)
    return min(doubled, BACKOFF_LAST) * (1 - JITTER * random)


def retry_delay(
    error: PenstockError,
    *,
    failures: int,
    max_retries: int,
    random: float,
    stale: bool = False,
    permanent: bool = False,
    elsewhere: bool = False,
    max_wait: float = MAX_RETRY_WAIT,
) -> float | None:
    """Return the seconds until the retry, or None if the error must be raised.

    `failures` includes this one. `stale` means that a kept-alive connection died before any
    byte of a response, which says nothing about the server: it is not among the `failures`,
    and is retried at once, whatever `max_retries`. `permanent` means that connecting will
    fail again, for instance because a certificate does not verify. `elsewhere` means that
    another server takes the request, which is then sent at once.
    """
    if (permanent and not elsewhere) or not _is_transient(error):
        return None
    if stale and retries_stale(error):
        return 0.0
    if failures > max_retries:
        return None
    if elsewhere:
        return 0.0
    if isinstance(error, APIStatusError) and error.retry_after is not None:
        return error.retry_after if error.retry_after <= max_wait else None
    return backoff(failures, random)


def retries_stale(error: PenstockError) -> bool:
    """Return True if the failure of an idle connection says nothing about the server."""
    return not isinstance(error, APIStatusError) and _is_transient(error)


def is_overload(error: APIStatusError) -> bool:
    """Return whether the server refused the request for load, so that others should wait."""
    return error.status_code in OVERLOADED


def sibling_pause(
    error: APIStatusError, *, failures: int, random: float, max_wait: float = MAX_RETRY_WAIT
) -> float | None:
    """Return the seconds for which other requests to the server should not start, or None.

    They wait as long as an overloaded server asks, but never longer than `max_wait`, and for a
    back-off if it refuses for load (429, 498, 499) and asks for nothing. Arguments as for
    `retry_delay`.
    """
    if not is_overload(error):
        return None
    if error.retry_after is not None:
        return min(error.retry_after, max_wait)
    if error.status_code in _BACK_OFF:
        return min(backoff(failures, random), max_wait)
    return None


def _is_transient(error: PenstockError) -> bool:
    if isinstance(error, APIStatusError):
        if error.status_code == 402 or "insufficient_quota" in (error.code, error.type):
            return False
        if is_overload(error) and names_daily_limit(error.headers, error.body, str(error)):
            return False
        advice = error.headers.get("x-should-retry", "").strip().lower()
        if advice in ("true", "false"):
            return advice == "true"
        if error.status_code in (501, 505):
            return False
        return error.status_code in (408, 409, 429, 498, 499) or error.status_code >= 500
    if isinstance(error, APITimeoutError):
        return isinstance(error, ConnectTimeout)
    return isinstance(error, APIConnectionError) and not isinstance(error, StreamInterruptedError)
