"""Every input that fuzzing found worth keeping still holds; without atheris."""

from __future__ import annotations

import pytest

from .record import RECORD, read
from .target import NAMES, kept_inputs, load


@pytest.mark.parametrize("name", NAMES)
def test_what_was_found_once_stays_mended(name: str) -> None:
    target = load(name)
    inputs = [b"", *target.seeds, *(path.read_bytes() for path in kept_inputs(name))]
    for data in inputs:
        assert len(data) <= target.max_length
        try:
            target.check(data)
        except Exception as error:
            error.add_note(f"the input: {data!r}")
            raise


def test_the_record_tells_of_every_target() -> None:
    record = read()
    assert RECORD.exists()
    assert set(record["targets"]) == set(NAMES)
    for name, entry in record["targets"].items():
        assert entry["seconds"] > 0
        assert entry["executions"] > 0
        kept = kept_inputs(name)
        assert (entry["kept_inputs"], entry["kept_bytes"]) == (
            len(kept),
            sum(path.stat().st_size for path in kept),
        )
    # "At least an hour in all", and what came of it.
    assert sum(entry["seconds"] for entry in record["targets"].values()) >= 3600
    assert record["findings"]
    assert all(finding.split()[0].strip(":") in NAMES for finding in record["findings"])
