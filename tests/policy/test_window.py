"""`Window`: no minute gets more than its limit, whatever is booked, changed, moved and lowered."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._policy.window import GRAIN, MINUTE, Booking, Window


def test_all_of_a_minute_at_once_and_then_nothing_until_it_is_over() -> None:
    window = Window(10)
    for _ in range(10):
        assert window.ready_at(5.0, 1) == 5.0
        window.book(5.0, 1)
    assert window.available(5.0) == 0
    assert window.ready_at(6.0, 1) == 5.0 + MINUTE
    assert window.available(5.0 + MINUTE) == 10


def test_what_is_booked_expires_piece_by_piece() -> None:
    window = Window(100)
    for second in range(10):
        window.book(float(second), 10)
    assert window.ready_at(20.0, 1) == MINUTE
    assert window.ready_at(20.0, 25) == MINUTE + 2
    assert window.ready_at(20.0, 100) == MINUTE + 9
    assert window.available(MINUTE + 2) == 30


def test_an_amount_above_the_limit_waits_for_an_unused_minute_and_counts_as_all_of_it() -> None:
    window = Window(100)
    window.book(0.0, 1)
    assert window.ready_at(1.0, 100_000) == MINUTE
    window.book(MINUTE, 100_000)
    assert window.ready_at(MINUTE + 1, 1) == 2 * MINUTE
    assert window.available(2 * MINUTE) == 100


def test_a_rate_below_one_is_one_in_a_longer_time() -> None:
    window = Window(0.25)
    window.book(0.0, 1)
    assert window.ready_at(1.0, 1) == 4 * MINUTE


def test_what_is_booked_within_a_grain_expires_together() -> None:
    window = Window(1_000_000)
    for number in range(10_000):
        window.book(number * 0.01, 1)
    assert len(window._shares) <= MINUTE / GRAIN + 2


def test_less_is_taken_back_and_more_is_booked_when_it_is_known() -> None:
    window = Window(100)
    booking = window.book(0.0, 60)
    window.change(30.0, booking, 20)
    assert (booking.amount, window.available(30.0)) == (20, 80)
    window.change(40.0, booking, 70)
    assert (booking.amount, window.available(40.0)) == (70, 30)
    # What it cost beyond the estimate is younger.
    assert window.available(MINUTE) == 50
    assert window.available(40.0 + MINUTE) == 100


def test_what_is_older_than_a_minute_is_not_taken_back() -> None:
    window = Window(100)
    old = window.book(0.0, 60)
    window.book(MINUTE, 100)
    window.change(MINUTE + 1, old, 0)
    assert window.available(MINUTE + 1) == 0


def test_moved_it_is_as_young_as_the_move() -> None:
    window = Window(10)
    booking = window.book(0.0, 4)
    window.move(50.0, booking)
    assert window.available(MINUTE) == 6
    assert window.available(50.0 + MINUTE) == 10


def test_a_servers_number_counts_until_its_reset_and_only_where_it_is_lower() -> None:
    window = Window(10)
    window.lower(0.0, 50, 1000.0)
    assert window.available(0.0) == 10
    window.lower(0.0, 2, 20.0)
    assert (window.available(0.0), window.available(20.0)) == (2, 10)
    window.book(1.0, 1)
    window.lower(2.0, 1, 500.0)  # no news
    assert (window.available(2.0), window.ready_at(2.0, 2)) == (1, 20.0)
    window.lower(3.0, 0, 1.0)
    assert window.ready_at(3.0, 1) == 20.0
    assert window.looked_at(3.0, 1) == (20.0, True)


def test_a_refund_does_not_give_back_what_a_server_has_counted() -> None:
    window = Window(100)
    booking = window.book(0.0, 50)
    window.lower(1.0, 10, 30.0)
    window.change(2.0, booking, 5)
    assert window.available(2.0) == 10
    later = window.book(3.0, 8)
    window.change(4.0, later, 3)
    assert window.available(4.0) == 7


class Step(NamedTuple):
    wait: float
    what: str
    amount: int
    which: int


steps = st.lists(
    st.builds(
        Step,
        st.sampled_from([0.0, 0.1, 0.3, 1.0, 7.0, 29.9, 60.0, 61.0]),
        st.sampled_from(["book", "book", "book", "settle", "move", "lower"]),
        st.integers(0, 40),
        st.integers(0, 30),
    ),
    max_size=60,
)


@given(limit=st.integers(1, 30), steps=steps)
def test_no_minute_gets_more_than_its_limit(limit: int, steps: list[Step]) -> None:
    """As long as nothing costs more than was booked for it; an excess counts as the limit."""
    window = Window(limit)
    now = 1000.0
    sent: dict[Booking, float] = {}
    for step in steps:
        now += step.wait
        before = window.available(now)
        assert 0 <= before <= limit
        if step.what == "book" and window.ready_at(now, step.amount) <= now:
            sent[window.book(now, step.amount)] = now
        elif step.what == "lower":
            window.lower(now, step.amount, 10.0 * (1 + step.which))
            assert window.available(now) == min(before, step.amount)
        elif sent:
            booking = list(sent)[step.which % len(sent)]
            amount = booking.amount
            if step.what == "settle":
                cost = min(step.amount, amount)
                window.change(now, booking, cost)
                # Never more than what is taken back.
                assert before <= window.available(now) <= before + amount - cost
            elif now - sent[booking] <= 60:
                window.move(now, booking)
                sent[booking] = now
                assert window.available(now) <= before
        for since in sent.values():
            within = [each.amount for each, at in sent.items() if since <= at <= since + 60]
            assert sum(within) <= limit


@given(limit=st.integers(1, 30), steps=steps)
def test_what_is_said_to_be_ready_fits_then_and_not_before(limit: int, steps: list[Step]) -> None:
    window = Window(limit)
    now = 0.0
    for step in steps:
        now += step.wait
        if step.what == "lower":
            window.lower(now, step.amount, step.which)
        else:
            ready = window.ready_at(now, step.amount)
            assert window.looked_at(now, step.amount)[0] == pytest.approx(ready)
            if ready > now:
                assert window.available(ready - 1e-3) < min(step.amount, limit)
            assert window.available(ready) >= min(step.amount, limit)
            # Whatever comes first, it does not wait for longer than a minute, or a reset.
            assert ready - now <= max(MINUTE + GRAIN, 30.0)
            window.book(max(now, ready), step.amount)
            now = max(now, ready)
