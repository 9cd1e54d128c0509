"""Every test that asks for a `generation` of httpx runs under both."""

from __future__ import annotations

import pytest

from tests.support.compat import GENERATIONS, Generation


@pytest.fixture(params=GENERATIONS, ids=lambda generation: generation.httpx.__name__)
def generation(request: pytest.FixtureRequest) -> Generation:
    chosen: Generation = request.param
    return chosen
