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


def test_the_record_tells_of_targets_that_exist() -> None:
    record = read()
    assert RECORD.exists()
    assert set() < set(record["targets"]) <= set(NAMES)
    assert all(isinstance(finding, str) for finding in record["findings"])
