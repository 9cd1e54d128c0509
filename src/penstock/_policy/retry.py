"""Decide whether to retry a failed attempt, and when.

The rules follow OpenAI's own clients, so that servers built for them see what they expect:
connection failures, connect timeouts, 408, 409, 429 and 5xx are retried; `x-should-retry` is
obeyed; 402 and a used-up quota are never retried. Other timeouts are not retried, because the
server may still be working on the request.
"""

from __future__ import annotations

import math
from datetime import UTC
from email.utils import parsedate_to_datetime

from ..errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    ConnectTimeout,
    PenstockError,
    StreamInterruptedError,
)
from ..headers import Headers

__all__ = ["MAX_RETRY_WAIT", "backoff", "parse_retry_after", "retry_delay"]

BACKOFF_FIRST = 0.5
BACKOFF_LAST = 8.0
# Up to a quarter is taken off, so that clients cut off together do not return together.
JITTER = 0.25
MAX_RETRY_WAIT = 60.0
"""Seconds. If a server asks for a longer wait, the error is raised at once."""


def parse_retry_after(headers: Headers, now: float) -> float | None:
    """Return the seconds that `retry-after-ms` or `retry-after` asks to wait, or None.

    `retry-after` is a number of seconds or an HTTP date (RFC 9110, 10.2.3). `now` is the time
    in seconds since the epoch, for the date. A date in the past means 0.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None or value is None:
        return seconds
    try:
        date = parsedate_to_datetime(value)
        if date.tzinfo is None:
            # The asctime format has no zone: an HTTP date is UTC (RFC 9110, 5.6.7).
            date = date.replace(tzinfo=UTC)
        return max(0.0, date.timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def _number(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return max(0.0, value) if math.isfinite(value) else None


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
    max_wait: float = MAX_RETRY_WAIT,
) -> float | None:
    """Return the seconds until the retry, or None if the error must be raised.

    `failures` includes this one. `stale` means that a kept-alive connection died before any
    byte of a response, which says nothing about the server: the first such failure is
    retried at once. `permanent` means that connecting will fail again, for instance because
    a certificate does not verify.
    """
    if permanent or failures > max_retries or not _is_transient(error):
        return None
    if isinstance(error, APIStatusError) and error.retry_after is not None:
        return error.retry_after if error.retry_after <= max_wait else None
    if stale and failures == 1:
        return 0.0
    return backoff(failures, random)


def _is_transient(error: PenstockError) -> bool:
    if isinstance(error, APIStatusError):
        if error.status_code == 402 or "insufficient_quota" in (error.code, error.type):
            return False
        advice = error.headers.get("x-should-retry", "").strip().lower()
        if advice in ("true", "false"):
            return advice == "true"
        return error.status_code in (408, 409, 429) or error.status_code >= 500
    if isinstance(error, APITimeoutError):
        return isinstance(error, ConnectTimeout)
    return isinstance(error, APIConnectionError) and not isinstance(error, StreamInterruptedError)
