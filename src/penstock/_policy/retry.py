"""Whether a failed attempt is sent again, and when.

The rules are those OpenAI's own clients follow, so that servers built for them are
treated as they expect: connection failures, connect timeouts, 408, 409, 429 and 5xx are
tried again; `x-should-retry` is obeyed; 402 and a used-up quota never get better by
asking again. Other timeouts are not retried: the server may be working on the request.
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
# A quarter at most is taken off, so that clients cut off together do not return together.
JITTER = 0.25
MAX_RETRY_WAIT = 60.0
"""Seconds; a server that asks for a longer wait is not waited for."""


def parse_retry_after(headers: Headers, now: float) -> float | None:
    """Seconds the server asks to wait, from `retry-after-ms` or `retry-after`, else None.

    `retry-after` is a number of seconds or an HTTP date (RFC 9110, 10.2.3); `now` is the
    time of day in seconds since the epoch, for the date. The past counts as 0.
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
            # asctime's format names no zone: an HTTP date is UTC (RFC 9110, 5.6.7).
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
    """Seconds to wait after this many failures in a row; `random` is uniform in [0, 1)."""
    # The exponent is bounded before the power is taken: failures may be any number.
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
    """Seconds until the request is sent again, or None when the error is to be raised.

    `failures` counts this one. `stale` says that a kept-alive connection died before any
    byte of a response, which says nothing about the server: the first such failure is
    answered at once. `permanent` marks a failure to connect that will not go away, such
    as a certificate that does not verify.
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
