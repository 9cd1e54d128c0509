"""What is known about the mutants: record.json, added to by each run.

packages    sums: mutants, run, killed, survived, timeout, looked_at (survivors with a verdict)
modules     the same for each module, with the tests used and what part of the mutants ran
survivors   each mutant that survived once, by what it changes, with the verdict on it:
            "equivalent: reason", or "killed by new test"; none yet is ""
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from .run import Mutant
from .targets import selection

__all__ = ["KILLED", "RECORD", "merged", "read", "summed", "write"]

RECORD = Path(__file__).with_name("record.json")
KILLED = "killed by new test"
_COUNTS = ("mutants", "run", "killed", "survived", "timeout", "looked_at")


def read(path: Path = RECORD) -> dict[str, Any]:
    """The record as it stands; an empty one if there is none."""
    if not path.is_file():
        return {"packages": {}, "modules": {}, "survivors": []}
    record: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return record


def write(record: dict[str, Any], path: Path = RECORD) -> None:
    """Put it into the file."""
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")


def merged(record: dict[str, Any], module: str, mutants: list[Mutant]) -> dict[str, Any]:
    """The record with this run of a module in it.

    A survivor of before keeps its verdict. One that the tests kill by now is one that a new
    test killed; one whose code is gone is dropped.
    """
    statuses: dict[tuple[str, str, str], str] = {}
    for mutant in mutants:
        key = (mutant.function, mutant.old, mutant.new)
        if statuses.get(key) != "survived":  # the same change twice in a function is one entry
            statuses[key] = mutant.status
    survivors: list[dict[str, str]] = []
    for known in record["survivors"]:
        key = (known["function"], known["old"], known["new"])
        if known["module"] != module or statuses.get(key) == "not run":
            survivors.append(known)
        elif key in statuses:
            verdict = known["verdict"]
            if statuses.pop(key) in ("killed", "timeout"):
                verdict = KILLED
            elif verdict == KILLED:
                verdict = ""
            survivors.append(known | {"verdict": verdict})
    survivors += [
        {"module": module, "function": function, "old": old, "new": new, "verdict": ""}
        for (function, old, new), status in statuses.items()
        if status in ("survived", "no tests")
    ]
    counts = Counter(mutant.status for mutant in mutants)
    figures = {
        "part": "sample" if counts["not run"] else "all",
        "tests": selection(module),
        "mutants": len(mutants),
        "run": len(mutants) - counts["not run"],
        "killed": counts["killed"],
        "survived": counts["survived"] + counts["no tests"],
        "timeout": counts["timeout"],
    }
    return summed(
        {
            "packages": {},
            "modules": record["modules"] | {module: figures},
            "survivors": sorted(survivors, key=lambda survivor: survivor["module"]),
        }
    )


def summed(record: dict[str, Any]) -> dict[str, Any]:
    """The record with its sums made anew."""
    looked_at = Counter(entry["module"] for entry in record["survivors"] if entry["verdict"])
    packages: dict[str, dict[str, int]] = {}
    for module, figures in sorted(record["modules"].items()):
        figures["looked_at"] = looked_at[module]
        package = packages.setdefault(module.rpartition(".")[0], dict.fromkeys(_COUNTS, 0))
        for count in _COUNTS:
            package[count] += figures[count]
    modules = dict(sorted(record["modules"].items()))
    return {"packages": packages, "modules": modules, "survivors": record["survivors"]}
