"""Measure penstock and its peers: `python -m tests.bench`, or `nox --session bench`.

Each measurement has a process of its own, and all clients take turns. Prints all medians and
the ratios beside their budgets, how the costs grow, and how many live streams one core carries.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import msgspec

from . import capacity, drivers, growth
from .environment import environment
from .pictures import draw
from .profiling import profile
from .publish import publish
from .report import Report, tables
from .runner import CLIENTS, jobs, measure
from .workloads import IN_TABLE, WORKLOADS

PARTS = ("table", "growth", "capacity")
FULL_RUNS, QUICK_RUNS = 5, 3
ROUNDS = {"full": 3, "quick": 1, "tiny": 1}  # of the growth curves, whose points are many


def main(arguments: list[str] | None = None) -> None:
    chosen = _parser().parse_args(arguments)
    scale = "tiny" if chosen.tiny else "quick" if chosen.quick else "full"
    if chosen.profile:
        client = (chosen.client or CLIENTS)[0]
        profile(chosen.profile, client, scale, chosen.out)
        return
    if chosen.earlier is None:
        report, parts = Report(environment(), scale), chosen.only or PARTS
    else:
        report = msgspec.json.decode(chosen.earlier.read_bytes(), type=Report)
        parts = chosen.only or ()
    if not chosen.only and (chosen.workload or chosen.sweep):
        parts = [*["table"] * bool(chosen.workload), *["growth"] * bool(chosen.sweep)]
    missing = _measure(report, parts, chosen, scale)
    print(f"\n{tables(report)}")
    if chosen.out is not None:
        chosen.out.mkdir(parents=True, exist_ok=True)
        encoded = msgspec.json.format(msgspec.json.encode(report), indent=1)
        (chosen.out / "bench.json").write_bytes(encoded + b"\n")
        draw(report, chosen.out)
    if chosen.publish is not None:
        publish(report, chosen.publish)
    if missing:
        raise SystemExit(f"{missing} measurements could not be made")


def _measure(report: Report, parts: Sequence[str], chosen: argparse.Namespace, scale: str) -> int:
    """Fill those parts of the report; gives how many measurements are missing."""
    missing = 0
    if "table" in parts:
        work = jobs(chosen.workload or IN_TABLE, chosen.client or CLIENTS, scale)
        if not work:
            raise SystemExit("nothing to measure: see --help; peers have to be installed")
        runs = chosen.runs or (FULL_RUNS if scale == "full" else QUICK_RUNS)
        outcomes = measure(work, runs, _say)
        missing += len(work) - len(outcomes)
        report.take_outcomes(outcomes)
    if "growth" in parts:
        clients = chosen.client or growth.CLIENTS
        sweeps = chosen.sweep or list(growth.SWEEPS)
        curves = growth.measure_growth(sweeps, clients, scale, ROUNDS[scale], _say)
        there = [client for client in clients if drivers.available(client)]
        missing += len(sweeps) * len(there) - len(curves)
        report.take_curves(curves)
    if "capacity" in parts:
        clients = chosen.client or capacity.CLIENTS
        report.capacity = capacity.measure_capacity(clients, scale, _say)
    return missing


def _say(line: str) -> None:
    print(line, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--only",
        action="append",
        choices=PARTS,
        help="one or more parts: the table of ratios, how costs grow, live streams on one core",
    )
    parser.add_argument(
        "--workload", action="append", choices=IN_TABLE, help="one or more rows of the table"
    )
    parser.add_argument(
        "--sweep", action="append", choices=list(growth.SWEEPS), help="one or more of the growth"
    )
    parser.add_argument(
        "--client",
        action="append",
        metavar="NAME[@LOOP]",
        help=f"one or more; by default {', '.join(CLIENTS)}",
    )
    parser.add_argument("--runs", type=int, help=f"by default {FULL_RUNS}, quick {QUICK_RUNS}")
    parser.add_argument("--quick", action="store_true", help="smaller and fewer")
    parser.add_argument("--tiny", action="store_true", help="whether it works, not how fast")
    parser.add_argument("--out", type=Path, help="folder for bench.json, pictures, profiles")
    parser.add_argument(
        "--publish", type=Path, metavar="FOLDER", help="that of the page speed.md, to be renewed"
    )
    parser.add_argument(
        "--from",
        dest="earlier",
        type=Path,
        metavar="BENCH_JSON",
        help="take an earlier report, and measure anew only what --only, --workload, --sweep name",
    )
    parser.add_argument(
        "--profile",
        choices=[name for name, workload in WORKLOADS.items() if workload.run],
        help="cProfile of this workload in place of measuring",
    )
    return parser


if __name__ == "__main__":
    main()
