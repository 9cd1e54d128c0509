"""How long each part of a request may take."""

from __future__ import annotations

import math

import msgspec

__all__ = ["Timeouts"]


class Timeouts(msgspec.Struct, frozen=True):
    """Limits in seconds, each with an error of its own; None is no limit.

    `read`, `first_token` and `idle` count only time spent waiting for the
    network, never time spent in the body of the caller's loop. A token here is a
    delta with content, reasoning, refusal or a piece of a tool call; pings,
    role-only deltas and empty content are none.
    """

    connect: float | None = 10.0
    """Until the connection stands: name look-up, TCP, proxy and TLS (ConnectTimeout)."""
    slot: float | None = None
    """Waiting for a slot of the limiter (SlotTimeout)."""
    read: float | None = 600.0
    """Silence on the wire; any byte ends it, a ping as well (ReadTimeout)."""
    first_token: float | None = None
    """From sending the request to the first token (FirstTokenTimeout)."""
    idle: float | None = None
    """From one token to the next (IdleTimeout)."""
    total: float | None = None
    """Everything, retries and the caller's loop body included (TotalTimeout)."""
    close: float | None = 1.0
    """Bound of a graceful close, after which the connection is cut; never an error."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"Timeouts.{name} is {value!r}: give seconds as a number, or None")
            if math.isnan(value) or value < 0:
                raise ValueError(f"Timeouts.{name} is {value!r}: it cannot be negative")
