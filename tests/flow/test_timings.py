from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from penstock._flow.timings import StreamStatistics, Timings


def statistics(
    timings: Timings, *, started: float = 0.0, headers_at: float = math.nan
) -> StreamStatistics:
    return timings.statistics(attempts=1, events=2, bytes=3, started=started, headers_at=headers_at)


def test_nothing_is_known_before_it_happens() -> None:
    now = statistics(Timings())
    assert (now.headers, now.first_byte, now.first_token, now.total) == (None,) * 4
    assert (now.attempts, now.events, now.bytes, now.waited_for_consumer) == (1, 2, 3, 0)


@given(
    started=st.floats(0, 1e6),
    steps=st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=1),
)
def test_the_consumers_time_is_what_passes_between_the_reads(
    started: float, steps: list[tuple[float, float]]
) -> None:
    timings = Timings()
    timings.handed_at = now = started
    away = 0.0
    for body, network in steps:
        now += body
        away += body
        timings.read_begins(now)
        # A read that is broken off and begun again at once costs the consumer nothing.
        timings.read_begins(now)
        now += network
        timings.handed_at = timings.last_read = now
    result = statistics(timings, started=started, headers_at=started)
    assert math.isclose(result.waited_for_consumer, away, rel_tol=1e-6, abs_tol=1e-6)
    assert result.headers == 0
    assert result.total is not None
    assert math.isclose(result.total, now - started, rel_tol=1e-6, abs_tol=1e-6)
