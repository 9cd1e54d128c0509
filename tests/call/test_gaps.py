"""The times between tokens: exact where the histogram is, and within 3 % where it is not."""

from __future__ import annotations

import math
import sys
import threading
from array import array
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._call.gaps import FOLD, GapHistogram
from penstock._call.timings import Timings

GAPS = st.lists(st.floats(1e-5, 1e4), max_size=3 * FOLD)


def arrivals(gaps: list[float], start: float = 0.0) -> list[float]:
    times = [start]
    for gap in gaps:
        times.append(times[-1] + gap)
    return times


@given(gaps=GAPS, cuts=st.lists(st.integers(1, FOLD), max_size=20))
def test_the_figures_are_those_of_the_sorted_list(gaps: list[float], cuts: list[int]) -> None:
    times = arrivals(gaps)
    histogram, waiting = GapHistogram(), array("d", times[:1])
    rest = times[1:]
    for cut in cuts:
        waiting.extend(rest[:cut])
        rest = rest[cut:]
        histogram.fold(waiting)
        del waiting[:-1]
    waiting.extend(rest)
    histogram.fold(waiting)
    figures = histogram.gaps()
    told = sorted(after - before for before, after in pairwise(times))
    assert figures.count == len(told)
    if not told:
        assert (figures.mean, figures.p50, figures.p99, figures.max) == (None,) * 4
        return
    assert figures.mean == pytest.approx(math.fsum(told) / len(told))
    assert figures.max == told[-1]
    for part, figure in ((0.5, figures.p50), (0.99, figures.p99)):
        assert figure == pytest.approx(told[math.ceil(part * len(told)) - 1], rel=0.03)


def test_tokens_that_came_at_one_time_have_no_gap() -> None:
    histogram = GapHistogram()
    histogram.fold(array("d", [5.0] * 10))
    figures = histogram.gaps()
    assert (figures.count, figures.mean, figures.max) == (9, 0.0, 0.0)
    assert (figures.p50, figures.p99) == (0.0, 0.0)


def test_the_parts_of_one_read_count_as_one() -> None:
    timings = Timings()
    # The first part of the first read may have had no token.
    assert timings.token_arrived(1.0, again=True)
    assert not timings.token_arrived(1.0, again=True)
    assert timings.gaps().count == 0
    # Another read at the same time, and its second part.
    assert not timings.token_arrived(1.0)
    assert not timings.token_arrived(1.0, again=True)
    assert timings.gaps().count == 1
    assert not timings.token_arrived(3.0, again=True)
    figures = timings.gaps()
    assert (figures.count, figures.max) == (2, 2.0)


def test_a_long_stream_keeps_no_more_than_a_short_one() -> None:
    timings = Timings()
    sizes = set()
    for number in range(50 * FOLD):
        timings.token_arrived(number * 0.02)
        sizes.add(0 if timings._kept is None else len(timings._kept[1]))
    assert max(sizes) <= FOLD + 1
    assert timings.gaps().count == 50 * FOLD - 1
    assert timings._kept is not None
    histogram = timings._kept[0]
    assert histogram is not None
    assert len(histogram._buckets) <= 2


def test_another_thread_may_look_while_tokens_arrive() -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    timings, tokens = Timings(), 50 * FOLD
    counts: list[int] = []

    def look() -> None:
        while not counts or counts[-1] < tokens - 1:
            counts.append(timings.gaps().count)

    looking = threading.Thread(target=look)
    try:
        looking.start()
        for number in range(tokens):
            timings.token_arrived(number * 0.02)
            timings.gaps()
        looking.join()
    finally:
        sys.setswitchinterval(before)
    assert counts == sorted(counts)
    assert counts[-1] == tokens - 1


def test_streams_that_began_together_do_not_fold_together() -> None:
    streams = [Timings() for _ in range(50)]
    folds = [0] * (3 * FOLD)
    for number in range(len(folds)):
        for timings in streams:
            before = timings._kept
            timings.token_arrived(float(number))
            folds[number] += before is not None and timings._kept is not before
    assert sum(folds) >= 2 * len(streams)
    assert max(folds) < len(streams) / 2
