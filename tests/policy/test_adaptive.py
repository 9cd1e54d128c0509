from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._policy.adaptive import AdaptiveLimit


def test_it_begins_at_the_maximum() -> None:
    assert AdaptiveLimit(1, 64).limit == 64


@pytest.mark.parametrize(("in_flight", "half"), [(20, 10), (21, 10), (3, 1), (1, 1), (1000, 32)])
def test_a_refusal_halves_what_was_in_flight_or_the_limit(in_flight: int, half: int) -> None:
    limit = AdaptiveLimit(1, 64)
    assert limit.refused(limit.epoch, in_flight)
    assert limit.limit == half


def test_one_cut_for_all_that_were_sent_before_it() -> None:
    limit = AdaptiveLimit(1, 64)
    epoch = limit.epoch
    assert limit.refused(epoch, 64)
    assert not any(limit.refused(epoch, 64) for _ in range(63))
    assert limit.limit == 32
    assert limit.cuts == 1


def test_never_below_the_minimum() -> None:
    limit = AdaptiveLimit(5, 8)
    for _ in range(10):
        limit.refused(limit.epoch, 1)
    assert limit.limit == 5


def test_as_many_answers_as_the_limit_raise_it_by_one() -> None:
    limit = AdaptiveLimit(1, 64)
    limit.refused(limit.epoch, 20)
    for expected in (10, 11, 12):
        assert limit.limit == expected
        for _ in range(expected):
            assert limit.limit == expected
            limit.succeeded(limit.epoch, binding=True)
    assert limit.limit == 13


def test_answers_say_nothing_where_the_limit_held_nobody_back() -> None:
    limit = AdaptiveLimit(1, 64)
    limit.refused(limit.epoch, 2)
    for _ in range(100):
        limit.succeeded(limit.epoch, binding=False)
    assert limit.limit == 1


def test_answers_to_what_was_sent_before_the_cut_do_not_count() -> None:
    limit = AdaptiveLimit(1, 64)
    epoch = limit.epoch
    limit.refused(epoch, 2)
    for _ in range(100):
        limit.succeeded(epoch, binding=True)
    assert limit.limit == 1


def test_a_cut_forgets_the_answers_before_it() -> None:
    limit = AdaptiveLimit(1, 64)
    limit.refused(limit.epoch, 8)
    for _ in range(3):
        limit.succeeded(limit.epoch, binding=True)
    limit.refused(limit.epoch, 4)
    limit.succeeded(limit.epoch, binding=True)
    assert limit.limit == 2
    limit.succeeded(limit.epoch, binding=True)
    assert limit.limit == 3


bounds = st.tuples(st.integers(1, 50), st.integers(0, 50)).map(lambda b: (b[0], b[0] + b[1]))
events = st.lists(
    st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 200), st.booleans()), max_size=200
)


@given(bounds, events)
def test_any_history_stays_in_bounds_and_moves_by_the_rules(
    bounds: tuple[int, int], events: list[tuple[bool, int, int, bool]]
) -> None:
    minimum, maximum = bounds
    limit = AdaptiveLimit(minimum, maximum)
    for refusal, age, in_flight, binding in events:
        before, epoch = limit.limit, limit.epoch
        if refusal:
            cut = limit.refused(epoch - age, in_flight)
            assert cut == (age == 0)
            assert limit.epoch == epoch + cut
            assert limit.limit <= before
            assert cut or limit.limit == before
        else:
            limit.succeeded(epoch - age, binding=binding)
            assert before <= limit.limit <= before + (age == 0 and binding)
            assert limit.epoch == epoch
        assert minimum <= limit.limit <= maximum


@given(bounds)
def test_answers_bring_it_back_to_the_maximum_and_no_further(bounds: tuple[int, int]) -> None:
    minimum, maximum = bounds
    limit = AdaptiveLimit(minimum, maximum)
    limit.refused(limit.epoch, 0)
    assert limit.limit == minimum
    for _ in range(sum(range(minimum, maximum + 1))):
        limit.succeeded(limit.epoch, binding=True)
    assert limit.limit == maximum
