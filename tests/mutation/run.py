"""Mutmut on one module: a copy of the tree, its mutants, and what became of each.

Mutmut changes functions and methods. What it leaves alone: module and class level, and
functions with a decorator (`@property` above all).
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .targets import ROOT, selection, source_of

__all__ = ["Mutant", "run"]

# Exit codes of the process that ran a mutant's tests; -24 is SIGXCPU, the CPU time limit.
_STATUS = {0: "survived", 1: "killed", 3: "killed", 33: "no tests", 5: "no tests"} | dict.fromkeys(
    (-24, 24, 36, 152, 255, -9), "timeout"
)

# Tests that measure time fail on a busy machine, whatever the mutant.
_SELECTED = "not linear"

_SETTINGS = """
[tool.mutmut]
source_paths = ["src/"]
only_mutate = [{source}]
also_copy = ["README.md", "docs"]
pytest_add_cli_args = ["-n0", "-q", "--tb=no", "-p", "no:cacheprovider", "-k", "{selected}"]
pytest_add_cli_args_test_selection = [{tests}]
timeout_multiplier = 5.0
timeout_constant = 1.0
use_git_change_detection = false
track_dependencies = false
"""


@dataclass(frozen=True)
class Mutant:
    """One change of one function, and whether the tests saw it."""

    function: str
    old: str  # the lines that were changed, stripped
    new: str
    status: str


def run(module: str, work: Path, *, endings: str = "", survivors: bool = False) -> list[Mutant]:
    """Run a module's mutants in a copy of the tree under `work`.

    With `endings`, only mutants whose number within their function ends in one of these digits.
    What ran in the same `work` before runs again only if its function has changed; with
    `survivors`, those that survived run again, and nothing else.
    """
    tree = work / module
    _copy(module, tree)
    names = [f"*[{endings}]"] if endings else []
    if survivors:
        left = ("survived", "no tests")
        names = [name for name, code in _results(tree, module).items() if _status(code) in left]
        if not names:
            return _mutants(tree, module)
        # Else mutmut forgets what became of the others when the selection of tests has changed.
        (tree / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)
    _mutmut(tree, names)
    # Once more: on a busy machine a timeout may say nothing about the mutant.
    late = [name for name, code in _results(tree, module).items() if _status(code) == "timeout"]
    if late:
        _mutmut(tree, late)
    return _mutants(tree, module)


def _copy(module: str, tree: Path) -> None:
    for folder in ("src", "tests", "docs"):
        shutil.rmtree(tree / folder, ignore_errors=True)
        skipped = shutil.ignore_patterns("__pycache__", "site", ".cache")
        shutil.copytree(ROOT / folder, tree / folder, ignore=skipped)
    shutil.copy(ROOT / "README.md", tree)
    settings = _SETTINGS.format(
        selected=_SELECTED,
        source=json.dumps(str(source_of(module))),
        tests=", ".join(json.dumps(file) for file in selection(module)),
    )
    (tree / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + settings)


def _mutmut(tree: Path, names: list[str]) -> None:
    environment = os.environ | {"CI": "1", "PENSTOCK_HYPOTHESIS": "mutation"}
    program = str(Path(sys.executable).with_name("mutmut"))
    command = [program, "run", "--max-children", "1", *names]
    log = tree / "mutmut.log"
    with log.open("wb") as output:
        done = subprocess.run(command, cwd=tree, env=environment, stdout=output, stderr=output)
    # The tests that run are named by ids from an earlier collection; one that is not found
    # again would look like a test that failed.
    if done.returncode != 0 or b"BadTestExecution" in log.read_bytes():
        raise SystemExit(f"mutmut failed; its output is in {log}")
    stats: dict[str, Any] = json.loads((tree / "mutants" / "mutmut-stats.json").read_text())
    if changing := [test for test in stats["duration_by_test"] if "\\" in test]:
        raise SystemExit(f"ids with backslashes change from one collection to the next: {changing}")


def _noted(tree: Path, module: str, suffix: str) -> dict[str, Any]:
    """What mutmut noted beside the mutated source."""
    source = tree / "mutants" / source_of(module)
    noted: dict[str, Any] = json.loads(source.with_name(source.name + suffix).read_text())
    return noted


def _results(tree: Path, module: str) -> dict[str, int | None]:
    results: dict[str, int | None] = _noted(tree, module, ".meta")["exit_code_by_key"]
    return results


def _status(code: int | None) -> str:
    return "not run" if code is None else _STATUS.get(code, f"exit code {code}")


def _mutants(tree: Path, module: str) -> list[Mutant]:
    spans = _noted(tree, module, ".spans")["spans"]
    lines = (tree / "mutants" / source_of(module)).read_text().splitlines()
    mutants: list[Mutant] = []
    for key, code in _results(tree, module).items():
        name = key.rpartition(".")[2]
        whole, _, _ = name.rpartition("__mutmut_")
        before, after = (
            [re.sub(r"__mutmut_\w+", "", line) for line in lines[start - 1 : end]]
            for start, end in (spans[f"{whole}__mutmut_orig"], spans[name])
        )
        changed = [line for line in difflib.ndiff(before, after) if line[:1] in "+-"]
        old, new = (
            " ".join(line[2:].strip() for line in changed if line[0] == sign) for sign in "-+"
        )
        function = whole.removeprefix("xǁ").removeprefix("x_").replace("ǁ", ".")
        mutants.append(Mutant(function, old, new, _status(code)))
    return mutants
