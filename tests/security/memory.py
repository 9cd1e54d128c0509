"""How much memory Python's own allocations take at most."""

from __future__ import annotations

import gc
import tracemalloc


class PeakMemory:
    """A block in which allocations are traced; `peak` says how far they rose above its start."""

    peak = 0

    def __enter__(self) -> PeakMemory:
        gc.collect()
        tracemalloc.start()
        self._start = tracemalloc.get_traced_memory()[0]
        return self

    def __exit__(self, *_: object) -> None:
        self.peak = tracemalloc.get_traced_memory()[1] - self._start
        tracemalloc.stop()
