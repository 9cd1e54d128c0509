"""How servers write numbers, waits and times in headers.

What cannot be understood is None. `now` is the time in seconds since the epoch.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Any

from ..headers import Headers

__all__ = ["date_in", "number_in", "sent_at", "time_of", "wait_in", "wait_of"]

# A number around the present time is a time and not a wait: a day back, as clocks differ, and
# ten years ahead. An older one is a wait of decades.
_PAST = 86_400.0
_FUTURE = 10 * 365 * 86_400.0

_DURATION = r"(?i)(?:\d+(?:\.\d+)?(?:ns|us|\u00b5s|ms|s|m|h|d))+"
_STEP = r"(?i)(\d+(?:\.\d+)?)([a-z\u00b5]+)"
_UNITS = {
    "ns": 1e-9, "us": 1e-6, "\u00b5s": 1e-6, "ms": 1e-3,
    "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0,
}  # fmt: skip
_LONGEST = 64  # characters of a duration or date


def sent_at(headers: Headers, now: float) -> float:
    """Return when a response was sent by its `Date`, so that the clocks need not agree."""
    date = headers.get("date")
    sent = None if date is None else date_in(date)
    return now if sent is None else sent


def number_in(value: Any) -> float | None:
    """Return a finite number, 0 in place of a negative one."""
    if value is None or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, number) if math.isfinite(number) else None


def wait_in(text: str, now: float) -> float | None:
    """Return the seconds of a duration ("6m0s", "250ms", "1.5"), or until a time or a date."""
    text = text.strip()
    if len(text) > _LONGEST:
        return None
    number = number_in(text)
    if number is not None:
        return wait_of(number, now)
    if re.fullmatch(_DURATION, text):
        steps = re.findall(_STEP, text)
        return sum(float(amount) * _UNITS[unit.lower()] for amount, unit in steps)
    time = date_in(text)
    return None if time is None else max(0.0, time - now)


def wait_of(number: float, now: float) -> float:
    """Return a wait in seconds as it is; for a time since the epoch the seconds until then."""
    for time in (time_of(number * 1000, now), time_of(number, now)):
        if time is not None:
            return max(0.0, time - now)
    return number


def time_of(milliseconds: float, now: float) -> float | None:
    """Return the time in seconds if these are milliseconds since the epoch, else None."""
    time = milliseconds / 1000
    return time if time >= 1e9 and now - _PAST <= time <= now + _FUTURE else None


def date_in(text: str) -> float | None:
    """Return an ISO 8601 date or an HTTP date in seconds since the epoch."""
    for parse in (datetime.fromisoformat, _http_date):
        try:
            date = parse(text)
            if date.tzinfo is None:
                # The asctime format has no zone: an HTTP date is UTC (RFC 9110, 5.6.7).
                date = date.replace(tzinfo=UTC)
            return date.timestamp()
        except (ValueError, TypeError, OverflowError):
            continue
    return None


def _http_date(text: str) -> datetime:
    try:
        # A large import that most programs never need.
        from email.utils import parsedate_to_datetime
    except OSError as error:
        raise ValueError("no file descriptor is left to load a module") from error
    return parsedate_to_datetime(text)
