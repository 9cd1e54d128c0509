"""The one place that imports httpcore, or httpcore2, its continuation with the same names.

It imports trio, h2 and socksio where it finds them, which takes longer than all the rest of a first
client. So it is imported for the first head that is not plain, proxy's tunnel or network backend;
most programs never need it. Read it as `lazy.httpcore`. Whoever needs it awaits `ready` before, so
that the event loop runs on meanwhile.
"""

from __future__ import annotations

import importlib
import os
import threading
from types import ModuleType
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from .network import ConnectionFailed

if TYPE_CHECKING:
    import httpcore

__all__ = ["httpcore", "is_ready", "load", "ready"]

# One thread imports it, whatever the number of requests that wait for it.
_importing: anyio.lowlevel.RunVar[anyio.Lock] = anyio.lowlevel.RunVar(
    "penstock is importing httpcore"
)


# Python locks a module while it is imported. A process that forked meanwhile would find it locked
# by a thread that it does not have, and wait for ever: so a fork waits for the import.
_loading = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_loading.acquire, after_in_parent=_loading.release, after_in_child=_loading.release
    )


def load() -> ModuleType:
    """Import it now, and return it."""
    with _loading:
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
        # The first use of anyio in an event loop imports its backend.
        lock = _importing.get(None)
        if lock is None:
            lock = anyio.Lock()
            _importing.set(lock)
        async with lock:
            if is_ready():
                return
            try:
                await anyio.to_thread.run_sync(load, abandon_on_cancel=True)
            except RuntimeError:
                # The interpreter is shutting down and starts no threads.
                load()
    except OSError as error:
        raise ConnectionFailed(f"cannot load a module: {error}") from error


def __getattr__(name: str) -> ModuleType:
    if name != "httpcore":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return load()
