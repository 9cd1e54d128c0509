"""What stood behind each promise in the last run of its tests: record.json.

One entry for each of httpcore and httpcore2, and in it one for each promise. A run of some
promises renews theirs and keeps the others'.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from tests.bench.environment import Environment, environment

__all__ = ["RECORD", "Behind", "Record", "Run", "read", "summed", "take"]

RECORD = Path(__file__).with_name("record.json")


class Behind(msgspec.Struct):
    """What stood behind one promise."""

    size: str
    """Small, as with the suite, or full."""
    day: str = ""
    """When it was run, by UTC."""
    tests: int = 0
    """That passed; each set of a test's parameters counts."""
    on: dict[str, int] = msgspec.field(default_factory=dict)
    """The same by event loop and transport: "trio/TLS"."""
    did: dict[str, int] = msgspec.field(default_factory=dict)
    """Offsets, cancel points, seeds and examples: see tests/invariants/evidence.py."""


class Run(msgspec.Struct):
    """All that was run with one of httpcore and httpcore2."""

    environment: Environment
    promises: dict[int, Behind] = msgspec.field(default_factory=dict)


class Record(msgspec.Struct):
    runs: dict[str, Run] = msgspec.field(default_factory=dict)


def read(path: Path = RECORD) -> Record:
    """The record as it stands; an empty one if there is none."""
    if not path.exists():
        return Record()
    return msgspec.json.decode(path.read_bytes(), type=Record)


def take(counted: Mapping[str, int], core: str, size: str, path: Path = RECORD) -> Record:
    """Put what was counted into the file, in the place of what it said of these promises."""
    record, today = read(path), datetime.now(UTC).date().isoformat()
    run = record.runs.setdefault(core, Run(environment()))
    run.environment = environment()
    renewed: dict[int, Behind] = {}
    for key, number in sorted(counted.items()):
        promise, _, what = key.partition("/")
        behind = renewed.setdefault(int(promise), Behind(size, today))
        if what == "tests":
            behind.tests = number
        elif found := re.fullmatch("on/(.+)", what):
            behind.on[found[1]] = number
        else:
            behind.did[what] = number
    run.promises = dict(sorted((run.promises | renewed).items()))
    path.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
    return record


def summed(files: Iterable[Path]) -> Counter[str]:
    """The counts of all processes of a run, which each left a file; each test counts once."""
    tests: dict[str, dict[str, int]] = {}
    for file in files:
        tests |= msgspec.json.decode(file.read_bytes(), type=dict[str, dict[str, int]])
    counted: Counter[str] = Counter()
    for counts in tests.values():
        counted.update(counts)
    return counted
