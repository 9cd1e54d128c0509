"""Work as counted calls, which no load of the machine changes."""

from __future__ import annotations

import sys
from collections.abc import Callable


def calls_in(work: Callable[[], object]) -> int:
    """Return how many calls of Python functions and builtins the work makes."""
    count = 0

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count
