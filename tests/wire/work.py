"""Work as counted calls, which no load of the machine changes."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable


def calls_in(work: Callable[[], object]) -> int:
    """Return how many calls of Python functions and builtins the work makes."""
    count = 0

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    # A collection would count as well: what it finalizes, of other tests too, and its callbacks.
    enabled = gc.isenabled()
    gc.disable()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
        if enabled:
            gc.enable()
    return count
