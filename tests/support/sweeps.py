"""How much of a large sweep the suite tries; PENSTOCK_SWEEP=all tries everything."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import TypeVar

__all__ = ["EVERYTHING", "sample"]

T = TypeVar("T")

EVERYTHING = os.environ.get("PENSTOCK_SWEEP") == "all"


def sample(combinations: Sequence[tuple[T, ...]], share: float) -> list[tuple[T, ...]]:
    """Return about this share of the combinations, in which every value occurs.

    The choice is the same in every run. With PENSTOCK_SWEEP=all it is all of them.
    """
    if EVERYTHING:
        return list(combinations)
    rng = random.Random(len(combinations))
    shuffled = rng.sample(range(len(combinations)), len(combinations))
    wanted = round(share * len(combinations))
    chosen: set[int] = set()
    seen: set[tuple[int, str]] = set()
    for number in shuffled:
        values = {(place, repr(value)) for place, value in enumerate(combinations[number])}
        if not values <= seen:
            seen |= values
            chosen.add(number)
    for number in shuffled:
        if len(chosen) < wanted:
            chosen.add(number)
    return [combinations[number] for number in sorted(chosen)]
