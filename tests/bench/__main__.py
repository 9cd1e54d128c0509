"""Measure penstock and its peers: `python -m tests.bench`, or `nox --session bench`.

Each measurement has a process of its own, and all clients take turns. Prints all medians and
the ratios beside their budgets; with --out, writes bench.json and bench.svg.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec

from .plot import plot
from .profiling import profile
from .report import environment, figures_table, ratio_table
from .runner import CLIENTS, jobs, measure
from .workloads import IN_TABLE, WORKLOADS

FULL_RUNS, QUICK_RUNS = 5, 3


def main(arguments: list[str] | None = None) -> None:
    chosen = _parser().parse_args(arguments)
    scale = "tiny" if chosen.tiny else "quick" if chosen.quick else "full"
    workloads = chosen.workload or IN_TABLE
    clients = chosen.client or list(CLIENTS)
    if chosen.profile:
        profile(chosen.profile, clients[0], scale, chosen.out)
        return
    work = jobs(workloads, clients, scale)
    if not work:
        raise SystemExit("nothing to measure: see --help for names; peers have to be installed")
    runs = chosen.runs or (FULL_RUNS if scale == "full" else QUICK_RUNS)
    outcomes = measure(work, runs, lambda line: print(line, flush=True))
    print(f"\n{figures_table(outcomes)}\n\n{ratio_table(outcomes)}")
    if chosen.out is not None:
        chosen.out.mkdir(parents=True, exist_ok=True)
        report = {"environment": environment(), "scale": scale, "outcomes": outcomes}
        encoded = msgspec.json.format(msgspec.json.encode(report), indent=1)
        (chosen.out / "bench.json").write_bytes(encoded + b"\n")
        plot(outcomes, chosen.out / "bench.svg")
    if len(outcomes) < len(work):
        raise SystemExit(f"{len(work) - len(outcomes)} of {len(work)} could not be measured")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--workload", action="append", choices=IN_TABLE, help="one or more; all by default"
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
    parser.add_argument("--out", type=Path, help="folder for bench.json, bench.svg, profiles")
    parser.add_argument(
        "--profile",
        choices=[name for name, workload in WORKLOADS.items() if workload.run],
        help="cProfile of this workload in place of measuring",
    )
    return parser


if __name__ == "__main__":
    main()
