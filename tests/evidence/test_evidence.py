"""The page on evidence: what is counted comes into the record, and from there into the page."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.evidence import findings, page, record
from tests.evidence.promises import PROMISES, label, modules_of
from tests.invariants import evidence
from tests.support.page_blocks import renew, table

TESTS = Path(__file__).parents[1]
Counts: TypeAlias = dict[str, Counter[str]]


@pytest.fixture
def nothing_counted(monkeypatch: pytest.MonkeyPatch) -> Counts:
    """An empty account, in the place of this run's own."""
    counts: Counts = {}
    monkeypatch.setattr(evidence, "_counts", counts)
    monkeypatch.setattr(evidence, "_of_this_test", Counter[str]())
    monkeypatch.setattr(evidence, "_promise", None)
    return counts


def test_what_passed_counts_once(nothing_counted: Counts, tmp_path: Path) -> None:
    for seeds in (5, 3):  # it is run again, as what has failed beside it is
        evidence.begin("tests.invariants.test_p07_churn")
        evidence.count("seeds", seeds)
        evidence.passed("tests/invariants/test_p07_churn.py::test_x", "trio", {"TLS", "TCP"})
    evidence.begin("tests.invariants.test_p07_churn")
    evidence.count("seeds", 100)  # and then it fails
    evidence.begin("tests.invariants.test_p12_x")
    evidence.passed("tests/invariants/test_p12_x.py::test_y", "none", set())
    evidence.begin("tests.invariants.test_virtual_uvloop")
    evidence.count("cases")  # of no promise
    expected = {
        "7/seeds": 3,
        "7/tests": 1,
        "7/on/trio/TCP": 1,
        "7/on/trio/TLS": 1,
        "12/tests": 1,
        "12/on/none/none": 1,
    }
    assert len(nothing_counted) == 2
    evidence.write(tmp_path)
    (written,) = tmp_path.glob("*.json")
    # As of another process, which was given the same tests.
    (tmp_path / "another.json").write_bytes(written.read_bytes())
    assert record.summed(tmp_path.glob("*.json")) == expected


def test_a_run_renews_its_promises_and_keeps_the_others(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    record.take({"1/tests": 5, "2/tests": 7, "2/on/trio/TLS": 7}, "httpcore", "full", path)
    record.take({"1/tests": 2}, "httpcore2", "small", path)
    record.take({"1/tests": 6, "1/cancel points": 40}, "httpcore", "small", path)
    runs = record.read(path).runs
    first = runs["httpcore"].promises
    assert (first[1].tests, first[1].did, first[1].size) == (6, {"cancel points": 40}, "small")
    assert (first[2].tests, first[2].on, first[2].size) == (7, {"trio/TLS": 7}, "full")
    assert runs["httpcore2"].promises[1].tests == 2


def test_the_page_is_of_the_records(tmp_path: Path) -> None:
    # In the repository it is as the records are, written once more it is the same.
    kept = page.PAGE.read_text(encoding="utf-8")
    copy = tmp_path / "evidence.md"
    copy.write_text(
        re.sub(r"(<!-- evidence: (?!end).*? -->\n).*?(<!--)", r"\1\2", kept, flags=re.S)
    )
    page.publish(copy)
    written = copy.read_text(encoding="utf-8")
    page.publish(copy)
    assert copy.read_text(encoding="utf-8") == written
    assert re.findall("<!--.*?-->", written) == re.findall("<!--.*?-->", kept)
    for number, title in PROMISES.items():
        assert f"| {label(number)} | {title} |" in written


def test_only_the_named_blocks_are_renewed(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(
        "a\n<!-- x: one -->\nold\n<!-- x: end -->\nb\n<!-- x: two -->\n<!-- x: end -->\n"
    )
    renew(path, "x", [("one", table([["h", "i"], ["1", "2"]]))])
    block = "| h | i |\n| --- | --- |\n| 1 | 2 |"
    assert path.read_text() == (
        f"a\n<!-- x: one -->\n\n{block}\n\n<!-- x: end -->\nb\n<!-- x: two -->\n<!-- x: end -->\n"
    )
    with pytest.raises(ValueError, match="no block three"):
        renew(path, "x", [("three", "")])


@pytest.mark.parametrize("number", PROMISES)
def test_every_promise_has_tests(number: int) -> None:
    assert modules_of(number)
    for path in modules_of(number):
        assert evidence.promise_of(f"tests.invariants.{path.stem}") == number


@pytest.mark.parametrize("finding", findings.read(), ids=lambda finding: finding.commit[:40])
def test_every_finding_has_its_test(finding: findings.Finding) -> None:
    tree = ast.parse((TESTS / finding.file).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    names = {node.name for node in ast.walk(tree) if isinstance(node, functions)}
    assert finding.test in names
    assert finding.was.endswith(".")
    assert "|" not in finding.was + finding.commit
