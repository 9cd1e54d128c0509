"""Mutation testing: `python -m tests.mutation MODULE...`, or `nox --session mutation -- ...`.

Changes the modules, one place at a time, and looks whether their tests notice. Takes names of
modules or packages (by default `_wire`, `_policy`, `_call`, `_limiter` and `_many`), adds what
it found to tests/mutation/record.json and prints the survivors without a verdict.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from .record import merged, read, write
from .run import run
from .targets import PACKAGES, modules_of


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("module", nargs="*", default=PACKAGES)
    parser.add_argument("--work", type=Path, help="keep the mutants here, and go on from there")
    parser.add_argument(
        "--endings", default="", metavar="DIGITS", help="an even sample: numbers ending in these"
    )
    parser.add_argument(
        "--survivors", action="store_true", help="run only those in --work that survived before"
    )
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        for name in chosen.module:
            for module in modules_of(name):
                work = (chosen.work or Path(temporary)).absolute()
                _one(module, work, chosen.endings, survivors=chosen.survivors)


def _one(module: str, work: Path, endings: str, *, survivors: bool) -> None:
    mutants = run(module, work, endings=endings, survivors=survivors)
    record = merged(read(), module, mutants)
    write(record)
    print(module, record["modules"][module], flush=True)
    for entry in record["survivors"]:
        if entry["module"] == module and not entry["verdict"]:
            print(f"  {entry['function']}\n  - {entry['old']}\n  + {entry['new']}")


if __name__ == "__main__":
    main()
