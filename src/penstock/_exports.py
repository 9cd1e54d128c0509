"""Public names of a package, each imported when it is first used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["exports"]


def exports(
    package: str, home: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` for a package.

    `home` has the names that each of its modules defines, separated by blanks. Names under
    "." are modules themselves.
    """
    module_of = {name: module for module, names in home.items() for name in names.split()}
    namespace = vars(sys.modules[package])

    def get(name: str) -> Any:
        module = module_of.get(name)
        if module is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if module == ".":
            return import_module(f".{name}", package)
        value = namespace[name] = getattr(import_module(f".{module}", package), name)
        return value

    def names() -> list[str]:
        return sorted({*namespace, *module_of})

    return get, names, sorted(module_of)
