"""The reference has every public name, and names nothing else."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, is_typeddict

import pytest

import penstock
import penstock.blocking
import penstock.testing

from .drawings import ROOT

PAGES = (ROOT / "docs" / "pages" / "reference").glob("*.md")
NAMED = {name for page in PAGES for name in re.findall(r"^::: (\S+)", page.read_text(), re.M)}


def home(named: str) -> tuple[ModuleType, str]:
    """The module of a name, and the name in it; "" for the module itself."""
    try:
        return importlib.import_module(named), ""
    except ImportError:
        module, _, name = named.rpartition(".")
        return importlib.import_module(module), name


# The page on penstock.compat.httpx2 says that penstock.compat.httpx has the same two classes.
PACKAGES = [
    "penstock", "penstock.batch", "penstock.blocking", "penstock.compat.httpx2",
    "penstock.compat.openai", "penstock.engines", "penstock.observing", "penstock.otel",
    "penstock.testing",
]  # fmt: skip


@pytest.mark.parametrize("name", ["AsyncClient", "Client", "Limiter", "Spread"])
def test_a_constructor_is_shown_with_its_defaults(name: str) -> None:
    entry = f"::: penstock.{name}\n    options:\n      merge_init_into_class: true\n"
    assert any(entry in page.read_text() for page in (ROOT / "docs/pages/reference").glob("*.md"))


@pytest.mark.parametrize("named", PACKAGES)
def test_every_public_name_is_there(named: str) -> None:
    package: Any = importlib.import_module(named)
    shown = [getattr(module, name) if name else module for module, name in map(home, NAMED)]
    shown += [
        value
        for module in shown
        if isinstance(module, ModuleType)
        for value in (getattr(module, name) for name in module.__all__)
    ]
    public = {name: getattr(package, name) for name in package.__all__ if name != "__version__"}
    missing = [
        name
        for name, value in public.items()
        if not isinstance(value, ModuleType) and not any(value is each for each in shown)
    ]
    assert not missing


@pytest.mark.parametrize("named", sorted(NAMED))
def test_every_name_on_a_page_is_there(named: str) -> None:
    module, name = home(named)
    assert not name or hasattr(module, name)


def public_classes() -> Iterator[tuple[str, ast.ClassDef]]:
    """The classes that a user gets, with their module."""
    for package in (penstock, penstock.blocking, penstock.testing, penstock.observing):
        for name in vars(package)["__all__"]:
            value = getattr(package, name)
            # What the members of a request mean is the server's affair.
            if inspect.isclass(value) and not is_typeddict(value):
                module = importlib.import_module(value.__module__)
                assert module.__file__ is not None
                for node in ast.parse(Path(module.__file__).read_text()).body:
                    if isinstance(node, ast.ClassDef) and node.name == value.__name__:
                        yield f"{module.__name__}.{node.name}", node


def attributes(body: list[ast.stmt], owner: str) -> Iterator[tuple[str, bool]]:
    """What the statements assign to: fields, or attributes of the owner; and whether a line
    explains it.
    """
    for statement, following in pairwise([*body, ast.Pass()]):
        if isinstance(statement, ast.Assign):
            target = ast.unparse(statement.targets[0])
        elif isinstance(statement, ast.AnnAssign) and "ClassVar" not in ast.dump(statement):
            target = ast.unparse(statement.target)
        else:
            continue
        name = target.removeprefix(owner)
        # The reference leaves the others out.
        if target.startswith(owner) and re.fullmatch(r"(?!raw$)[a-z](\w(?<!_field))*", name, re.I):
            text = following.value if isinstance(following, ast.Expr) else None
            yield name, isinstance(text, ast.Constant) and isinstance(text.value, str)


def test_every_public_attribute_has_its_line() -> None:
    missing: list[str] = []
    for path, node in public_classes():
        found = [*attributes(node.body, "")]
        for each in node.body:
            if isinstance(each, ast.FunctionDef) and each.name == "__init__":
                found += attributes(each.body, "self.")
        missing += [f"{path}.{name}" for name, explained in found if not explained]
    assert not missing


def test_every_public_method_says_what_it_does() -> None:
    missing = [
        f"{path}.{each.name}"
        for path, node in public_classes()
        for each in node.body
        if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))
        and not each.name.startswith("_")
        and not ast.get_docstring(each)
        and "overload" not in [ast.unparse(decorator) for decorator in each.decorator_list]
    ]
    assert not missing
