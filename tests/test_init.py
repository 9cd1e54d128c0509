"""The package's front door: lazy, flat, and complete."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import penstock

# Made at run time, so type checkers know nothing of `penstock.__all__`.
NAMES: list[str] = vars(penstock)["__all__"]
HEAVY = ("httpcore", "httpcore2", "h11", "anyio", "trio", "ssl", "asyncio", "msgspec")


def run(code: str, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *flags, "-c", code], capture_output=True, text=True, check=True
    )


def test_the_import_loads_next_to_nothing() -> None:
    code = f"import sys, penstock; print([name for name in {HEAVY} if name in sys.modules])"
    assert run(code).stdout.strip() == "[]"


def test_importtime_names_none_of_the_heavy_ones() -> None:
    report = run("import penstock", "-X", "importtime").stderr
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in report.splitlines()}
    assert "penstock" in imported
    assert not imported & set(HEAVY)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_there(name: str) -> None:
    assert getattr(penstock, name) is not None
    assert name in dir(penstock)


def test_every_name_is_there_in_a_fresh_interpreter_by_import_star() -> None:
    run("from penstock import *; AsyncClient, Limiter, fan_out_chunks, errors.PenstockError")


def test_the_names_for_type_checkers_are_the_names_at_run_time() -> None:
    tree = ast.parse(Path(penstock.__file__).read_text())
    guarded: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for statement in node.body:
                assert isinstance(statement, ast.ImportFrom)
                guarded |= {alias.asname or alias.name for alias in statement.names}
    assert guarded | {"__version__"} == set(NAMES)


def test_public_values_say_where_they_are_public() -> None:
    assert len(NAMES) == len(set(NAMES))
    assert penstock.errors.RateLimitError is penstock.RateLimitError
    assert set(penstock.errors.__all__) - {"status_error_class"} <= set(NAMES)
    assert penstock.providers.PARETA.base_url == "https://api.pareta.ai/v1"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="AsyncKlient"):
        getattr(penstock, "AsyncKlient")  # noqa: B009 - type checkers refuse the plain way


def test_the_version_is_the_distributions() -> None:
    assert penstock.__version__.count(".") == 2
