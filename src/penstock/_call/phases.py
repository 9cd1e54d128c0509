"""Where the time goes until the head of an answer is in.

     SLOT ──> CONNECTION ──> HEAD ──> BODY
      ^                       │        │ failed before the first byte
      └────── BACKOFF <───────┴────────┘

One phase begins where the one before it ends, so together they are the time since the start.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import msgspec

__all__ = ["Phase", "Phases"]

Phase: TypeAlias = Literal["slot", "connection", "head", "backoff", "body"]
"""What a call waits for: a field of `Phases`."""


class Phases(msgspec.Struct, gc=False):
    """Seconds spent in each phase."""

    slot: float = 0.0
    """Waiting for a slot of each limiter."""
    connection: float = 0.0
    """For a key, and a connection."""
    head: float = 0.0
    """For the head of the response, once the request is being sent."""
    backoff: float = 0.0
    """For the next attempt."""
    body: float = 0.0
    """For the body, and those who read it."""
    current: Phase | None = None
    """The phase that goes on."""
    since: float = math.nan
    """When it began."""

    def enter(self, phase: Phase, now: float) -> None:
        """End the current phase and begin another one."""
        before = self.current
        seconds = 0.0 if before is None else getattr(self, before) + (now - self.since)
        self.current = phase
        self.since = now
        # Another thread may ask for statistics at any time. The sum is stored last, so that no
        # second counts twice.
        if before is not None:
            setattr(self, before, seconds)

    def fail(self, now: float) -> None:
        """End an attempt whose body did not begin: what it took belongs to the head."""
        self.enter("backoff", now)
        body, self.body = self.body, 0.0
        self.head += body

    def spent(self, until: float) -> Phases:
        """Return the seconds of each phase, the current one up to `until`."""
        spent = msgspec.structs.replace(self)
        if spent.current is not None and until > spent.since:
            spent.enter(spent.current, until)
        return spent
