"""No proxies, short waits, and after each test none of the library's threads is left."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from penstock.testing.server import becomes_true


def own_threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("penstock")]


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setattr("penstock._policy.retry.BACKOFF_FIRST", 0.002)
    yield
    assert becomes_true(lambda: not own_threads(), seconds=5), own_threads()
