"""When what happened to a stream, and the statistics made of it."""

from __future__ import annotations

import math

import msgspec

__all__ = ["StreamStatistics", "Timings"]


class StreamStatistics(msgspec.Struct, frozen=True):
    """A stream in numbers; times are seconds since the request was first sent, None until then."""

    attempts: int
    """Requests sent, the first one included."""
    events: int
    """Events received, pings and [DONE] not counted."""
    bytes: int
    """Bytes of the body received, framing included."""
    headers: float | None
    """Until the head of the success response."""
    first_byte: float | None
    """Until the first byte of the body."""
    first_token: float | None
    """Until the first token; `Timeouts` says what counts as one."""
    total: float | None
    """Until the end, or until the last bytes while it is still going on."""
    waited_for_consumer: float
    """Seconds, from the head to the last bytes, in which nobody waited for the network."""


class Timings:
    """Points in time of one stream, on the event loop's clock; NaN until they come."""

    __slots__ = ("first_byte", "first_token", "last_read", "waited", "waited_for_head")

    def __init__(self) -> None:
        self.first_byte = math.nan
        self.first_token = math.nan
        self.last_read = math.nan
        self.waited_for_head = 0.0
        """Seconds waited for the network until the head was in."""
        self.waited = 0.0
        """The same until the last read."""

    def statistics(
        self, *, attempts: int, events: int, bytes: int, started: float, headers_at: float
    ) -> StreamStatistics:
        """What is known by now."""

        def since_start(at: float) -> float | None:
            return None if math.isnan(at) else at - started

        away = self.last_read - headers_at - (self.waited - self.waited_for_head)
        return StreamStatistics(
            attempts=attempts,
            events=events,
            bytes=bytes,
            headers=since_start(headers_at),
            first_byte=since_start(self.first_byte),
            first_token=since_start(self.first_token),
            total=since_start(self.last_read),
            waited_for_consumer=0.0 if math.isnan(away) else away,
        )
