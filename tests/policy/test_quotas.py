"""What a response's headers say is left of a rate limit."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._policy.quotas import Quota, quotas_in
from penstock.headers import Headers

NOW = 1_800_000_000.0
DATE = "Fri, 15 Jan 2027 08:00:00 GMT"  # NOW

OPENAI = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-limit-tokens": "150000",
    "x-ratelimit-remaining-requests": "59",
    "x-ratelimit-remaining-tokens": "149984",
    "x-ratelimit-reset-requests": "1s",
    "x-ratelimit-reset-tokens": "6m0s",
}
GROQ = {
    "x-ratelimit-limit-requests": "14400",
    "x-ratelimit-limit-tokens": "18000",
    "x-ratelimit-remaining-requests": "14370",
    "x-ratelimit-remaining-tokens": "17997",
    "x-ratelimit-reset-requests": "2m59.56s",
    "x-ratelimit-reset-tokens": "7.66ms",
}
AZURE = {"x-ratelimit-remaining-requests": "19", "x-ratelimit-remaining-tokens": "19900"}
ANTHROPIC = {
    "anthropic-ratelimit-requests-limit": "50",
    "anthropic-ratelimit-requests-remaining": "49",
    "anthropic-ratelimit-requests-reset": "2027-01-15T08:00:01Z",
    "anthropic-ratelimit-tokens-limit": "90000",
    "anthropic-ratelimit-tokens-remaining": "80000",
    "anthropic-ratelimit-tokens-reset": "2027-01-15T08:00:30Z",
    "anthropic-ratelimit-input-tokens-remaining": "1",
    "anthropic-ratelimit-output-tokens-remaining": "1",
}
OPENROUTER = {
    "X-RateLimit-Limit": "20",
    "X-RateLimit-Remaining": "3",
    "X-RateLimit-Reset": str(int(NOW * 1000) + 9000),
}
TOGETHER = {
    "x-ratelimit-limit": "10",
    "x-ratelimit-remaining": "9",
    "x-ratelimit-reset": "1",
    "x-tokenlimit-limit": "1000",
    "x-tokenlimit-remaining": "900",
}
CEREBRAS = {
    "x-ratelimit-limit-requests-day": "14400",
    "x-ratelimit-remaining-requests-day": "14399",
    "x-ratelimit-reset-requests-day": "33011.38",
    "x-ratelimit-remaining-tokens-minute": "60000",
    "x-ratelimit-reset-tokens-minute": "11.38",
}
MISTRAL = {"ratelimitbysize-remaining": "499", "ratelimitbysize-reset": "26"}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (OPENAI, [("requests", 59, 1), ("tokens", 149984, 360)]),
        (GROQ, [("requests", 14370, 179.56), ("tokens", 17997, 0.00766)]),
        (AZURE, [("requests", 19, None), ("tokens", 19900, None)]),
        (ANTHROPIC, [("requests", 49, 1), ("tokens", 80000, 30)]),
        (OPENROUTER, [("requests", 3, 9)]),
        (TOGETHER, [("requests", 9, 1), ("tokens", 900, 1)]),
        (CEREBRAS, [("requests", 14399, 33011.38), ("tokens", 60000, 11.38)]),
        (MISTRAL, [("tokens", 499, 26)]),
        ({"ratelimit": "limit=10, remaining=4, reset=7"}, [("requests", 4, 7)]),
        ({"ratelimit": '"default";r=50;t=30'}, [("requests", 50, 30)]),
        ({"ratelimit": '"a";r=50;t=30,"b";r=2;t=5'}, [("requests", 50, 30), ("requests", 2, 5)]),
        ({"ratelimit-remaining": "4", "ratelimit-reset": "7"}, [("requests", 4, 7)]),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": DATE[:-4] + " GMT"},
         [("requests", 0, 0)]),
    ],
    ids=["openai", "groq", "azure", "anthropic", "openrouter", "together", "cerebras", "mistral",
         "ietf", "ietf-new", "ietf-two", "ietf-old", "date"],
)  # fmt: skip
def test_as_vendors_write_them(
    headers: dict[str, str], expected: list[tuple[str, int, float | None]]
) -> None:
    found = quotas_in(Headers(headers.items()), NOW)
    assert [(each.unit, each.remaining) for each in found] == [each[:2] for each in expected]
    for each, (_, _, reset) in zip(found, expected, strict=True):
        assert each.reset == (None if reset is None else pytest.approx(reset))


def test_times_of_day_are_by_the_servers_clock() -> None:
    for skew in (-5000.0, 5000.0):
        found = quotas_in(Headers([*ANTHROPIC.items(), ("date", DATE)]), NOW + skew)
        assert [each.reset for each in found] == [1, 30]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "application/json", "x-limit": "5", "remaining": "4"},
        {"x-ratelimit-limit-requests": "60"},
        {"x-ratelimit-remaining-requests": "plenty"},
        {"x-ratelimit-remaining-requests": ""},
        {"x-ratelimit-remaining-requests": "9" * 300},
        {"x-ratelimit-remaining-tokens-prompt": "5", "x-ratelimit-remaining-tokens-generated": "5"},
        {"ratelimit": "no such thing"},
    ],
)
def test_what_says_nothing_counts_for_nothing(headers: dict[str, str]) -> None:
    assert quotas_in(Headers(headers.items()), NOW) == []


_names = st.lists(
    st.sampled_from(["x", "ratelimit", "remaining", "reset", "limit", "tokens", "requests", "day"]),
    min_size=1,
    max_size=5,
).map("-".join)
_values = st.text(max_size=40) | st.sampled_from(
    ["0", "-1", "1e999", "nan", "inf", "6m0s", "1ns1ns", "99999999999999999999d", DATE, "1e15",
     "2027-01-15T08:00:01Z", "0000-00-00", "r=1;t=", "remaining=5, reset=x", '"a";r=1,"b"'],
)  # fmt: skip


@given(
    st.lists(st.tuples(_names | st.just("ratelimit") | st.just("date"), _values), max_size=40),
    st.floats(0, 4e9),
)
def test_any_headers_give_numbers_or_nothing(headers: list[tuple[str, str]], now: float) -> None:
    for quota in quotas_in(Headers(headers), now):
        assert isinstance(quota, Quota)
        assert quota.remaining >= 0
        assert quota.reset is None or (quota.reset >= 0 and math.isfinite(quota.reset))
