"""pytest fixtures. Nothing is imported for them before one is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .clock import Backend

_ASYNCIO: Backend = ("asyncio", {"use_uvloop": False})
_UVLOOP: Backend = ("asyncio", {"use_uvloop": True})
_TRIO: Backend = ("trio", {})
REAL_BACKENDS = [
    pytest.param(_ASYNCIO, id="asyncio"),
    pytest.param(_UVLOOP, id="uvloop"),
    pytest.param(_TRIO, id="trio"),
]
VIRTUAL_BACKENDS = [pytest.param(name, id=f"{name}-virtual") for name in ("asyncio", "trio")]


@pytest.fixture(scope="module", params=REAL_BACKENDS)
def real_backend(request: pytest.FixtureRequest) -> Backend:
    """The backends with real time."""
    backend: Backend = request.param
    return backend


@pytest.fixture(scope="module", params=VIRTUAL_BACKENDS)
def virtual_backend(request: pytest.FixtureRequest) -> Backend:
    """The backends with virtual time."""
    from .clock import virtual

    return virtual(request.param)
