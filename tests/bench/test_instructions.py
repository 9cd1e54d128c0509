from __future__ import annotations

import msgspec

from tests.bench.instructions import ALLOWED, RECORD, ROWS, compare
from tests.bench.workloads import WORKLOADS


def test_what_became_dearer_is_named() -> None:
    recorded = {"paced": 1000, "fan": 1000, "whole": 1000}
    counts = {"paced": int(1000 * ALLOWED), "fan": int(1000 * ALLOWED) + 1, "whole": 500, "new": 1}
    lines, dearer = compare(counts, recorded)
    assert dearer == ["fan"]
    assert "-50.0%" in lines[3]
    assert len(lines) == 5


def test_the_record_has_every_row() -> None:
    records = msgspec.json.decode(RECORD.read_bytes(), type=dict[str, dict[str, int]])
    assert records
    for counts in records.values():
        assert counts.keys() == ROWS.keys()
        assert min(counts.values()) > 0
    assert {job.workload for job in ROWS.values()} <= WORKLOADS.keys()
