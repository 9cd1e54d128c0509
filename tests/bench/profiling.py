"""Where penstock's time goes: cProfile over one workload, in this process.

cProfile makes each call look dearer than it is: take the order from it, not the figures.
"""

from __future__ import annotations

import cProfile
import pstats
from pathlib import Path

from .measure import Job
from .serving import serving
from .worker import perform
from .workloads import size_of

__all__ = ["profile"]


def profile(workload: str, client: str, scale: str, out: Path | None) -> None:
    """Print the 30 functions that take most themselves; with `out`, keep all of it there."""
    profiler = cProfile.Profile()
    with serving() as server:
        # Once before, so that no import is among them.
        perform(server.place(Job(workload, client, size_of(workload, "tiny"))))
        job = server.place(Job(workload, client, size_of(workload, scale)))
        result = profiler.runcall(perform, job)
    print(f"{workload}, {client}: {result.events} events, {result.requests} requests")
    statistics = pstats.Stats(profiler)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        statistics.dump_stats(out / f"{workload}-{client}.prof")
    statistics.sort_stats("tottime").print_stats(30)
