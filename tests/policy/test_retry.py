from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import errors
from penstock._policy.retry import (
    MAX_RETRY_WAIT,
    backoff,
    is_overload,
    retry_delay,
    sibling_pause,
)
from penstock.errors import APIStatusError, PenstockError, status_error_class
from penstock.headers import Headers

finite = st.floats(min_value=0, max_value=1e9)
unit = st.floats(min_value=0, max_value=1, exclude_max=True)


def status_error(
    status: int,
    *,
    code: str | None = None,
    type: str | None = None,
    retry_after: float | None = None,
    advice: str | None = None,
    message: str = "no",
    body: Any = None,
) -> APIStatusError:
    headers = Headers([] if advice is None else [("X-Should-Retry", advice)])
    return status_error_class(status)(
        message,
        status_code=status,
        code=code,
        type=type,
        body=body,
        retry_after=retry_after,
        headers=headers,
    )


def is_retried(error: PenstockError) -> bool:
    return retry_delay(error, failures=1, max_retries=2, random=0.0) is not None


# --- backoff ---


@given(st.integers(min_value=1, max_value=10**9), unit)
def test_backoff_doubles_from_half_a_second_to_eight(failures: int, random: float) -> None:
    whole = 0.5 * 2 ** min(failures - 1, 4)
    assert whole * 0.75 <= backoff(failures, random) <= whole
    assert backoff(failures, 0.0) == whole


# --- which errors are tried again ---

_RETRIED = {408, 409, 429, 498, 499}


@pytest.mark.parametrize("status", [*range(300, 600), 700])
def test_by_status(status: int) -> None:
    assert is_retried(status_error(status)) == (
        status in _RETRIED or (status >= 500 and status not in (501, 505))
    )


@pytest.mark.parametrize("status", [400, 401, 404, 408, 409, 429, 500, 503])
def test_the_server_s_advice_is_obeyed(status: int) -> None:
    assert is_retried(status_error(status, advice="true"))
    assert is_retried(status_error(status, advice=" TRUE "))
    assert not is_retried(status_error(status, advice="false"))
    assert is_retried(status_error(status, advice="maybe")) == is_retried(status_error(status))


@pytest.mark.parametrize("advice", [None, "true", "false"])
def test_no_money_never_gets_better_by_asking_again(advice: str | None) -> None:
    assert not is_retried(status_error(402, advice=advice))
    assert not is_retried(status_error(429, code="insufficient_quota", advice=advice))
    assert not is_retried(status_error(429, type="insufficient_quota", advice=advice))


@pytest.mark.parametrize(
    ("error", "retried"),
    [
        (errors.APIConnectionError("x"), True),
        (errors.ConnectTimeout("x"), True),
        (errors.SlotTimeout("x"), False),
        (errors.ReadTimeout("x"), False),
        (errors.FirstTokenTimeout("x"), False),
        (errors.IdleTimeout("x"), False),
        (errors.TotalTimeout("x"), False),
        (errors.StreamInterruptedError("x"), False),
        (errors.IncompleteStreamError("x"), False),
        (errors.StreamError("x"), False),
        (errors.APIResponseError("x"), False),
        (errors.AllAttemptsFailed("x"), False),
        (errors.StreamClosedError("x"), False),
        (errors.StreamBusyError("x"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_by_class(error: PenstockError, retried: bool) -> None:
    assert is_retried(error) == retried


# --- how long ---

_transient = st.sampled_from(
    [errors.APIConnectionError("x"), errors.ConnectTimeout("x"), status_error(500)]
)


@given(
    _transient,
    st.integers(min_value=1, max_value=30),
    st.integers(min_value=0, max_value=30),
    unit,
    st.booleans(),
)
def test_as_often_as_allowed(
    error: PenstockError, failures: int, max_retries: int, random: float, stale: bool
) -> None:
    delay = retry_delay(
        error, failures=failures, max_retries=max_retries, random=random, stale=stale
    )
    if stale and not isinstance(error, errors.APIStatusError):
        assert delay == 0.0
    elif failures > max_retries:
        assert delay is None
    else:
        assert delay == backoff(failures, random)


@pytest.mark.parametrize("max_retries", [0, 1, 2])
def test_a_stale_connection_costs_neither_a_wait_nor_a_retry(max_retries: int) -> None:
    def delay(error: PenstockError) -> float | None:
        return retry_delay(error, failures=0, max_retries=max_retries, random=0.0, stale=True)

    assert delay(errors.APIConnectionError("x")) == 0.0
    # A timeout is not a dead connection: the server may be at work.
    assert delay(errors.ReadTimeout("x")) is None


@given(_transient, unit)
def test_nothing_is_stale_or_permanent_unless_it_is_said(
    error: PenstockError, random: float
) -> None:
    delay = retry_delay(error, failures=1, max_retries=1, random=random)
    assert delay == backoff(1, random)


@given(_transient, st.booleans())
def test_what_is_permanent_is_not_tried_again(error: PenstockError, stale: bool) -> None:
    delay = retry_delay(error, failures=1, max_retries=9, random=0.0, stale=stale, permanent=True)
    assert delay is None


@given(finite, finite, st.booleans())
def test_the_wait_a_server_asks_for_is_exact_or_not_waited_for(
    asked: float, cap: float, stale: bool
) -> None:
    delay = retry_delay(
        status_error(429, retry_after=asked),
        failures=1,
        max_retries=1,
        random=0.5,
        stale=stale,
        max_wait=cap,
    )
    assert delay == (asked if asked <= cap else None)


def test_the_default_cap_is_a_minute() -> None:
    assert MAX_RETRY_WAIT == 60

    def delay(asked: float) -> float | None:
        error = status_error(503, retry_after=asked)
        return retry_delay(error, failures=1, max_retries=1, random=0.0)

    assert delay(60.0) == 60.0
    assert delay(60.1) is None


# --- limits per day ---

GOOGLE: dict[str, Any] = {
    "error": {
        "code": 429,
        "status": "RESOURCE_EXHAUSTED",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                "violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel"}],
            },
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"},
        ],
    }
}


