from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.mutation.record import KILLED, merged, read, summed
from tests.mutation.run import Mutant
from tests.mutation.targets import ROOT, selection, source_of

MODULE = "penstock._wire.sse"
EMPTY: dict[str, Any] = {"packages": {}, "modules": {}, "survivors": []}


def mutant(new: str, status: str) -> Mutant:
    return Mutant("f", "x = 1", new, status)


def with_verdict(record: dict[str, Any], verdict: str) -> dict[str, Any]:
    survivors = [entry | {"verdict": verdict} for entry in record["survivors"]]
    return summed(record | {"survivors": survivors})


# --- the record as it stands ---


def test_each_survivor_has_been_looked_at() -> None:
    for entry in read()["survivors"]:
        verdict = entry["verdict"]
        assert verdict == KILLED or verdict.removeprefix("equivalent: ") not in ("", verdict), entry


def test_the_figures_are_those_of_the_entries() -> None:
    record = read()
    assert summed(record) == record
    survived = Counter(
        entry["module"] for entry in record["survivors"] if entry["verdict"] != KILLED
    )
    for module, figures in record["modules"].items():
        assert figures["run"] == figures["killed"] + figures["survived"] + figures["timeout"]
        assert (figures["part"] == "all") == (figures["run"] == figures["mutants"])
        # The same change at two places of a function is one entry.
        assert survived[module] <= figures["survived"]
        assert (survived[module] == 0) == (figures["survived"] == 0)


def test_modules_and_tests_exist() -> None:
    for module, figures in read()["modules"].items():
        assert (ROOT / source_of(module)).is_file()
        assert figures["tests"] == selection(module) != []


# --- runs added to it ---


def test_a_survivor_waits_for_its_verdict() -> None:
    record = merged(EMPTY, MODULE, [mutant("x = 2", "survived"), mutant("x = 3", "killed")])
    assert record["survivors"] == [
        {"module": MODULE, "function": "f", "old": "x = 1", "new": "x = 2", "verdict": ""}
    ]
    figures = record["packages"]["penstock._wire"]
    assert figures == {
        "mutants": 2, "run": 2, "killed": 1, "survived": 1, "timeout": 0, "looked_at": 0,
    }  # fmt: skip
    assert record["modules"][MODULE]["part"] == "all"


@pytest.mark.parametrize("status", ["killed", "timeout"])
def test_one_that_tests_kill_by_now_was_killed_by_a_new_test(status: str) -> None:
    record = merged(EMPTY, MODULE, [mutant("x = 2", "survived")])
    record = merged(record, MODULE, [mutant("x = 2", status)])
    assert [entry["verdict"] for entry in record["survivors"]] == [KILLED]
    assert record["modules"][MODULE]["looked_at"] == 1
    again = merged(record, MODULE, [mutant("x = 2", "survived")])
    assert [entry["verdict"] for entry in again["survivors"]] == [""]


def test_a_verdict_is_kept_as_long_as_the_code_is_there() -> None:
    record = merged(EMPTY, MODULE, [mutant("x = 2", "survived")])
    record = with_verdict(record, "equivalent: no matter")
    survived = [mutant("x = 2", "survived")]
    assert merged(record, MODULE, survived)["survivors"] == record["survivors"]
    sample = merged(record, MODULE, [mutant("x = 2", "not run"), mutant("x = 3", "killed")])
    assert sample["survivors"] == record["survivors"]
    assert sample["modules"][MODULE]["part"] == "sample"
    assert merged(record, MODULE, [mutant("x = 3", "killed")])["survivors"] == []


def test_other_modules_stay() -> None:
    record = merged(EMPTY, MODULE, [mutant("x = 2", "survived")])
    both = merged(record, "penstock._policy.retry", [mutant("y = 2", "killed")])
    assert both["survivors"] == record["survivors"]
    assert list(both["modules"]) == ["penstock._policy.retry", MODULE]
