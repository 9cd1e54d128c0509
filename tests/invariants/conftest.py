"""Collects the evidence behind the promises while their tests run; see evidence.py."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.testing.memory import MemoryNetwork
from penstock.testing.server import Server

from . import evidence

FOLDER = os.environ.get("PENSTOCK_EVIDENCE", "")
LOOPS = ("asyncio", "uvloop", "trio")

_transports: set[str] = set()


@pytest.fixture(autouse=True)
def _evidence(request: pytest.FixtureRequest) -> Iterator[None]:
    evidence.begin(request.module.__name__)
    yield
    evidence.begin("")


@pytest.fixture(scope="module")
def quick_collections() -> Iterator[None]:
    """A full collection looks only at what has been made since: 1 ms in place of 100."""
    gc.freeze()
    yield
    gc.unfreeze()


if FOLDER:

    @pytest.fixture(autouse=True)
    def _note_transports(monkeypatch: pytest.MonkeyPatch) -> None:
        """Note which networks a test makes, of the two that there are."""
        _transports.clear()
        network, server = MemoryNetwork.__init__, Server.__init__

        def note_memory(self: Any, *args: Any, **options: Any) -> None:
            _transports.add("memory")
            network(self, *args, **options)

        def note_sockets(self: Any, *args: Any, **options: Any) -> None:
            server(self, *args, **options)
            _transports.add("TLS" if self.base_url.startswith("https") else "TCP")

        monkeypatch.setattr(MemoryNetwork, "__init__", note_memory)
        monkeypatch.setattr(Server, "__init__", note_sockets)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        item: pytest.Item,
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.when == "call" and report.passed:
            words = item.nodeid.partition("[")[2].replace("]", "").split("-")
            loop = next((loop for loop in LOOPS if loop in words), "none")
            evidence.passed(item.nodeid, loop, _transports)
        return report

    def pytest_sessionfinish() -> None:
        evidence.write(Path(FOLDER))
