"""The page on evidence: `python -m tests.evidence`, or `nox --session evidence`.

Without --run it is written from the records as they are, in a moment: those of the promises'
tests, of fuzzing, of soaking and of mutation testing, and the list of findings. With --run the
promises' tests are run before, in their full size, with the httpcore that is installed or that
PENSTOCK_HTTPCORE names.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.httpcore_compat import httpcore

from . import record
from .page import PAGE, publish
from .promises import PROMISES, modules_of

# A promise's tests in full: every offset, more seeds, more examples.
FULL = {"PENSTOCK_SWEEP": "all", "PENSTOCK_HYPOTHESIS": "evidence"}


def main(arguments: list[str] | None = None) -> None:
    chosen = _parser().parse_args(arguments)
    if chosen.run is not None:
        run(chosen.run or list(PROMISES), small=chosen.small)
    publish(chosen.page)


def run(promises: list[int], *, small: bool) -> None:
    """Run the tests of these promises and put what they counted into the record.

    What fails is run once more, alone, as in nox's sessions; SystemExit if it fails again.
    """
    files = [str(file) for number in promises for file in modules_of(number)]
    command = [sys.executable, "-m", "pytest", "-q", *files]
    again = ["--last-failed", "--last-failed-no-failures=none", "-n0"]
    with tempfile.TemporaryDirectory() as folder:
        settings = {**({} if small else FULL), "PENSTOCK_EVIDENCE": folder}
        environment = {**os.environ, **settings}
        if subprocess.run(command, env=environment).returncode:
            subprocess.run([*command, *again], env=environment, check=True)
        counted = record.summed(Path(folder).glob("*.json"))
    record.take(counted, httpcore.__name__, "small" if small else "full")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.evidence", description=__doc__)
    parser.add_argument(
        "--run",
        nargs="*",
        type=int,
        choices=list(PROMISES),
        metavar="N",
        help="run the tests of these promises before, by default of all",
    )
    parser.add_argument("--small", action="store_true", help="only as much as the suite does")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to write into")
    return parser


if __name__ == "__main__":
    main()
