"""Does work grow linearly? A ratio of two measurements in one run, so the machine cancels out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def growth(work: Callable[[int], object], *, small: int, factor: int = 8) -> float:
    """How the time per unit changes from `small` to `factor` times as much.

    Linear work gives about 1, quadratic work about `factor`.
    """

    def seconds(size: int) -> float:
        times = []
        for _ in range(3):
            start = time.process_time()
            work(size)
            times.append(time.process_time() - start)
        return min(times)

    return seconds(small * factor) / seconds(small) / factor
