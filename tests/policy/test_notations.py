"""How servers write numbers, waits and times."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._policy.notations import date_in, number_in, sent_at, time_of, wait_in, wait_of
from penstock.headers import Headers

NOW = 1_800_000_000.0
DATE = "Fri, 15 Jan 2027 08:00:00 GMT"  # NOW


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360), ("1s", 1), ("20ms", 0.02), ("1h2m3.5s", 3723.5), ("250us", 0.00025),
        ("2d", 172_800), ("1.5", 1.5), (" 7 ", 7), ("-7", 0), (str(int(NOW) + 9), 9),
        (str(int(NOW * 1000) + 9000), 9), ("2027-01-15T08:00:09Z", 9), (DATE, 0), ("soon", None),
        ("", None), ("1x", None), ("nan", None), ("s", None), ("1" * 65, None),
    ],
)  # fmt: skip
def test_waits(text: str, seconds: float | None) -> None:
    assert wait_in(text, NOW) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("value", "number"),
    [("5", 5), (5.5, 5.5), ("-1", 0), (None, None), (True, None), ("inf", None), ([], None)],
)
def test_numbers(value: object, number: float | None) -> None:
    assert number_in(value) == number


def test_a_number_is_a_time_only_around_now() -> None:
    assert time_of(NOW * 1000, NOW) == NOW
    assert time_of(5000, NOW) is None
    assert wait_of(NOW + 5, NOW) == pytest.approx(5)
    assert wait_of(NOW / 2, NOW) == NOW / 2


def test_a_response_was_sent_when_its_date_says() -> None:
    assert sent_at(Headers([("date", DATE)]), 5.0) == NOW == date_in(DATE)
    assert sent_at(Headers([("date", "today")]), 5.0) == sent_at(Headers(), 5.0) == 5.0


@given(st.text(max_size=70), st.floats(0, 4e9))
def test_any_text_is_a_wait_or_none(text: str, now: float) -> None:
    wait = wait_in(text, now)
    assert wait is None or (wait >= 0 and math.isfinite(wait))
