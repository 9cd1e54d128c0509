"""What has been fuzzed so far, in record.json: totals by target, and what was found."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from .target import kept_inputs

RECORD = Path(__file__).parent / "record.json"
_STATUS = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)/")
_EXECUTED = re.compile(r"stat::number_of_executed_units: (\d+)")


def figures(log: str) -> dict[str, int]:
    """What libFuzzer's output tells of one run; a run that ended early may tell less."""
    found: dict[str, int] = {}
    if executed := _EXECUTED.search(log):
        found["executions"] = int(executed[1])
    if statuses := _STATUS.findall(log):
        found |= zip(("edges", "features", "inputs"), map(int, statuses[-1]), strict=True)
    return found


def add(name: str, seconds: float, run: dict[str, int]) -> None:
    """Add one run's seconds and executions; of coverage, the last run's counts."""
    record = read()
    entry = record["targets"].setdefault(name, {"seconds": 0, "executions": 0})
    entry["seconds"] += round(seconds)
    entry["executions"] += run.get("executions", 0)
    entry |= {key: run[key] for key in ("edges", "features", "inputs") if key in run}
    write(record)


def add_kept(name: str) -> None:
    """Note how large the kept corpus is."""
    record = read()
    kept = kept_inputs(name)
    size = sum(path.stat().st_size for path in kept)
    record["targets"].setdefault(name, {}).update(kept_inputs=len(kept), kept_bytes=size)
    write(record)


def read() -> dict[str, Any]:
    if not RECORD.exists():
        return {"targets": {}, "findings": []}
    record: dict[str, Any] = json.loads(RECORD.read_bytes())
    return record


def write(record: dict[str, Any]) -> None:
    RECORD.write_text(json.dumps(record, indent=2) + "\n")
