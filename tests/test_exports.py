"""Lazy packages: what type checkers read and what `import` finds are the same names."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import penstock
import penstock.observing
import penstock.testing

PACKAGES = [penstock, penstock.observing, penstock.testing]


def for_type_checkers(package: ModuleType) -> dict[str, str]:
    """The module of each name that `if TYPE_CHECKING:` imports."""
    assert package.__file__ is not None
    found: dict[str, str] = {}
    for node in ast.parse(Path(package.__file__).read_text()).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for statement in node.body:
                assert isinstance(statement, ast.ImportFrom)
                for alias in statement.names:
                    assert alias.asname == alias.name, "only `import A as A` is public"
                    found[alias.name] = statement.module or "."
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_see_the_names_of_run_time(package: ModuleType) -> None:
    assert sorted(for_type_checkers(package)) == package.__all__


@pytest.mark.parametrize("package", PACKAGES)
def test_each_name_is_that_of_the_module_that_type_checkers_read(package: ModuleType) -> None:
    for name, module in for_type_checkers(package).items():
        if module == ".":
            assert getattr(package, name) is import_module(f"{package.__name__}.{name}")
        else:
            home = import_module(f"{package.__name__}.{module}")
            assert getattr(package, name) is getattr(home, name)


@pytest.mark.parametrize("package", PACKAGES)
def test_dir_and_import_star_know_every_name(package: ModuleType) -> None:
    assert {*package.__all__} <= {*dir(package)}
    code = f"from {package.__name__} import *; assert {{*{package.__all__}}} <= {{*dir()}}"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("package", PACKAGES)
def test_an_unknown_name_is_an_attribute_error(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no .* 'nothing'"):
        package.nothing  # noqa: B018
