"""Why a run stops before its last row."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from ..errors import PenstockError

__all__ = ["BatchStopped", "NotStarted", "Stop", "StopReason"]

StopReason: TypeAlias = Literal["refused", "fuse", "unavailable", "output", "interrupted"]
"""Why a run stops; see `BatchStopped.reason` and `Report.stopped`."""


class Stop(msgspec.Struct, frozen=True):
    """A reason to stop, and what a person should read."""

    reason: StopReason
    """Why the run stops."""
    message: str
    """One line for a person."""


class BatchStopped(PenstockError):
    """A run stopped before its last row. The rows without an outcome are not failed: ask again."""

    def __init__(self, message: str = "", *, reason: StopReason = "refused") -> None:
        super().__init__(message)
        self.reason: StopReason = reason
        """Why: "refused" (the account: 401, 402, a used-up quota), "fuse" (100 rows failed one
        after the other), "unavailable" (no answer for `patience` seconds), "output" (it cannot be
        written) or "interrupted" (a signal)."""


class NotStarted(PenstockError, ValueError):
    """Nothing was sent, and nothing written: files or arguments are not as they must be."""

    def __init__(self, message: str = "", *, details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.details: tuple[str, ...] = details
        """The first ten reasons, one line each, where there are several."""
