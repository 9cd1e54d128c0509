"""The one place that imports httpcore, or httpcore2, its continuation with the same names.

At the first request, not before: httpcore imports trio, h2 and socksio where it finds
them, which is two thirds of what a first client costs (0.3 of 0.45 s). Read it as
`lazy.httpcore`.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpcore

__all__ = ["httpcore", "load"]


def load() -> ModuleType:
    """Import it now, where that costs nobody's deadline."""
    try:
        return importlib.import_module("httpcore")
    except ImportError:
        return importlib.import_module("httpcore2")


def __getattr__(name: str) -> ModuleType:
    if name != "httpcore":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = globals()[name] = load()
    return module
