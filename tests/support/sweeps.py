"""How much of a large sweep the suite tries; PENSTOCK_SWEEP=all tries everything."""

from __future__ import annotations

import os
import random
from collections import defaultdict
from collections.abc import Iterable
from typing import TypeVar

import pytest

from penstock.testing.plugin import REAL_BACKENDS
from penstock.testing.sweep import ALL_MODES, BackendName, Mode

__all__ = ["EVERYTHING", "in_turn", "sample", "some_modes", "unsampled"]

T = TypeVar("T", bound=tuple[object, ...])

EVERYTHING = os.environ.get("PENSTOCK_SWEEP") == "all"


def sample(combinations: Iterable[T], share: float, *, seed: object = 0) -> list[T]:
    """Return about this share of the combinations, in which every value occurs.

    The choice depends on nothing but the seed. With PENSTOCK_SWEEP=all it is all of them.
    """
    given = list(combinations)
    if EVERYTHING:
        return given
    shuffled = random.Random(repr(seed)).sample(range(len(given)), len(given))
    chosen: set[int] = set()
    seen: set[tuple[int, str]] = set()
    for number in shuffled:
        values = {(place, repr(value)) for place, value in enumerate(given[number])}
        if not values <= seen:
            seen |= values
            chosen.add(number)
    for number in shuffled:
        if len(chosen) >= share * len(given):
            break
        chosen.add(number)
    return [given[number] for number in sorted(chosen)]


def unsampled(items: Iterable[pytest.Item]) -> set[pytest.Item]:
    """Return what the mark `sampled(share)` leaves out; `sample` chooses what stays."""
    functions: defaultdict[str, dict[tuple[str, ...], pytest.Item]] = defaultdict(dict)
    shares: dict[str, float] = {}
    for item in items:
        mark = item.get_closest_marker("sampled")
        if mark is not None and isinstance(item, pytest.Function):
            function = item.nodeid.partition("[")[0]
            shares[function] = mark.args[0]
            values = tuple(repr(value) for value in item.callspec.params.values())
            functions[function][values] = item
    left_out: set[pytest.Item] = set()
    for function, tests in functions.items():
        chosen = sample(tests, shares[function], seed=function)
        left_out.update(tests[values] for values in tests.keys() - set(chosen))
    return left_out


def some_modes(backend: BackendName, number: int) -> list[Mode] | None:
    """Return one of the ways to cancel, by a number that differs from case to case.

    None is all of them: with PENSTOCK_SWEEP=all, and on trio, which has a single one.
    """
    if EVERYTHING or backend == "trio":
        return None
    return [ALL_MODES[number % len(ALL_MODES)]]


def in_turn(number: int, *, uvloop: bool = True) -> pytest.MarkDecorator:
    """Return a mark that runs a costly async test on one event loop, by its number in the module.

    So each loop has its tests. With PENSTOCK_SWEEP=all each test runs on each loop.
    """
    backends = [each for each in REAL_BACKENDS if uvloop or each.id != "uvloop"]
    if not EVERYTHING:
        backends = [backends[number % len(backends)]]
    return pytest.mark.parametrize("anyio_backend", backends)
