"""What this process holds: memory, file descriptors, tasks and the library's own objects."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import resource
import sys
from contextlib import suppress

import msgspec
import sniffio

from penstock import CompletionStream

__all__ = ["Holdings", "holdings", "peak_memory"]


class Holdings(msgspec.Struct, frozen=True):
    """At one moment, after a collection."""

    memory: int
    """Resident bytes."""
    blocks: int
    """Memory blocks that the interpreter has given out: exact where `memory` is coarse."""
    descriptors: int
    tasks: int
    streams: int
    """CompletionStreams that are still reachable."""


def holdings() -> Holdings:
    """Collect what can be, and look."""
    gc.collect()
    with suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)
    streams = sum(isinstance(thing, CompletionStream) for thing in gc.get_objects())
    with open("/proc/self/statm") as statm:  # noqa: PTH123 - not a file of ours
        pages = int(statm.read().split()[1])
    return Holdings(
        memory=pages * resource.getpagesize(),
        blocks=sys.getallocatedblocks(),
        descriptors=len(os.listdir("/proc/self/fd")) - 1,  # noqa: PTH208 - one is listdir's own
        tasks=_tasks(),
        streams=streams,
    )


def peak_memory() -> int:
    """The most bytes that were resident at any time."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _tasks() -> int:
    if sniffio.current_async_library() == "trio":
        import trio

        return trio.lowlevel.current_statistics().tasks_living
    return len(asyncio.all_tasks())
