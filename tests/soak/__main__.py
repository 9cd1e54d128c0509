"""A server that misbehaves, and hundreds of tasks: `python -m tests.soak --seconds 60`.

Prints a summary as JSON; with --record, adds it to a file. Ends with status 1 if anything was
found that must not be. The seed chooses every operation, every fault and every moment of a
disturbance; --only N performs the one operation of that number.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

import msgspec

from .record import add
from .run import Settings, soak


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--backend", choices=["asyncio", "uvloop", "trio"], default="asyncio")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--round", type=float, default=20.0, help="seconds between balances")
    parser.add_argument("--load", type=float, help="cores to take at most; by default all")
    parser.add_argument("--only", type=int, metavar="N", help="the one operation to perform")
    parser.add_argument("--record", type=Path, help="a file of JSON to add the summary to")
    chosen = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if chosen.seed is None else chosen.seed
    print(f"seed {seed}, {chosen.backend}", file=sys.stderr, flush=True)
    run = soak(
        Settings(
            seconds=chosen.seconds,
            seed=seed,
            backend=chosen.backend,
            tasks=chosen.tasks,
            round_seconds=chosen.round,
            load=chosen.load,
            signals=chosen.only is None,
            only=chosen.only,
        )
    )
    print(msgspec.json.format(msgspec.json.encode(run)).decode())
    if chosen.record is not None:
        add(run, chosen.record)
    raise SystemExit(bool(run.violations))


if __name__ == "__main__":
    main()
