"""Limits on how long each part of a request may take."""

from __future__ import annotations

import math

import msgspec

__all__ = ["Timeouts"]


class Timeouts(msgspec.Struct, frozen=True):
    """Limits in seconds, each with its own error. None means no limit.

    `read`, `first_token` and `idle` count only time spent waiting for the network, never
    time spent in the body of the caller's loop. A token here is a delta with anything in it
    that is not empty, except for the role; pings and empty content do not count. TypeError if
    a value is not a number, ValueError if it is negative.
    """

    connect: float | None = 10.0
    """Seconds to establish a connection: name look-up, TCP, proxy and TLS (ConnectTimeout)."""
    slot: float | None = None
    """Seconds to wait for a slot of the limiter (SlotTimeout)."""
    read: float | None = 600.0
    """Seconds in which no byte moves either way; a ping counts as bytes (ReadTimeout)."""
    first_token: float | None = None
    """Seconds from sending the request to the first token; streams only (FirstTokenTimeout).

    They start anew whenever the server says how much of the prompt it has read, as llama.cpp does
    when asked for it with `return_progress=True`."""
    idle: float | None = None
    """Seconds from one token to the next; streams only (IdleTimeout)."""
    total: float | None = None
    """Seconds for the whole call, retries and the caller's loop body included (TotalTimeout)."""
    trailing: float | None = 1.0
    """Seconds of silence that complete an answer whose choices all have their finish_reason.

    They stand for a missing `[DONE]` or end of the body. Usage may still come; pings do not
    prolong them. Never an error."""
    close: float | None = 1.0
    """Seconds for a graceful close; then the connection is cut. Never an error."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"Timeouts.{name} is {value!r}: give seconds as a number, or None")
            if math.isnan(value) or value < 0:
                raise ValueError(f"Timeouts.{name} is {value!r}: it cannot be negative")
