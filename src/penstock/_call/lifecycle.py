"""The life of a stream as one table of states and edges, as in h11's `_state.py`.

    new ──SEND──> sending ──HEAD──> open ──FIRST_BYTE──> flowing ──FINISH──> completed
                   │  ^              │
                 RETRY│SEND        RETRY
                   v  │              │
                  waiting <──────────┘

FAIL leads from every live state to failed, CLOSE to closed. WITHDRAW takes an opening that
was cancelled back to new, as if nothing had been sent. Promise 10 in
docs/pages/internals/promises.md: a request is never sent again after the first byte of the
body, so no path leads from flowing back to sending. That edge is not refused by a check
somewhere: it is not in the table.
"""

from __future__ import annotations

import enum
from typing import Final

__all__ = ["TRANSITIONS", "Event", "InvalidTransition", "Lifecycle", "StreamState"]


class StreamState(enum.StrEnum):
    """Where a stream stands."""

    NEW = "new"
    """Nothing has been sent."""
    SENDING = "sending"
    """A request is on its way; no head of a response has come."""
    WAITING = "waiting"
    """Between two attempts: backoff, or a pause the server asked for."""
    OPEN = "open"
    """A success head has come, and no byte of the body."""
    FLOWING = "flowing"
    """The body has begun: from here on nothing is sent again."""
    COMPLETED = "completed"
    """The answer came whole."""
    FAILED = "failed"
    """It ended in an error."""
    CLOSED = "closed"
    """Closed by its owner before the end."""


class Event(enum.IntEnum):  # whose hash, unlike Enum's, is no call in Python
    """What moves a stream from one state to another."""

    SEND = enum.auto()
    """An attempt begins."""
    RETRY = enum.auto()
    """An attempt failed, and another one follows."""
    WITHDRAW = enum.auto()
    """The opening was cancelled."""
    HEAD = enum.auto()
    """A success head is in."""
    FIRST_BYTE = enum.auto()
    """The first byte of the body is in, or its end."""
    FINISH = enum.auto()
    """The answer is complete."""
    FAIL = enum.auto()
    """The call ends in an error."""
    CLOSE = enum.auto()
    """The call is closed, by its owner or with its client."""


TRANSITIONS: Final[dict[tuple[StreamState, Event], StreamState]] = {
    # opening
    (StreamState.NEW, Event.SEND): StreamState.SENDING,
    (StreamState.SENDING, Event.HEAD): StreamState.OPEN,
    (StreamState.OPEN, Event.FIRST_BYTE): StreamState.FLOWING,
    # another attempt
    (StreamState.SENDING, Event.RETRY): StreamState.WAITING,
    (StreamState.OPEN, Event.RETRY): StreamState.WAITING,
    (StreamState.WAITING, Event.SEND): StreamState.SENDING,
    # a cancelled opening
    (StreamState.SENDING, Event.WITHDRAW): StreamState.NEW,
    (StreamState.WAITING, Event.WITHDRAW): StreamState.NEW,
    # the end
    (StreamState.FLOWING, Event.FINISH): StreamState.COMPLETED,
    (StreamState.NEW, Event.FAIL): StreamState.FAILED,
    (StreamState.SENDING, Event.FAIL): StreamState.FAILED,
    (StreamState.WAITING, Event.FAIL): StreamState.FAILED,
    (StreamState.OPEN, Event.FAIL): StreamState.FAILED,
    (StreamState.FLOWING, Event.FAIL): StreamState.FAILED,
    (StreamState.NEW, Event.CLOSE): StreamState.CLOSED,
    (StreamState.SENDING, Event.CLOSE): StreamState.CLOSED,
    (StreamState.WAITING, Event.CLOSE): StreamState.CLOSED,
    (StreamState.OPEN, Event.CLOSE): StreamState.CLOSED,
    (StreamState.FLOWING, Event.CLOSE): StreamState.CLOSED,
    # closing what has ended changes nothing
    (StreamState.COMPLETED, Event.CLOSE): StreamState.COMPLETED,
    (StreamState.FAILED, Event.CLOSE): StreamState.FAILED,
    (StreamState.CLOSED, Event.CLOSE): StreamState.CLOSED,
}


class InvalidTransition(RuntimeError):
    """An event that has no edge from the present state: a bug in the caller."""


class Lifecycle:
    """One stream's place in the table; the base of what lives by it."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state: StreamState = StreamState.NEW
        """Where it stands."""

    def advance(self, event: Event) -> None:
        """Follow the edge of this event."""
        try:
            self.state = TRANSITIONS[self.state, event]
        except KeyError:
            raise InvalidTransition(f"a stream that is {self.state} has no {event.name}") from None
