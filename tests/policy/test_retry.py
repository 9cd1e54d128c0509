from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import errors
from penstock._policy.retry import MAX_RETRY_WAIT, backoff, parse_retry_after, retry_delay
from penstock.errors import APIStatusError, PenstockError, status_error_class
from penstock.headers import Headers

DATE = "Wed, 21 Oct 2015 07:28:00 GMT"
DATE_SECONDS = 1445412480.0

finite = st.floats(min_value=0, max_value=1e9)
unit = st.floats(min_value=0, max_value=1, exclude_max=True)


def retry_after(*lines: tuple[str, str], now: float = 0.0) -> float | None:
    return parse_retry_after(Headers(lines), now)


def status_error(
    status: int,
    *,
    code: str | None = None,
    type: str | None = None,
    retry_after: float | None = None,
    advice: str | None = None,
) -> APIStatusError:
    headers = Headers([] if advice is None else [("X-Should-Retry", advice)])
    return status_error_class(status)(
        "no", status_code=status, code=code, type=type, retry_after=retry_after, headers=headers
    )


def is_retried(error: PenstockError) -> bool:
    return retry_delay(error, failures=1, max_retries=2, random=0.0) is not None


# --- retry-after ---


def test_no_header_asks_for_nothing() -> None:
    assert retry_after() is None


@given(finite)
def test_seconds(seconds: float) -> None:
    assert retry_after(("Retry-After", repr(seconds))) == seconds


@given(finite, finite)
def test_milliseconds_win_over_seconds(milliseconds: float, seconds: float) -> None:
    lines = [("retry-after", repr(seconds)), ("Retry-After-Ms", repr(milliseconds))]
    assert retry_after(*lines) == milliseconds / 1000
    assert retry_after(*reversed(lines)) == milliseconds / 1000


@pytest.mark.parametrize("junk", ["", "soon", "nan", "inf", "-inf", "1e999", "12s"])
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


# --- backoff ---


@given(st.integers(min_value=1, max_value=10**9), unit)
def test_backoff_doubles_from_half_a_second_to_eight(failures: int, random: float) -> None:
    whole = 0.5 * 2 ** min(failures - 1, 4)
    assert whole * 0.75 <= backoff(failures, random) <= whole
    assert backoff(failures, 0.0) == whole


# --- which errors are tried again ---

_RETRIED = {408, 409, 429}


@pytest.mark.parametrize("status", [*range(300, 600), 700])
def test_by_status(status: int) -> None:
    assert is_retried(status_error(status)) == (status in _RETRIED or status >= 500)


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
    if failures > max_retries:
        assert delay is None
    elif stale and failures == 1:
        assert delay == 0.0
    else:
        assert delay == backoff(failures, random)


@pytest.mark.parametrize("max_retries", [0, 1, 2])
def test_a_stale_connection_costs_no_wait_once(max_retries: int) -> None:
    def delay(failures: int) -> float | None:
        return retry_delay(
            errors.APIConnectionError("x"),
            failures=failures,
            max_retries=max_retries,
            random=0.0,
            stale=True,
        )

    assert [delay(1), delay(2)] == [[None, None], [0.0, None], [0.0, 1.0]][max_retries]


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
