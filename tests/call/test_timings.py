from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from penstock._call.timings import StreamStatistics, Timings


def statistics(
    timings: Timings, *, started: float = 0.0, headers_at: float = math.nan
) -> StreamStatistics:
    return timings.statistics(attempts=1, events=2, bytes=3, started=started, headers_at=headers_at)


def test_nothing_is_known_before_it_happens() -> None:
    now = statistics(Timings())
    assert (now.headers, now.first_byte, now.first_token, now.total) == (None,) * 4
    assert (now.attempts, now.events, now.bytes, now.waited_for_consumer) == (1, 2, 3, 0)
    assert statistics(Timings(), headers_at=5.0).waited_for_consumer == 0


@given(
    started=st.floats(0, 1e6),
    before=st.floats(0, 100),
    steps=st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=1),
)
def test_the_consumers_time_is_what_is_not_spent_waiting(
    started: float, before: float, steps: list[tuple[float, float]]
) -> None:
    timings = Timings()
    timings.waited_for_head = timings.waited = before
    now = started
    away = 0.0
    for body, network in steps:
        now += body
        away += body
        now += network
        timings.waited += network
        timings.last_read = now
    result = statistics(timings, started=started, headers_at=started)
    assert math.isclose(result.waited_for_consumer, away, rel_tol=1e-6, abs_tol=1e-6)
    assert result.headers == 0
    assert result.total is not None
    assert math.isclose(result.total, now - started, rel_tol=1e-6, abs_tol=1e-6)
