from __future__ import annotations

import math
import pickle
from typing import Any

import msgspec
import pytest

from penstock.timeouts import Timeouts

NAMES = ["connect", "slot", "read", "first_token", "idle", "total", "trailing", "close"]


def test_the_defaults() -> None:
    assert msgspec.structs.asdict(Timeouts()) == {
        "connect": 10.0,
        "slot": None,
        "read": 600.0,
        "first_token": None,
        "idle": None,
        "total": None,
        "trailing": 1.0,
        "close": 1.0,
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [None, 0, 0.0, 5, 1.5, math.inf])
def test_seconds(name: str, value: float | None) -> None:
    assert getattr(Timeouts(**{name: value}), name) == value


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [-1, -0.001, math.nan, -math.inf])
def test_what_is_no_time(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"Timeouts\.{name} is .*negative"):
        Timeouts(**{name: value})
    with pytest.raises(ValueError, match=name):
        msgspec.structs.replace(Timeouts(), **{name: value})


@pytest.mark.parametrize("value", ["5", True, False, (1, 2), object()])
def test_what_is_no_number(value: Any) -> None:
    with pytest.raises(TypeError, match=r"Timeouts\.read is .*seconds"):
        Timeouts(read=value)


def test_it_is_a_frozen_value() -> None:
    timeouts = Timeouts(total=3)
    with pytest.raises(AttributeError):
        timeouts.total = 5  # type: ignore[misc]
    assert timeouts == Timeouts(total=3)
    assert hash(timeouts) == hash(Timeouts(total=3))
    assert pickle.loads(pickle.dumps(timeouts)) == timeouts
