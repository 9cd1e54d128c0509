"""When what happened to a stream, and the statistics made of it."""

from __future__ import annotations

import math

import msgspec

__all__ = ["StreamStatistics", "Timings"]


class StreamStatistics(msgspec.Struct, frozen=True):
    """A stream in numbers.

    The times are seconds on the event loop's clock. `headers`, `first_byte`, `first_token` and
    `total` count from the moment at which the stream was opened, so they include the wait for
    a slot, the connection, and attempts that failed. Each is the time at which the read of the
    network that brought it had ended, and None until then. So they never decrease in this
    order, and bytes that came in one read came at one time. The time that decoding takes is
    part of the time until the next read.
    """

    attempts: int
    """Requests sent, the first one included."""
    events: int
    """Events received, pings and [DONE] not counted."""
    bytes: int
    """Bytes of the body received, framing included."""
    headers: float | None
    """Until the read that brought the end of the success response's head."""
    first_byte: float | None
    """Until the read that brought the first byte of the body: often the same one."""
    first_token: float | None
    """Until the read that brought the first token; `Timeouts` says what counts as one."""
    total: float | None
    """Until the last read so far: of the end, once that is in."""
    waited_for_consumer: float
    """The time between `headers` and `total` in which no read was waiting for the network:
    that of the loop body, of other tasks, and of decoding. Never negative, at most
    `total - headers`, and 0 until there is a `total`."""


class Timings:
    """Points in time of one stream, on the event loop's clock; NaN until they come."""

    __slots__ = ("first_byte", "first_token", "last_read", "waited", "waited_for_head")

    def __init__(self) -> None:
        self.first_byte: float = math.nan
        self.first_token: float = math.nan
        self.last_read: float = math.nan
        self.waited_for_head: float = 0.0
        """Seconds waited for the network until the head was in."""
        self.waited: float = 0.0
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
            # Never below 0, whatever the rounding: that of many waits may add up.
            waited_for_consumer=away if away > 0 else 0.0,
        )
