"""What a scripted server remembers of a connection."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Literal, TypeAlias, TypeVar

from .script import Fault, RecordedRequest, Reset

if TYPE_CHECKING:
    from .stacks import Stack

Ended: TypeAlias = Literal["client closed", "reset", "server closed", "server stopped"]
"""Who ended a connection first, and how."""


@dataclass
class Connection:
    """What happened on one connection. Times are seconds on the event loop's clock."""

    number: int
    """Its number from 0, in the order of opening."""
    opened_at: float
    """When it was opened."""
    closed_at: float | None = None
    """When both sides had closed it: after an End, when the client has closed too."""
    ended: Ended | None = None
    """Who ended it first, and how; "reset" and "server closed" come from the script."""
    bytes_sent: int = 0
    """Bytes that the server sent. If the client stops reading, this stops after some buffers."""
    bytes_received: int = 0
    """Bytes that the client sent."""
    requests: list[RecordedRequest] = field(default_factory=list[RecordedRequest])
    """The whole requests that arrived."""
    in_flight: list[RecordedRequest] = field(default_factory=list[RecordedRequest])
    """The requests whose answer has not been sent completely."""
    used_at: Stack | None = None
    """Where the client's code opened it or sent the last request; only with `MemoryNetwork`."""

    dead: Fault | None = None
    """What the next request on it meets, after `kill_idle`."""

    @property
    def open(self) -> bool:
        """Whether the client still holds it."""
        return self.closed_at is None


C = TypeVar("C", bound=Connection)


class Records(Generic[C]):
    """What a scripted server remembers: every connection, request and error of its script."""

    def __init__(self) -> None:
        self.connections: list[C] = []
        """All connections, in the order of opening."""
        self.requests: list[RecordedRequest] = []
        """Whole requests, in the order of arrival."""
        self.errors: list[Exception] = []
        """Errors of the script, and requests that are not HTTP."""

    @property
    def open_connections(self) -> int:
        """How many connections the client has not closed yet."""
        return sum(connection.open for connection in self.connections)

    def kill_idle(self, fault: Fault = Reset()) -> int:  # noqa: B008 - frozen
        """Make all idle connections half-dead; return how many there are.

        The client cannot see it: its next request on such a connection is lost. What it meets
        then is `fault`: a reset, an end, or (`Stall`) silence.
        """
        idle = [each for each in self.connections if each.open and each.ended is None]
        idle = [each for each in idle if not each.in_flight]
        for connection in idle:
            connection.dead = fault
        return len(idle)

    @property
    def in_flight(self) -> list[RecordedRequest]:
        """The requests that are being answered, by connection."""
        return [request for each in self.connections for request in each.in_flight]
