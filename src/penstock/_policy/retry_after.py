"""How long a server asks to wait, wherever and however it says so.

In this order: `retry-after-ms` and `retry-after`; the same in the error's body, where OpenRouter
has `metadata.headers` and Google a RetryInfo; and, for refusals for load, the reset of the rate
limit that is exhausted. What cannot be understood counts for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from ..headers import Headers
from .notations import number_in, sent_at, time_of, wait_in, wait_of

__all__ = ["OVERLOADED", "asked_wait", "names_daily_limit", "parse_retry_after"]

OVERLOADED = frozenset((429, 498, 499, 503, 529))
"""Statuses that refuse a request for load: 498 is Groq's "capacity exceeded", 499 a gateway
that gave up on its server, 529 Anthropic's "overloaded"."""

_DEPTH = 8  # an error in a list, its details, their violations, and a few more
_ITEMS = 16  # of a list

_DAILY = r"(?i)(?:per|/)[\s_-]*(?:day|month|24[\s_-]*h)|(?<![a-z])(?:daily|monthly)|\b[RT]PD\b"
_SHORT = r"(?i)(?:per|/)[\s_-]*(?:min|sec|hour)|\b[RT]PM\b"


def asked_wait(status: int, headers: Headers, body: Any, now: float) -> float | None:
    """Return the seconds that a response with an error status asks to wait, or None.

    `body` is the parsed body. `now` is the local time in seconds since the epoch, for dates and
    times of day; the response's `Date` takes precedence, so the clocks need not agree.
    """
    now = sent_at(headers, now)
    wait = parse_retry_after(headers, now)
    if wait is not None:
        return wait
    inner = _inner_headers(body)
    for wait in (parse_retry_after(inner, now), _retry_info(body, now)):
        if wait is not None:
            return wait
    if status not in OVERLOADED:
        return None
    waits = [*_resets(headers, now), *_resets(inner, now)]
    return max(waits, default=None)


def parse_retry_after(headers: Headers, now: float) -> float | None:
    """Return the seconds that `retry-after-ms` or `retry-after` asks to wait, or None.

    `retry-after` is a number of seconds, an HTTP date (RFC 9110, 10.2.3), a duration with units,
    or a time in seconds or milliseconds since the epoch. `now` is the time in seconds since the
    epoch. A time in the past means 0.
    """
    milliseconds = number_in(headers.get("retry-after-ms"))
    if milliseconds is not None:
        time = time_of(milliseconds, now)
        return milliseconds / 1000 if time is None else max(0.0, time - now)
    value = headers.get("retry-after")
    seconds = number_in(value)
    if seconds is not None:
        return wait_of(seconds, now)
    return None if value is None else wait_in(value, now)


def names_daily_limit(headers: Headers, body: Any, message: str) -> bool:
    """Return whether an error is about a limit per day or month, and not a shorter one.

    Waiting does not help against such a limit. Google names it in `quotaId` beside a RetryInfo
    of seconds; others have a header for it with nothing remaining, or say it in their message.
    """
    per_day = [name for name in headers if "remaining" in name and "day" in name]
    if any(_is_rate_limit(name) and number_in(headers[name]) == 0 for name in per_day):
        return True
    quotas = _texts(body, ("quotaId", "quota_id"))
    if quotas:
        return any(re.search(_DAILY, text) for text in quotas)
    return bool(re.search(_DAILY, message)) and not re.search(_SHORT, message)


# --- headers -------------------------------------------------------------------------


def _resets(headers: Headers, now: float) -> Iterator[float]:
    """Yield the waits until rate limits with nothing remaining are reset.

    `x-ratelimit-reset-tokens` belongs to `x-ratelimit-remaining-tokens`, Anthropic's
    `anthropic-ratelimit-tokens-reset` to `anthropic-ratelimit-tokens-remaining`. A reset without
    such a companion counts if it is the only one.
    """
    names = [name for name in headers if "reset" in name and _is_rate_limit(name)]
    for name in names:
        remaining = headers.get(name.replace("reset", "remaining"))
        left = number_in(remaining)
        if left == 0 or (remaining is None and len(names) == 1):
            wait = wait_in(headers[name], now)
            if wait is not None:
                yield wait


def _is_rate_limit(name: str) -> bool:
    return "ratelimit" in name.replace("-", "").replace("_", "")


# --- bodies --------------------------------------------------------------------------


def _inner_headers(body: Any) -> Headers:
    """Return the headers that a gateway passes on in an error's `metadata`."""
    for metadata in _members(body, "metadata"):
        inner = metadata.get("headers") if _is_object(metadata) else None
        if _is_object(inner):
            return Headers(
                (name, format(value))
                for name, value in inner.items()
                if isinstance(value, (str, int, float))
            )
    return Headers()


def _retry_info(body: Any, now: float) -> float | None:
    """Return the wait of Google's RetryInfo, or of a member that is called like the header."""
    for name in ("retryDelay", "retry_delay", "retry_after", "retry_after_seconds", "retryAfter"):
        for value in _members(body, name):
            if _is_object(value):  # a protobuf duration
                seconds = number_in(value.get("seconds", 0))
                nanos = number_in(value.get("nanos", 0))
                wait = None if seconds is None or nanos is None else seconds + nanos * 1e-9
            elif isinstance(value, bool) or not isinstance(value, (str, int, float)):
                wait = None
            else:
                wait = wait_in(format(value), now)
            if wait is not None:
                return wait
    return None


def _members(body: Any, name: str) -> Iterator[Any]:
    """Yield the members of this name, in the body and in what it contains."""
    level = [body]
    for _ in range(_DEPTH):
        inner: list[Any] = []
        for value in level:
            if _is_object(value):
                if name in value:
                    yield value[name]
                inner += list(value.values())[:_ITEMS]
            elif _is_list(value):
                inner += value[:_ITEMS]
        level = inner


def _texts(body: Any, names: tuple[str, ...]) -> list[str]:
    return [text for name in names for text in _members(body, name) if isinstance(text, str)]


def _is_object(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, dict)


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)
