"""What servers and clients do in one stateful run, as plain data that hypothesis can shrink."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

from penstock import Timeouts
from penstock.testing.cuts import cut_at, split_at
from penstock.testing.replies import PING, Event, Framing, error_event, error_reply, sse_reply
from penstock.testing.script import Pause, Reply, Send, unroll

from ..recorded import FAULTS, FINISH, USAGE, Fault, delta

EventKind: TypeAlias = Literal["role", "text", "empty", "ping", "finish", "usage", "error"]
Connecting: TypeAlias = Literal["at once", "slow", "refuse", "hang"]

SLOW = 0.75  # seconds that a slow connect takes
# No sum of a script's pauses is as long as one of these, or of those in `scripts`.
TIMEOUTS = Timeouts(connect=3.3, read=5.1)


@dataclass(frozen=True)
class Plan:
    """What the server does with one request."""

    wait: float = 0.0
    """Before the first byte of the head."""
    status: int = 200
    retry_after: str | None = None
    events: tuple[tuple[float, EventKind], ...] = ((0.0, "text"), (0.0, "finish"))
    """Each with the pause before it."""
    done: bool = True
    framing: Framing = True
    apart: bool = True
    """A segment for each event, else one for all between two pauses."""
    splits: tuple[int, ...] = ()
    fault: Fault | None = None
    at: int = 0
    """After how many bytes the fault comes, modulo what there is."""

    @cached_property
    def whole(self) -> Reply:
        """The reply without its fault."""
        if self.status != 200:
            headers = {} if self.retry_after is None else {"retry-after": self.retry_after}
            return error_reply(self.status, headers=headers)
        parts: list[Event] = []
        for number, (pause, kind) in enumerate(self.events):
            parts += [Pause(pause)] if pause else []
            parts.append(delta(f"<{number}>") if kind == "text" else _EVENTS[kind])
        return sse_reply(parts, chunked=self.framing, done=self.done, one_segment_each=self.apart)

    @cached_property
    def data(self) -> bytes:
        return self.whole.data

    @cached_property
    def head(self) -> int:
        """Bytes of the head."""
        return self.data.index(b"\r\n\r\n") + 4

    @cached_property
    def size(self) -> int:
        """Bytes that are sent."""
        return len(self.data) if self.fault is None else self.at % (len(self.data) + 1)

    @property
    def ending(self) -> Fault:
        """What follows the last byte."""
        if self.fault is not None:
            return self.fault
        return "end" if self.status == 200 and self.framing == "close" else "stall"

    @cached_property
    def reply(self) -> Reply:
        reply = split_at(self.whole, [place % len(self.data) for place in self.splits])
        if self.fault is not None:
            reply = cut_at(reply, self.size, FAULTS[self.fault])
        return reply.after(self.wait)

    @cached_property
    def arrivals(self) -> list[tuple[float, int]]:
        """When, from the request on, how many bytes are there in all."""
        now, size = 0.0, 0
        found: list[tuple[float, int]] = []
        for step in unroll(self.reply.steps):
            if isinstance(step, Pause):
                now += step.seconds
            elif isinstance(step, Send) and step.data:
                size += len(step.data)
                found.append((now, size))
        return found

    @cached_property
    def ended_at(self) -> float:
        """When the connection ends, from the request on; infinity if it does not."""
        if self.ending == "stall":
            return math.inf
        return sum(step.seconds for step in unroll(self.reply.steps) if isinstance(step, Pause))


_EVENTS: dict[EventKind, Event] = {
    "role": delta("", role="assistant"),
    "empty": delta(""),
    "ping": PING,
    "finish": FINISH,
    "usage": USAGE,
    "error": error_event("overloaded", code="overloaded"),
}


@dataclass(frozen=True)
class Patience:
    """A cancellation after so many seconds: by a scope, or natively where there is such."""

    seconds: float
    native: bool = False


@dataclass(frozen=True)
class Op:
    """One thing a task does with its stream."""

    kind: Literal["read", "sleep", "collect", "first token", "to the end"] = "to the end"
    count: int = 1
    """How many chunks, or quarters of a second."""
    patience: Patience | None = None
    """Around each call."""


@dataclass(frozen=True)
class Use:
    """One task and what it does with its calls, whose numbers are given to it in order."""

    kind: Literal["block", "bare", "complete", "race", "chunks", "results", "channels"] = "block"
    calls: int = 1
    start: float = 0.0
    life: Patience | None = None
    """Around all of it."""
    opening: Patience | None = None
    """Around each of the first attempts at opening it; the last one has all the time."""
    openings: int = 1
    ops: tuple[Op, ...] = (Op(),)
    closed_at: float | None = None
    """When another task closes the stream."""
    limit: int = 1
    """Of a fan-out, or `max_live` of a race."""
    shared: bool = False
    """The fan-out's limit is the client's limiter."""
    delay: float | None = 0.0
    """Of a race."""
    buffer: int = 1
    ordered: bool = False
    reads: Patience | None = None
    """Around each read of a fan-out."""
    stop: int | None = None
    """`break` after so many of a fan-out's events."""


@dataclass(frozen=True)
class Script:
    """One run."""

    uses: tuple[Use, ...] = (Use(),)
    plans: tuple[tuple[Plan, ...], ...] = ()
    """For each call its attempts; a good answer to all others."""
    connects: tuple[Connecting, ...] = ()
    """In the order of connecting, whoever does it."""
    limit: int = 2
    max_retries: int = 2
    timeouts: Timeouts = TIMEOUTS
    client_closed_at: float | None = None
