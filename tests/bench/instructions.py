"""Instructions of the client, which do not depend on the machine's mood: valgrind counts them.

    python -m tests.bench.instructions            compares with instructions.json
    python -m tests.bench.instructions --record   renews it

Fails if a row needs 5 % more than the record says. One process does all rows, after
a warm-up; callgrind dumps its counts each time the stopwatch reads the CPU's clock, so every
second dump is a measured part.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from .measure import Job, Result, Size
from .serving import ROOT, Server, serving
from .workloads import size_of

__all__ = ["ALLOWED", "BY_REQUEST", "RECORD", "ROWS", "compare", "count", "main"]

RECORD = Path(__file__).with_name("instructions.json")

ALLOWED = 1.05
"""Beyond this multiple of the record a row has become dearer."""

ROWS = {
    "paced": Job("paced", "penstock", Size(10, 60, 5, 10), patience=1200),
    "paced@trio": Job("paced", "penstock@trio", Size(10, 60, 5, 10), patience=1200),
    "merged": Job("paced-merged", "penstock", Size(10, 60, 5, 10), patience=1200),
    "merged@trio": Job("paced-merged", "penstock@trio", Size(10, 60, 5, 10), patience=1200),
    "drain": Job("drain", "penstock", Size(1, 2000, warm_up=2), patience=1200),
    "fan": Job("fan", "penstock", Size(60, 20, warm_up=5), patience=1200),
    "whole": Job("create", "penstock", Size(100, 20, warm_up=5), patience=1200),
}
"""Small, as valgrind makes everything fifty times as slow.

On a busy machine paced events come together, which makes them look cheaper, never dearer.
"""

BY_REQUEST = ("fan", "whole")
_TOTALS = re.compile(r"^(?:totals|summary): (\d+)", re.MULTILINE)
# The function of CPython that `Stopwatch` calls, whatever the compiler has appended to its name.
_CLOCK = "time_process_time*"

# Without the garbage collector, one run of which is more than the events of a row.
_WORKER = """
import gc, runpy
gc.disable()
runpy.run_module("tests.bench.worker", run_name="__main__", alter_sys=True)
"""


def count(rows: Mapping[str, Job]) -> dict[str, int]:
    """Return the instructions of each row, for an event or a request."""
    with serving() as server, tempfile.TemporaryDirectory() as folder:
        results = _run(rows, server, Path(folder))
        first = 2 * len(rows) + 2  # behind the warm-up's, and the start of the first row
        parts = [_instructions(Path(folder, f"out.{first + 2 * n}")) for n in range(len(rows))]
    counts: dict[str, int] = {}
    for name, result, instructions in zip(rows, results, parts, strict=True):
        number = result.requests if name in BY_REQUEST else result.events
        counts[name] = instructions // number
    return counts


def _run(rows: Mapping[str, Job], server: Server, folder: Path) -> list[Result]:
    # Each kind once before, so that no import, with a compilation perhaps, is in a row.
    warm_up = [
        Job(job.workload, job.client, size_of(job.workload, "tiny"), 1200) for job in rows.values()
    ]
    jobs = [server.place(job) for job in (*warm_up, *rows.values())]
    process = subprocess.run(
        [
            "valgrind",
            "--tool=callgrind",
            f"--dump-before={_CLOCK}",
            f"--callgrind-out-file={folder / 'out'}",
            sys.executable,
            "-c",
            _WORKER,
            msgspec.json.encode(jobs).decode(),
        ],
        cwd=ROOT,
        # The order of sets and dicts would change the counts from run to run.
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        raise RuntimeError(process.stderr)
    lines = process.stdout.splitlines()[len(rows) :]
    return [msgspec.json.decode(line, type=Result) for line in lines]


def _instructions(dump: Path) -> int:
    found = _TOTALS.search(dump.read_text())
    if found is None:
        raise RuntimeError(f"{dump.name} has no total")
    return int(found[1])


def compare(counts: Mapping[str, int], recorded: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """Return the lines of the table, and the rows that have become dearer."""
    lines, dearer = [f"{'':12}{'record':>12}{'now':>12}{'':>4}change"], []
    for name, now in counts.items():
        before = recorded.get(name)
        if before is None:
            lines.append(f"{name:12}{'-':>12}{now:>12,}")
            continue
        lines.append(f"{name:12}{before:>12,}{now:>12,}{'':>4}{now / before - 1:+.1%}")
        if now > before * ALLOWED:
            dearer.append(name)
    return lines, dearer


def _interpreter() -> str:
    """Return what the counts of a record are for."""
    return f"{platform.python_implementation()} {platform.python_version()} {platform.machine()}"


def main(arguments: list[str] | None = None) -> None:
    """Count, print, and compare or record."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.instructions", description=__doc__)
    parser.add_argument("--record", action="store_true", help="renew the record")
    parser.add_argument("--row", action="append", choices=ROWS, help="one or more of the rows")
    chosen = parser.parse_args(arguments)
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is not installed")
    rows = {name: ROWS[name] for name in chosen.row or ROWS}
    records = msgspec.json.decode(RECORD.read_bytes(), type=dict[str, dict[str, int]])
    recorded = records.setdefault(_interpreter(), {})
    counts = count(rows)
    lines, dearer = compare(counts, recorded)
    print("\n".join(lines))
    if chosen.record:
        recorded.update(counts)
        RECORD.write_bytes(msgspec.json.format(msgspec.json.encode(records), indent=1) + b"\n")
    elif not recorded:
        print(f"no record for {_interpreter()}: --record makes one")
    elif dearer:
        raise SystemExit(f"dearer than the record allows: {', '.join(dearer)}")


if __name__ == "__main__":
    main()
