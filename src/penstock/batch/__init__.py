"""Jobs of any number of rows: from a file or any source, asked, and written line by line.

The command `penstock batch` stands on `run_files`, and that on `run`. Nothing of this is loaded
by `import penstock`.
"""

from __future__ import annotations

from .job import run_files
from .outcomes import Failure, Outcome
from .report import Report
from .rows import InvalidRow, Request, parse_line
from .run import run
from .stops import BatchStopped, NotStarted

__all__ = [
    "BatchStopped",
    "Failure",
    "InvalidRow",
    "NotStarted",
    "Outcome",
    "Report",
    "Request",
    "parse_line",
    "run",
    "run_files",
]
