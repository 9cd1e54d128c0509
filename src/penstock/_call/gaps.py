"""The times between tokens, in a histogram whose size does not depend on their number."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from itertools import pairwise

from ..observing.figures import Gaps

__all__ = ["FOLD", "GapHistogram"]

FOLD = 64
"""So many arrivals are kept before they are folded: one loop costs less than 64 calls."""

# 12 buckets an octave: each is 6 % wide, so its middle is at most 3 % off.
_BUCKETS = 12
# Clocks tell no less: shorter gaps count as one microsecond in the histogram.
_SHORTEST = 1e-6


class GapHistogram:
    """Counts of gaps by their logarithm; the sum and the maximum are exact."""

    __slots__ = ("_buckets", "_count", "_longest", "_sum")

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self._count = 0
        self._sum = 0.0
        self._longest = 0.0

    def copy(self) -> GapHistogram:
        """Return one that may change while this one does not."""
        other = GapHistogram()
        other._buckets = self._buckets.copy()
        other._count, other._sum, other._longest = self._count, self._sum, self._longest
        return other

    def fold(self, arrivals: array[float]) -> None:
        """Count the gaps between these points in time."""
        # Lists at once: one loop for all of it takes three times as long (3 % of a live token).
        gaps = [later - earlier for earlier, later in pairwise(arrivals[:])]
        if not gaps:
            return
        floor, log2 = math.floor, math.log2
        self._buckets.update(
            [floor(log2(gap if gap > _SHORTEST else _SHORTEST) * _BUCKETS) for gap in gaps]
        )
        self._longest = max(self._longest, max(gaps))
        self._sum += sum(gaps)
        self._count += len(gaps)

    def gaps(self) -> Gaps:
        """Return the figures so far."""
        if not self._count:
            return Gaps(0, None, None, None, None)
        return Gaps(
            count=self._count,
            mean=self._sum / self._count,
            p50=self._percentile(0.50),
            p99=self._percentile(0.99),
            max=self._longest,
        )

    def _percentile(self, part: float) -> float:
        """Return the smallest gap that `part` of all gaps do not exceed."""
        rank = math.ceil(part * self._count)
        for bucket in sorted(self._buckets):
            rank -= self._buckets[bucket]
            if rank <= 0:
                middle: float = 2 ** ((bucket + 0.5) / _BUCKETS)
                return min(middle, self._longest)
        raise AssertionError("the buckets have fewer gaps than were counted")
