"""SIGKILL at random instants, in small: `killing` does it at any size."""

from __future__ import annotations

import pytest

from .killing import Draw, Found, play

DRAWS = [
    Draw(False, False, False, 1, "asyncio", 8, 0.05),
    Draw(True, True, False, 3, "asyncio", 8, 0.0),
    Draw(False, True, True, 1, "trio", 4, 0.02),
]


@pytest.mark.parametrize("draw", DRAWS, ids=["plain", "compressed ordered servers", "streamed"])
def test_a_job_that_is_killed_is_finished(draw: Draw) -> None:
    found = Found()
    play(draw, rows=120, kills=3, seed=5, found=found)
    assert (found.jobs, found.kills) == (1, 3)
