"""The library's loggers; `penstock._call.log` says what they are told.

`logging` is imported when the first of them is needed. Every event loop has imported it by then, so
that no request waits for it; a program that only makes a client does without.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import logging

__all__ = ["DEBUG", "logger"]

DEBUG: Final = 10
"""`logging.DEBUG`."""


@cache
def logger(name: str) -> logging.Logger:
    """Return the logger `penstock.<name>`."""
    return _root().getChild(name)


@cache
def _root() -> logging.Logger:
    import logging

    root = logging.getLogger("penstock")
    root.addHandler(logging.NullHandler())
    return root


def _write(wanted: str) -> None:
    """Write to standard error at the level that is wanted."""
    import logging

    root = _root()
    level = logging.getLevelNamesMapping().get(wanted.upper())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.addHandler(handler)
    root.setLevel(logging.INFO if level is None else level)
    if level is None:
        root.warning("PENSTOCK_LOG is none of debug, info, warning, error: taken as info")


# At the import, so that what the program sets up later counts.
if _wanted := os.environ.get("PENSTOCK_LOG"):
    _write(_wanted)
