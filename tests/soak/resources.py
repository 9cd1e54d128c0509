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


def kept_streams() -> list[str]:
    """What each stream that is still reachable is, and what holds it."""
    streams = [thing for thing in gc.get_objects() if isinstance(thing, CompletionStream)]
    return [f"{stream!r}: {_holders(stream, 6)}" for stream in streams]


def _holders(thing: object, depth: int) -> str:
    """A chain of those that refer to it, the nearest first."""
    chain: list[str] = []
    seen = {id(thing)}
    for _ in range(depth):
        holders = [
            holder
            for holder in gc.get_referrers(thing)
            if id(holder) not in seen and holder is not chain and not isinstance(holder, list)
        ]
        holders = [each for each in holders if getattr(each, "f_code", None) not in _OWN]
        if not holders:
            break
        thing = holders[0]
        seen |= {id(thing), id(holders)}
        chain.append(f"{type(thing).__name__} {_described(thing)}")
        del holders
    return " < ".join(chain)


def _described(thing: object) -> str:
    if isinstance(thing, dict):
        return str(list(thing)[:6])
    return repr(thing)[:160]


_OWN = {kept_streams.__code__, _holders.__code__}


def peak_memory() -> int:
    """The most bytes that were resident at any time."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _tasks() -> int:
    if sniffio.current_async_library() == "trio":
        import trio

        return trio.lowlevel.current_statistics().tasks_living
    return len(asyncio.all_tasks())
