"""The one place that imports httpcore, or httpcore2, its continuation with the same names.

It imports trio, h2 and socksio where it finds them, which takes longer than all the rest of a first
client. So it is imported for the first head that is not plain, proxy's tunnel or network backend;
most programs never need it. Read it as `lazy.httpcore`. Whoever needs it awaits `ready` before, so
that the event loop runs on meanwhile.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from .network import ConnectionFailed
from .off_loop import forks_wait, run_off_loop, turn

if TYPE_CHECKING:
    import httpcore

__all__ = ["httpcore", "is_ready", "load", "ready"]


def load() -> ModuleType:
    """Import it now, and return it."""
    with forks_wait:
        try:
            module = importlib.import_module("httpcore")
        except ImportError:
            module = importlib.import_module("httpcore2")
    globals()["httpcore"] = module
    return module


def is_ready() -> bool:
    """Return True if it is imported."""
    return "httpcore" in globals()


async def ready() -> None:
    """Import it in a worker thread. Cancelled, the thread goes on.

    Raises ConnectionFailed if the system has no resources for that, such as descriptors.
    """
    try:
        async with turn():
            if not is_ready():
                await run_off_loop(load)
    except OSError as error:
        raise ConnectionFailed(f"cannot load a module: {error}") from error


def __getattr__(name: str) -> ModuleType:
    if name != "httpcore":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return load()
