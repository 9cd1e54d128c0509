"""How long a server asks to wait, in each place and each notation."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._policy.retry_after import asked_wait, parse_retry_after
from penstock.headers import Headers

DATE = "Wed, 21 Oct 2015 07:28:00 GMT"
DATE_SECONDS = 1445412480.0
NOW = 1_796_000_000.0

finite = st.floats(min_value=0, max_value=1e9)


def retry_after(*lines: tuple[str, str], now: float = 0.0) -> float | None:
    return parse_retry_after(Headers(lines), now)


def asked(body: Any = None, status: int = 429, now: float = NOW, **headers: str) -> float | None:
    lines = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return asked_wait(status, Headers(lines), body, now)


# --- retry-after ---


def test_no_header_asks_for_nothing() -> None:
    assert retry_after() is None


@given(finite)
def test_seconds(seconds: float) -> None:
    assert retry_after(("Retry-After", repr(seconds))) == seconds


@pytest.mark.parametrize(("text", "seconds"), [("20s", 20), ("1m30s", 90), ("250ms", 0.25)])
def test_a_duration(text: str, seconds: float) -> None:
    assert retry_after(("Retry-After", text)) == seconds


@given(finite, finite)
def test_milliseconds_win_over_seconds(milliseconds: float, seconds: float) -> None:
    lines = [("retry-after", repr(seconds)), ("Retry-After-Ms", repr(milliseconds))]
    assert retry_after(*lines) == milliseconds / 1000
    assert retry_after(*reversed(lines)) == milliseconds / 1000


@pytest.mark.parametrize("junk", ["", "soon", "nan", "inf", "-inf", "1e999", "12x"])
def test_a_number_that_is_none_counts_for_nothing(junk: str) -> None:
    assert retry_after(("retry-after-ms", junk)) is None
    assert retry_after(("retry-after", junk)) is None
    assert retry_after(("retry-after-ms", junk), ("retry-after", "3")) == 3


@pytest.mark.parametrize("name", ["retry-after", "retry-after-ms"])
def test_a_negative_number_is_no_wait(name: str) -> None:
    assert retry_after((name, "-5")) == 0


# RFC 9110, 5.6.7: a recipient takes all three formats, and the time is always UTC.
@pytest.fixture(params=["UTC", "Asia/Tokyo", "America/New_York"])
def time_zone(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = request.param
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.usefixtures("time_zone")
@pytest.mark.parametrize(
    "date",
    [
        DATE,
        "Wednesday, 21-Oct-15 07:28:00 GMT",
        "Wed Oct 21 07:28:00 2015",
        "Wed, 21 Oct 2015 07:28:00 -0000",
        "Wed, 21 Oct 2015 07:28:00",
    ],
)
def test_a_date_is_utc_whatever_the_time_zone_here(date: str) -> None:
    assert retry_after(("retry-after", date), now=DATE_SECONDS - 30) == 30


@given(st.integers(0, 32_000_000_000), finite)
def test_a_date_is_a_wait_from_now(seconds: int, now: float) -> None:
    date = datetime.fromtimestamp(seconds, UTC)
    wait = retry_after(("retry-after", format_datetime(date, usegmt=True)), now=now)
    assert wait == max(0.0, seconds - now)


def test_a_date_in_the_past_is_no_wait() -> None:
    assert retry_after(("retry-after", DATE), now=DATE_SECONDS + 1) == 0


_date_words = st.sampled_from(
    ["Wed,", "Sunday", "21", "Oct", "2015", "99999999999999", "07:28:00", "::", "GMT", "-0000",
     "+9999", "+999999999", ",", "", "0", "-1", "12:", "Jan-01", "1.2.3", "ü"]
)  # fmt: skip


@given(st.text(max_size=40) | st.lists(_date_words, max_size=8).map(" ".join), finite)
def test_no_text_breaks_it_and_no_wait_is_negative(text: str, now: float) -> None:
    for name in ("retry-after", "retry-after-ms"):
        wait = retry_after((name, text), now=now)
        assert wait is None or 0 <= wait < float("inf")


# --- times since the epoch ---


@given(st.floats(min_value=1.5e9, max_value=4e9), st.floats(-80_000, 3e8))
def test_a_time_since_the_epoch_is_a_wait_until_then(now: float, ahead: float) -> None:
    wait = max(0.0, ahead)
    for name, unit in (("retry-after", 1), ("retry-after", 1000), ("retry-after-ms", 1000)):
        value = repr((now + ahead) * unit)
        assert retry_after((name, value), now=now) == pytest.approx(wait, abs=1e-3)


def test_a_number_that_is_no_time_near_is_a_wait() -> None:
    # Of decades, which nobody waits for.
    assert retry_after(("retry-after", "1771404540"), now=NOW) == 1771404540
    assert retry_after(("retry-after", "31536000"), now=NOW) == 31536000
    assert retry_after(("retry-after", "9" * 30), now=NOW) == float("9" * 30)


# --- the server's clock ---


@pytest.mark.parametrize("ahead", [-86_000, -5, 0, 3600, 10**8])
def test_a_date_is_read_by_the_servers_own_clock(ahead: float) -> None:
    there = NOW + ahead
    date = format_datetime(datetime.fromtimestamp(there, UTC), usegmt=True)
    until = format_datetime(datetime.fromtimestamp(there + 20, UTC), usegmt=True)
    assert asked(date=date, retry_after=until) == 20
    assert asked(date=date, retry_after=str(int(there) + 20)) == 20
    assert asked(date=date, x_ratelimit_reset=str(int(there) + 20)) == 20


@pytest.mark.parametrize("date", ["", "yesterday", "-1"])
def test_a_date_that_is_none_leaves_the_local_clock(date: str) -> None:
    until = format_datetime(datetime.fromtimestamp(NOW + 20, UTC), usegmt=True)
    assert asked(date=date, retry_after=until) == 20


# --- the reset of a rate limit ---


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("6m0s", 360),
        ("1h2m3.5s", 3723.5),
        ("250ms", 0.25),
        ("1m0.5s", 60.5),
        ("1d", 86400),
        ("30", 30),
        ("2.5", 2.5),
        (" 7 ", 7),
        ("0", 0),
        (str(int(NOW) + 9), 9),
        (str(int(NOW) * 1000 + 9500), 9.5),
        (datetime.fromtimestamp(NOW + 9, UTC).isoformat(), 9),
        (datetime.fromtimestamp(NOW + 9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), 9),
        (format_datetime(datetime.fromtimestamp(NOW + 9, UTC), usegmt=True), 9),
        (datetime.fromtimestamp(NOW - 9, UTC).isoformat(), 0),
    ],
)
def test_notations(text: str, seconds: float) -> None:
    assert asked(x_ratelimit_remaining="0", x_ratelimit_reset=text) == pytest.approx(seconds)
    body = {"error": {"details": [{"retryDelay": text}]}}
    assert asked(body) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "5 apples", "s", "1x", "nan", "-", "1s" * 99])
def test_no_notation(text: str) -> None:
    assert asked(x_ratelimit_remaining="0", x_ratelimit_reset=text) is None
    assert asked({"retryDelay": text}) is None


RESETS: dict[str, Any] = {
    "x_ratelimit_remaining_requests": "14",
    "x_ratelimit_reset_requests": "6m0s",
    "x_ratelimit_remaining_tokens": "0",
    "x_ratelimit_reset_tokens": "850ms",
}


def test_the_exhausted_limit_counts() -> None:
    assert asked(**RESETS) == 0.85
    assert asked(**{**RESETS, "x_ratelimit_remaining_requests": "0"}) == 360
    assert asked(**{**RESETS, "x_ratelimit_remaining_tokens": "3"}) is None
    assert asked(**{**RESETS, "retry_after": "2"}) == 2


def test_anthropics_headers() -> None:
    until = datetime.fromtimestamp(NOW + 12, UTC).isoformat()
    later = datetime.fromtimestamp(NOW + 50, UTC).isoformat()
    headers: dict[str, Any] = {
        "anthropic_ratelimit_requests_remaining": "49",
        "anthropic_ratelimit_requests_reset": later,
        "anthropic_ratelimit_input_tokens_remaining": "0",
        "anthropic_ratelimit_input_tokens_reset": until,
    }
    assert asked(**headers) == 12


def test_a_single_reset_needs_no_companion() -> None:
    assert asked(x_ratelimit_reset="30") == 30
    assert asked(ratelimit_reset="30") == 30
    assert asked(x_ratelimit_reset_a="30", x_ratelimit_reset_b="40") is None
    assert asked(x_session_reset="30") is None


@pytest.mark.parametrize("status", [400, 401, 402, 500, 502])
def test_resets_say_nothing_about_other_errors(status: int) -> None:
    assert asked(status=status, **RESETS) is None
    assert asked(status=status, retry_after="5") == 5


# --- bodies ---

OPENROUTER: dict[str, Any] = {
    "error": {
        "message": "Rate limit exceeded",
        "code": 429,
        "metadata": {
            "headers": {
                "X-RateLimit-Limit": "20",
                "X-RateLimit-Remaining": "0",
                "X-RateLimit-Reset": str(int(NOW) * 1000 + 45_000),
            }
        },
    }
}


def test_openrouters_metadata() -> None:
    assert asked(OPENROUTER) == 45
    inner: dict[str, Any] = OPENROUTER["error"]["metadata"]["headers"]
    assert asked({"error": {"metadata": {"headers": {**inner, "Retry-After": 3}}}}) == 3
    assert (
        asked({"error": {"metadata": {"headers": {**inner, "X-RateLimit-Remaining": 5}}}}) is None
    )


RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"code": 429, "details": [{"@type": "x"}, RETRY_INFO]}},
        [{"error": {"code": 429, "details": [RETRY_INFO]}}],
        [{"error": {"details": []}}, {"error": {"details": [RETRY_INFO]}}],
        {"error": {"details": [{"retryDelay": {"seconds": "34"}}]}},
        {"error": {"details": [{"retryDelay": {"seconds": 33, "nanos": 1_000_000_000}}]}},
        {"retry_after": 34},
        {"error": {"retry_after": 34.0}},
    ],
)
def test_a_wait_in_the_body(body: Any) -> None:
    assert asked(body) == 34
    assert asked(body, retry_after="5") == 5


@pytest.mark.parametrize(
    "body",
    [None, "34s", 34, [], {}, {"retry_after": True}, {"retryDelay": []}, {"retryDelay": {"a": 1}}],
)
def test_no_wait_in_the_body(body: Any) -> None:
    assert asked(body) in (None, 0)


words = st.sampled_from(
    ["retryDelay", "retry_after", "error", "metadata", "headers", "details", "X-RateLimit-Reset"]
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
)


@given(
    anything, st.text(max_size=12), st.sampled_from(["x-ratelimit-reset", "date", "retry-after"])
)
def test_whatever_is_sent_the_wait_is_finite_and_not_negative(
    body: Any, text: str, name: str
) -> None:
    wait = asked_wait(429, Headers([(name, text)]), body, NOW)
    assert wait is None or 0 <= wait < float("inf")
