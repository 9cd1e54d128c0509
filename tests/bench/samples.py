"""What is noted of a process while it works."""

from __future__ import annotations

import msgspec

__all__ = ["Sample"]


class Sample(msgspec.Struct):
    """What is known of the process at one moment."""

    run: int
    """The first, the second, ... process of the job."""
    seconds: float
    """Since that process began."""
    mib: float
    """Resident memory."""
    peak: float
    """The most of it so far, as the kernel counts."""
    cpu: float
    """Seconds of CPU so far."""
    size: int
    """Bytes in the output."""
