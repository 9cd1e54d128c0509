"""What a stream took, in numbers: frozen values, times in seconds."""

from __future__ import annotations

import msgspec

__all__ = ["NOTHING", "Gaps", "StreamStatistics", "Waits"]


class Gaps(msgspec.Struct, frozen=True):
    """The times between tokens of one stream, in seconds.

    A gap lies between two reads of the network that each brought a token. Tokens that one read
    brought count as one. A time in which the stream was not read is part of its gap.
    """

    count: int
    """Number of gaps; one less than the reads that brought a token."""
    mean: float | None
    """Their arithmetic mean; None if there are none."""
    p50: float | None
    """Their median, to within 3 %; None if there are none."""
    p99: float | None
    """The gap that 99 % of them do not exceed, to within 3 %; None if there are none."""
    max: float | None
    """The longest one; None if there are none."""


class Waits(msgspec.Struct, frozen=True):
    """Where the time of one request went, in seconds. The parts add up to its duration.

    The duration of a finished request is `Finished.time - Finished.started`. That of a stream
    under way ends with its last read.
    """

    slot: float
    """Waiting for slots of limiters, in all attempts."""
    connection: float
    """Getting a key and a connection, in all attempts: look-up, TCP, proxy and TLS."""
    head: float
    """From sending the request until the response's head was in. It includes answers that
    were refused, and those that failed before the first byte of the body."""
    backoff: float
    """From a failed attempt to the next one."""
    first_token: float
    """Waiting for the network from the head to the first token; to the end if none came."""
    tokens: float
    """Waiting for the network after the first token."""
    consumer: float
    """The rest since the head: the loop body, other tasks, and decoding."""


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
    gaps: Gaps
    """The times between tokens."""
    waits: Waits
    """Where the time went."""


NOTHING = StreamStatistics(
    *(0, 0, 0, None, None, None, None, 0.0),
    gaps=Gaps(0, None, None, None, None),
    waits=Waits(*(0.0,) * 7),
)
"""The figures of a request that was never sent."""
