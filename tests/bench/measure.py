"""Reading this process's clocks and memory, and what one measurement gives."""

from __future__ import annotations

import contextlib
import gc
import re
import sys
import time
from pathlib import Path

import msgspec

__all__ = [
    "Job",
    "Result",
    "Size",
    "Stopwatch",
    "forget_peak",
    "more_files",
    "peak_memory",
    "resident_memory",
]


class Size(msgspec.Struct, frozen=True):
    """How much of a workload. `paced` takes (events - warm_up) / rate seconds."""

    streams: int = 1
    events: int = 1
    rate: int = 0
    warm_up: int = 0
    """Events of each paced stream before the clock starts; elsewhere requests of the kind."""
    characters: int = 0
    """Of each event's content; 0: words of all kinds."""


class Job(msgspec.Struct, frozen=True):
    """One measurement, to be made in a fresh process."""

    workload: str
    client: str
    """The name of a driver, and its event loop after an @ if that is not asyncio."""
    size: Size
    patience: float = 120
    """Seconds, warm-up included; enough for the slowest client on a busy machine."""
    core: int | None = None
    """The only one that the process may use."""
    base_url: str = ""
    authority: str = ""
    """The PEM file that vouches for the server; none without TLS."""

    @property
    def driver(self) -> str:
        return self.client.partition("@")[0]

    @property
    def loop(self) -> str:
        return self.client.partition("@")[2] or "asyncio"


class Result(msgspec.Struct, kw_only=True):
    """What one process measured."""

    workload: str
    client: str
    figure: float
    """What the workload is about, in its unit."""
    cpu: float
    """Seconds of this process in the measured part, as wall."""
    wall: float
    events: int
    """In the measured part, as requests."""
    requests: int
    peak: int
    """Bytes resident at most, from the process's start to its end."""
    characters: int = 0
    """Of the texts received; that they are right is checked before there is a result."""
    connections: int = 0
    """That the server saw, warm-up included."""
    late: float = 0
    """Milliseconds: 99 of 100 events left the server at most so long after their time."""


class Stopwatch:
    """CPU and wall time of the measured part."""

    def __init__(self) -> None:
        self.cpu = 0.0
        self.wall = 0.0

    def start(self) -> None:
        gc.collect()  # what the warm-up left is not the measured part's
        self.start_at_once()

    def start_at_once(self) -> None:
        """Without the collection, which would hold up what is already under way."""
        self._wall = time.perf_counter()
        self._cpu = time.process_time()

    def stop(self) -> None:
        self.cpu = time.process_time() - self._cpu
        self.wall = time.perf_counter() - self._wall


def resident_memory() -> int:
    """Bytes resident now; on systems without /proc, the most there have been."""
    return _memory("VmRSS")


def peak_memory() -> int:
    """Bytes resident at most so far."""
    return _memory("VmHWM")


def forget_peak() -> None:
    """Let the peak begin anew from here; only Linux can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _memory(field: str) -> int:
    # Not getrusage where there is better: its peak counts the parent's memory before exec.
    with contextlib.suppress(OSError):
        status = Path("/proc/self/status").read_text(encoding="ascii")
        found = re.search(rf"{field}:\s+(\d+) kB", status)
        if found:
            return int(found[1]) * 1024
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def more_files() -> None:
    """Raise the limit of open files as far as it goes: a stream is a socket."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        wanted = 65536 if hard == resource.RLIM_INFINITY else hard
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
