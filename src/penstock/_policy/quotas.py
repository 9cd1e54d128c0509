"""What a response's headers say is left of a rate limit, wherever and however they say it.

    x-ratelimit-remaining-requests: 59           OpenAI, Azure, Groq
    x-ratelimit-reset-requests: 6m0s
    x-ratelimit-remaining-tokens-minute: 900     Cerebras, Mistral
    anthropic-ratelimit-tokens-remaining: 7000   Anthropic
    anthropic-ratelimit-tokens-reset: 2026-01-01T00:00:09Z
    x-ratelimit-remaining: 5                     OpenRouter, GitHub: requests
    x-ratelimit-reset: 1767225609000
    x-tokenlimit-remaining: 100                  Together
    ratelimit: limit=10, remaining=5, reset=10   IETF drafts: requests
    ratelimit: "default";r=5;t=10

A limit per day is one as well. The limits themselves say nothing that the remaining number does
not. Parts of the tokens (input, output, prompt, generated) are not compared with all of them.
What cannot be understood counts for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import msgspec

from ..headers import Headers
from .notations import number_in, sent_at, wait_in

__all__ = ["Quota", "Unit", "quotas_in"]

Unit = Literal["requests", "tokens"]

_PARTS = r"input|output|prompt|generated|completion|cache|image|audio"
_MEMBER = r"(?:^|[;,\s])\s*(r|t|remaining|reset)\s*=\s*\"?([\w.:+-]+)"
_MOST = 32  # headers that are looked at
_LONGEST = 256  # characters of a value


class Quota(msgspec.Struct, frozen=True):
    """What is left of one rate limit."""

    unit: Unit
    """What it counts."""
    remaining: int
    """How much is left."""
    reset: float | None
    """Seconds until there is more; None if the server does not say."""


def quotas_in(headers: Headers, now: float) -> list[Quota]:
    """Return what the headers of a response say is left.

    `now` is the local time in seconds since the epoch, for dates and times of day; the response's
    `Date` takes precedence, so the clocks need not agree.
    """
    names = [name for name in headers if "limit" in name and _is_quota(name)][:_MOST]
    if not names:
        return []
    now = sent_at(headers, now)
    return [quota for name in names for quota in _read(headers, name, now)]


def _is_quota(name: str) -> bool:
    plain = name.replace("-", "").replace("_", "")
    return ("remaining" in plain or plain == "ratelimit") and (
        "ratelimit" in plain or "tokenlimit" in plain
    )


def _read(headers: Headers, name: str, now: float) -> Iterator[Quota]:
    value = headers[name]
    if len(value) > _LONGEST or re.search(_PARTS, name):
        return
    if "remaining" not in name:
        # Several limits are a list, and each policy is named or not.
        for policy in value.split(',"') if '"' in value else [value]:
            members = dict(re.findall(_MEMBER, policy.lower()))
            left = members.get("r", members.get("remaining"))
            reset = members.get("t", members.get("reset"))
            yield from _quota("requests", left, reset, now)
        return
    unit: Unit = "tokens" if "token" in name or "bysize" in name else "requests"
    reset = headers.get(name.replace("remaining", "reset"))
    if reset is None and unit == "tokens":  # one reset for both
        reset = headers.get("x-ratelimit-reset")
    yield from _quota(unit, value, reset, now)


def _quota(unit: Unit, left: str | None, reset: str | None, now: float) -> Iterator[Quota]:
    remaining = number_in(left)
    if remaining is not None:
        yield Quota(unit, int(remaining), None if reset is None else wait_in(reset, now))
