"""That several processes and threads are measured as the page says. No figures."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.bench import cores
from tests.bench.cores import Way, main, rows
from tests.bench.serving import ROOT

PAGE = ROOT / "docs/pages/topics/cores.md"


def test_processes_with_threads_are_measured_and_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "cores.md"
    shutil.copy(PAGE, page)
    monkeypatch.setattr(cores, "WAYS", (Way(2, 2),))
    main(["--rounds=1", "--streams=1", "--events=40", f"--publish={tmp_path}"])
    row = next(line for line in capsys.readouterr().out.splitlines() if "2 processes" in line)
    assert row.startswith("| 2 processes, 2 threads with an event loop each | ")
    assert row in page.read_text()


def test_a_speed_is_a_multiple_of_the_first() -> None:
    found = {Way(1, 1): [(100.0, 3.0), (300.0, 1.0), (200.0, 2.0)], Way(2, 1): [(300.0, 2.5)]}
    assert rows(found)[1:] == [
        ["1 process", "200", "1.00", "2.00 µs"],
        ["2 processes", "300", "1.50", "2.50 µs"],
    ]
