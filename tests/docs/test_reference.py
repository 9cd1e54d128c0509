"""The reference has every public name, and names nothing else."""

from __future__ import annotations

import importlib
import re
from types import ModuleType

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


@pytest.mark.parametrize("package", [penstock, penstock.blocking, penstock.testing])
def test_every_public_name_is_there(package: ModuleType) -> None:
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
