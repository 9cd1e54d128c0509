"""Counts what stands behind each promise; `tests.evidence` makes the table of the documentation.

A test says what it did beyond being a test: `count("cancel points", 40)`. It goes to the
promise in the name of its module, once the test has passed. With PENSTOCK_EVIDENCE=FOLDER each
process writes what it has counted into a file there (see conftest.py); otherwise the numbers
are forgotten.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["cases", "examples", "seeds", "cancel points", "offsets"]
# cases: combinations of circumstances that a test goes through; the test itself is one, too.
# examples: what hypothesis ran a test with.
# seeds: scripts of servers, tasks and cancellations that a random generator has made.
# cancel points: cancellations of one task, each at another of its suspensions or moments.
# offsets: recorded responses cut, reset, stalled or cancelled after so many bytes.

_counts: dict[str, Counter[str]] = {}
"""By test, so that one which is run again counts once."""
_of_this_test: Counter[str] = Counter()
_promise: int | None = None


def count(kind: Kind, n: int = 1) -> None:
    """Add to what stands behind the promise whose test is running."""
    if _promise is not None:
        _of_this_test[f"{_promise}/{kind}"] += n


def promise_of(module: str) -> int | None:
    """The number in a module's name: 7 for `test_p07_churn`; 0 for what concerns many at once."""
    if "test_stateful" in module:
        return 0
    found = re.search(r"test_p(\d\d)_", module)
    return int(found[1]) if found else None


def begin(module: str) -> None:
    """What is counted from here on belongs to a test of this module."""
    global _promise
    _promise = promise_of(module)
    _of_this_test.clear()


def passed(test: str, loop: str, transports: set[str]) -> None:
    """This test has passed: on this event loop, over these transports."""
    promise = promise_of(test)
    if promise is not None:
        _counts[test] = counted = Counter(_of_this_test)
        counted[f"{promise}/tests"] = 1
        for transport in transports or {"none"}:
            counted[f"{promise}/on/{loop}/{transport}"] = 1


def write(folder: Path) -> None:
    """Leave this process's counts in a file of its own."""
    if _counts:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(_counts)
        (folder / f"{os.getpid()}.json").write_text(text)
