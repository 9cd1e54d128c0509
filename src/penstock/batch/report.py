"""What a run over files did, in numbers."""

from __future__ import annotations

import msgspec

from .stops import StopReason

__all__ = ["Report"]


class Report(msgspec.Struct, frozen=True):
    """A run over files, at its end or at one moment of it."""

    rows: int
    """Rows in the input; of a pipe, those that have been read."""
    already_done: int
    """Rows that had their answer before."""
    answered: int
    """Rows that got their answer in this run."""
    failed: int
    """Rows that failed in this run: the lines of the errors file."""
    failures: dict[str, int]
    """How many of them failed with each code."""
    requests: int
    """Requests made, as observers count them; one that met a dead idle connection counts once."""
    retries: int
    """Requests among them that asked a row again."""
    usage: dict[str, int]
    """Tokens of the answers of this run, by the server's names."""
    seconds: float
    """How long the run took, the look at the files included."""
    stopped: StopReason | None
    """Why the run stopped before its last row; None if it did not."""
    message: str | None
    """What a person should read about it; while it runs, that the server is away."""

    @property
    def done(self) -> int:
        """Rows that need nothing more in this run: answered before or now, or failed."""
        return self.already_done + self.answered + self.failed