def daily(body: Any) -> Any:
    if isinstance(body, dict):
        return {key: daily(value) for key, value in body.items()}
    if isinstance(body, list):
        return [daily(value) for value in body]
    return body.replace("PerMinute", "PerDay") if isinstance(body, str) else body


@pytest.mark.parametrize("wrap", [lambda body: body, lambda body: [body]])
@pytest.mark.parametrize("advice", [None, "true"])
def test_googles_quota_per_day_is_not_waited_for(wrap: Any, advice: str | None) -> None:
    for body, retried in ((GOOGLE, True), (daily(GOOGLE), False)):
        error = status_error(429, body=wrap(body), retry_after=34.0, advice=advice)
        assert is_retried(error) == retried


@pytest.mark.parametrize(
    ("message", "retried"),
    [
        ("Rate limit reached on requests per min (RPM): Limit 3", True),
        ("Rate limit reached on tokens per day (TPD): Limit 500000", False),
        ("Rate limit reached (RPD)", False),
        ("Rate limit exceeded: free-models-per-day", False),
        ("Rate limit exceeded: free-models-per-min", True),
        ("429 daily_limit_exceeded: no", False),
        ("Monthly spend limit reached", False),
        ("10 requests per minute and 100 per day are allowed", True),
        ("10 requests per min and 100 per day are allowed", True),
        ("Limit: 200 / day", False),
        ("You may make 50 requests per 24 hours", False),
        ("Today is a good day", True),
    ],
)
def test_a_limit_per_day_is_told_by_the_message(message: str, retried: bool) -> None:
    assert is_retried(status_error(429, message=message)) == retried
    assert is_retried(status_error(500, message=message))


@pytest.mark.parametrize(
    ("lines", "retried"),
    [
        ([("x-ratelimit-remaining-requests-day", "0")], False),
        ([("x-ratelimit-remaining-requests-day", "7")], True),
        ([("x-ratelimit-remaining-tokens-minute", "0")], True),
        ([("x-remaining-day", "0")], True),
    ],
)
def test_a_limit_per_day_is_told_by_a_header(lines: list[tuple[str, str]], retried: bool) -> None:
    error = errors.RateLimitError("no", status_code=429, headers=Headers(lines))
    assert is_retried(error) == retried


# --- what others do ---


@pytest.mark.parametrize("status", [*range(400, 600)])
def test_an_overload(status: int) -> None:
    assert is_overload(status_error(status)) == (status in (429, 498, 499, 503, 529))


@given(st.sampled_from([429, 498, 499, 503, 529]), finite, finite)
def test_others_wait_as_long_as_is_asked_but_not_for_ever(
    status: int, asked: float, cap: float
) -> None:
    error = status_error(status, retry_after=asked)
    pause = sibling_pause(error, failures=1, random=0.5, max_wait=cap)
    assert pause == min(asked, cap)


@given(st.integers(1, 20), unit)
def test_others_back_off_when_nothing_is_asked(failures: int, random: float) -> None:
    for status in (429, 498, 499):
        error = status_error(status)
        pause = sibling_pause(error, failures=failures, random=random)
        assert pause == backoff(failures, random)
        assert sibling_pause(error, failures=failures, random=random, max_wait=0.1) == 0.1
    for status in (503, 529, 500, 400, 401):
        assert sibling_pause(status_error(status), failures=failures, random=random) is None


def test_other_errors_hold_nobody_back() -> None:
    for status in (400, 401, 402, 409, 500, 502):
        error = status_error(status, retry_after=5.0)
        assert sibling_pause(error, failures=1, random=0.0) is None
