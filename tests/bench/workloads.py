"""What is measured, each time the same for all clients, and in three sizes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from . import watched, work
from .drivers.base import Peer
from .measure import Size
from .work import Measured

__all__ = ["IN_TABLE", "WORKLOADS", "Workload", "size_of"]

Run = Callable[[Peer, Size], Awaitable[Measured]]


class Workload(msgspec.Struct, frozen=True):
    """One kind of work."""

    unit: str
    run: Run | None
    """None where the process itself is what is measured."""
    full: Size
    quick: Size
    tiny: Size
    """For the test suite."""
    only: tuple[str, ...] = ()
    """The drivers that can do it; none named: all."""
    base: str = ""
    """The workload that this one adds something to."""
    tls: bool = False
    in_table: bool = True
    """Or else it is for another part of the report."""


def size_of(workload: str, scale: str) -> Size:
    """How much of this workload; the scale is full, quick or tiny."""
    size: Size = getattr(WORKLOADS[workload], scale)
    return size


_PACED = (Size(100, 90, 50, 10), Size(100, 60, 50, 10), Size(4, 5, 100, 2))
_DRAIN = (Size(1, 20_000, warm_up=5), Size(1, 5_000, warm_up=5), Size(1, 40, warm_up=1))
_FAN = (Size(500, 20, warm_up=5), Size(200, 20, warm_up=5), Size(5, 20, warm_up=1))
_REPEATED = (Size(100, 100, warm_up=5), Size(10, 100, warm_up=2), Size(2, 20, warm_up=1))
_LARGE = (
    Size(100, 10, warm_up=5, characters=10_000),
    Size(10, 10, warm_up=2, characters=10_000),
    Size(2, 3, warm_up=1, characters=10_000),
)
_TIMED = (Size(500, 80, 20, 20), Size(200, 60, 20, 20), Size(7, 6, 100, 2))
_LONG = (Size(1, 100_000, warm_up=3), Size(1, 20_000, warm_up=3), Size(1, 100, warm_up=1))
_ONLY = ("penstock",)
# The others would add time and no answer.
_COMPARED = ("penstock", "openai", "aiohttp", "raw")
_ENCRYPTED = (*_COMPARED, "pyreqwest", "wreq")
_REQUESTED = (*_ENCRYPTED, "httptools")

WORKLOADS = {
    "paced": Workload("us/event", work.paced, *_PACED),
    "drain": Workload("us/event", work.burst, *_DRAIN),
    "fan": Workload("us/request", work.burst, *_FAN),
    "paced-tls": Workload("us/event", work.paced, *_PACED, only=_ENCRYPTED, tls=True),
    "drain-tls": Workload("us/event", work.burst, *_DRAIN, only=_ENCRYPTED, tls=True),
    "paced-merged": Workload("us/event", work.paced_merged, *_PACED, only=_ONLY, base="paced"),
    "drain-merged": Workload("us/event", work.burst_merged, *_DRAIN, only=_ONLY, base="drain"),
    "fan-merged": Workload("us/request", work.burst_merged, *_FAN, only=_ONLY, base="fan"),
    "collect": Workload("us/event", work.collect, *_DRAIN, only=_ONLY),
    "complete": Workload("us/event", work.complete, *_DRAIN, only=_ONLY),
    "create": Workload(
        "us/request",
        work.create,
        Size(200, 100, warm_up=10),
        Size(100, 100, warm_up=5),
        Size(3, 20, warm_up=1),
        only=_REQUESTED,
    ),
    "models": Workload(
        "us/request",
        work.models,
        Size(200, warm_up=10),
        Size(100, warm_up=5),
        Size(3, warm_up=1),
        only=_REQUESTED,
    ),
    "idle": Workload(
        "KiB/stream",
        work.idle,
        Size(900, warm_up=50),  # the OpenAI SDK opens 1000 connections at most
        Size(300, warm_up=20),
        Size(5, warm_up=1),
        only=_COMPARED,
    ),
    "stalled": Workload(
        "KiB/stream",
        work.stalled,
        Size(200, 20_000, warm_up=20),
        Size(100, 20_000, warm_up=10),
        Size(3, 2_000, warm_up=1),
        only=_COMPARED,
    ),
    "import": Workload("ms", None, Size(), Size(), Size()),
    "repeated": Workload("us/event", work.repeated, *_REPEATED, in_table=False),
    "repeated-bytes": Workload("ns/byte", work.repeated, *_LARGE, in_table=False),
    "timed": Workload("ms", watched.timed, *_TIMED, in_table=False),
    "long": Workload("KiB", watched.long, *_LONG, in_table=False),
}
IN_TABLE = [name for name, workload in WORKLOADS.items() if workload.in_table]
