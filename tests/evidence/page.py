"""Writes the records into the page on evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tests.fuzz import record as fuzzed
from tests.mutation import record as mutated
from tests.soak.record import Record as SoakRecord
from tests.support.page_blocks import renew, table

from . import findings
from .promises import PROMISES, label
from .record import Behind, Record, read

__all__ = ["PAGE", "blocks", "publish"]

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "pages" / "topics" / "evidence.md"
SOAK_RECORD = ROOT / "tests" / "soak" / "record.json"
DID = ("cases", "offsets", "cancel points", "seeds", "examples")
LOOPS = ("asyncio", "uvloop", "trio")
TRANSPORTS = ("memory", "TCP", "TLS")


def publish(page: Path = PAGE) -> None:
    """Renew the page's blocks from the records as they are."""
    renew(page, "evidence", blocks())


def blocks() -> Iterator[tuple[str, str]]:
    """The blocks with their names; one without a record says so."""
    record = read()
    yield "environment", "\n".join(_environments(record)) or "No run yet."
    yield "promises", _promises(record)
    yield "where", _where(record)
    yield "fuzzing", _fuzzing(fuzzed.read())
    yield "soak", _soak(SOAK_RECORD)
    yield "mutation", _mutation(mutated.read())
    yield "findings", _findings(findings.read())


def _environments(record: Record) -> Iterator[str]:
    for core, run in record.runs.items():
        here, behind = run.environment, run.promises.values()
        small = [label(number) for number, each in run.promises.items() if each.size == "small"]
        size = "small" if len(small) == len(run.promises) else "full"
        but = f" ({', '.join(small)}: small)" if small and size == "full" else ""
        days = sorted({each.day for each in behind})
        told = ("penstock", "anyio", "h11", core, "msgspec", "trio", "uvloop")
        named = ", ".join(f"{name} {here.versions[name]}" for name in told if name in here.versions)
        when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        machine = f"{here.python}, {here.platform}"
        yield f"- With {core}, in {size} size{but}, {when}: {machine}, {named}."


def _promises(record: Record) -> str:
    lines = [["", "promise", *DID]]
    total: Counter[str] = Counter()
    for number, title in PROMISES.items():
        behind = _both(record, number)
        lines.append([label(number), title, *_figures(behind)])
        total.update(behind)
    lines.append(["", "**all**", *_figures(total)])
    return table(lines)


def _both(record: Record, number: int) -> Counter[str]:
    """What was done for a promise, with httpcore and with httpcore2."""
    both: Counter[str] = Counter()
    for run in record.runs.values():
        if behind := run.promises.get(number):
            both.update({**behind.did, "cases": behind.tests + behind.did.get("cases", 0)})
    return both


def _figures(counted: Mapping[str, int]) -> list[str]:
    return [_number(counted.get(what, 0)) for what in DID]


def _where(record: Record) -> str:
    cores = list(record.runs)
    lines = [["", *LOOPS, *TRANSPORTS, *(f"with {core}" for core in cores)]]
    for number in PROMISES:
        there = [behind for run in record.runs.values() if (behind := run.promises.get(number))]
        by_core = [run.promises.get(number) for run in record.runs.values()]
        lines.append(
            [
                label(number),
                *(_number(_on(there, loop, 0)) for loop in LOOPS),
                *(_number(_on(there, transport, 1)) for transport in TRANSPORTS),
                *(_number(behind.tests if behind else 0) for behind in by_core),
            ]
        )
    return table(lines)


def _on(there: list[Behind], name: str, place: int) -> int:
    pairs = (pair for behind in there for pair in behind.on.items())
    return sum(number for key, number in pairs if key.split("/")[place] == name)


def _fuzzing(record: Mapping[str, Any]) -> str:
    targets = record["targets"]
    if not targets:
        return "No run yet."
    lines = [["target", "hours", "inputs tried", "edges reached", "inputs kept"]]
    for name, run in sorted(targets.items()):
        edges = _number(run.get("edges", 0))
        kept = _number(run.get("inputs", 0))
        tried = _number(run.get("executions", 0))
        lines.append([f"`{name}`", _hours(run.get("seconds", 0)), tried, edges, kept])
    seconds = sum(run.get("seconds", 0) for run in targets.values())
    tried = sum(run.get("executions", 0) for run in targets.values())
    lines.append(["**all**", _hours(seconds), _number(tried), "", ""])
    return table(lines)


def _soak(path: Path) -> str:
    if not path.exists():
        return "No run yet."
    record = msgspec.json.decode(path.read_bytes(), type=SoakRecord)
    beside = ("loops", "threads", "generators", "signals", "forks")
    head = ["loop", "hours", "operations", "requests", *beside, "memory, first and last third"]
    lines = [[*head, "violations"]]
    for run in record.runs:
        memory = f"{run.memory.first / 1e6:.1f} MB, {run.memory.last / 1e6:.1f} MB"
        lines.append(
            [
                run.backend,
                _hours(run.seconds),
                _number(run.operations),
                _number(run.requests),
                *(_number(getattr(run, name)) for name in beside),
                memory,
                str(len(run.violations)),
            ]
        )
    requests = _number(record.requests)
    sums = [_number(sum(getattr(run, name) for run in record.runs)) for name in beside]
    last = ["**all**", _hours(record.seconds), "", requests, *sums, "", str(record.violations)]
    outcomes = ", ".join(f"{name} {_number(n)}" for name, n in record.outcomes.items())
    return f"{table([*lines, last])}\n\nHow the requests ended: {outcomes}."


def _mutation(record: Mapping[str, Any]) -> str:
    if not record["packages"]:
        return "No run yet."
    equivalent: Counter[str] = Counter()
    unseen: Counter[str] = Counter()
    for survivor in record["survivors"]:
        package = survivor["module"].rpartition(".")[0]
        equivalent[package] += survivor["verdict"].startswith("equivalent")
        unseen[package] += not survivor["verdict"]
    head = ["package", "mutants run", "noticed", "score", "survivors", "equivalent", "unseen yet"]
    lines = [head]
    for name, sums in record["packages"].items():
        noticed = sums["killed"] + sums["timeout"]
        lines.append(
            [
                f"`{name}`",
                f"{_number(sums['run'])} of {_number(sums['mutants'])}",
                _number(noticed),
                f"{noticed / max(1, sums['run']):.1%}",
                _number(sums["survived"]),
                _number(equivalent[name]),
                _number(unseen[name]),
            ]
        )
    return table(lines)


def _findings(found: list[findings.Finding]) -> str:
    lines = [["found by", "what was wrong", "fixed by", "regression test"]]
    for finding in found:
        test = f"`{finding.test}` in `{finding.file}`"
        lines.append([finding.by, finding.was, finding.commit, test])
    return table(lines)


def _number(n: int) -> str:
    return f"{n:,}".replace(",", "\N{NO-BREAK SPACE}") if n else "-"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f}"
