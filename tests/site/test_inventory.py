"""The built reference has an entry for each public name, and for nothing else."""

from __future__ import annotations

import importlib
import re
import zlib
from contextlib import suppress
from types import ModuleType
from typing import Any

import pytest

from tests.docs.test_reference import PACKAGES

from .conftest import SITE

MODULES = [*PACKAGES, "penstock.errors", "penstock.types", "penstock.providers"]

FIXTURES = [
    "cassette", "check_leaks", "memory_network", "real_backend", "scripted_server",
    "virtual_backend",
]  # fmt: skip

# The classes of `client.chat.completions` and its neighbours, which nobody makes by hand.
BEHIND_ATTRIBUTES = ["penstock._client.resources." + name
                     for name in ("Completions", "Models", "TextCompletions")]  # fmt: skip

# Not in the `__all__` of a package: functions of submodules, fixtures, the type of an argument.
FUNCTIONS = ["penstock.batch.run.run", "penstock.engines.daft.complete",
             "penstock.engines.ray.complete", "penstock.errors.StructuredOutputReason",
             *("penstock.testing.plugin." + name for name in FIXTURES)]  # fmt: skip


def entries() -> set[str]:
    """The names that have an entry; a name of the same object elsewhere is not one."""
    data = (SITE / "objects.inv").read_bytes()
    start = re.search(rb"(?:#[^\n]*\n){4}", data)
    assert start is not None
    lines = zlib.decompress(data[start.end() :]).decode().splitlines()
    found = [re.fullmatch(r"(\S+) py:\w+ (-?\d+) \S+ .*", line) for line in lines]
    return {match[1] for match in found if match and match[2] == "1"}


ENTRIES = entries()


@pytest.mark.parametrize("module", [*PACKAGES, "penstock.errors", "penstock.types"])
def test_every_public_name_has_an_entry(module: str) -> None:
    package: Any = importlib.import_module(module)
    shown = [value for value in map(resolved, ENTRIES) if value is not None]
    assert not [
        name
        for name in package.__all__
        if name != "__version__"
        and f"{module}.{name}" not in ENTRIES
        and not isinstance(value := getattr(package, name), ModuleType)
        and not any(value is each for each in shown)
    ]


def test_nothing_internal_has_an_entry() -> None:
    public = {*BEHIND_ATTRIBUTES, *FUNCTIONS}
    for module in MODULES:
        package: Any = importlib.import_module(module)
        public |= {module} | {f"{module}.{name}" for name in package.__all__}
    assert (
        sorted(
            name for name in ENTRIES if name not in public and name.rpartition(".")[0] not in public
        )
        == []
    )


def resolved(name: str) -> Any:
    """What a dotted name stands for; None if it is only annotated."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        with suppress(ImportError):
            value: Any = importlib.import_module(".".join(parts[:count]))
            for part in parts[count:]:
                value = getattr(value, part, None)
            return value
    raise AssertionError(name)
