"""Jobs of any number of rows: from a file or any source, asked, and written line by line.

The command `penstock batch` stands on `run_files`, and that on `run`. Nothing of this is loaded
by `import penstock`.
"""

from __future__ import annotations

from .outcomes import Failure, Outcome
from .rows import InvalidRow, Request, parse_line
from .run import run
from .stops import BatchStopped

__all__ = [
    "BatchStopped",
    "Failure",
    "InvalidRow",
    "Outcome",
    "Request",
    "parse_line",
    "run",
]
