"""What a scripted server remembers of a connection."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Literal, TypeAlias, TypeVar

from .script import RecordedRequest

if TYPE_CHECKING:
    from .stacks import Stack

Ended: TypeAlias = Literal["client closed", "reset", "server closed", "server stopped"]


@dataclass
class Connection:
    """What happened on one connection; times are those of the event loop's clock."""

    number: int
    """From 0, in the order of their opening."""
    opened_at: float
    closed_at: float | None = None
    """When it was closed by both sides: after an End, when the client has closed too."""
    ended: Ended | None = None
    """Who ended it first, and how: "reset" and "server closed" are the script's doing."""
    bytes_sent: int = 0
    """By the server. A client that stops reading stops this as well, some buffers later."""
    bytes_received: int = 0
    requests: list[RecordedRequest] = field(default_factory=list[RecordedRequest])
    """The whole ones."""
    in_flight: list[RecordedRequest] = field(default_factory=list[RecordedRequest])
    """Those of them whose answer is not out yet."""
    used_at: Stack | None = None
    """Where in the client's code it was opened, or the last request sent; in memory only."""

    @property
    def open(self) -> bool:
        """Whether the client still holds it."""
        return self.closed_at is None


C = TypeVar("C", bound=Connection)


class Records(Generic[C]):
    """What a scripted server remembers: every connection, request and error of its script."""

    def __init__(self) -> None:
        self.connections: list[C] = []
        self.requests: list[RecordedRequest] = []
        """Whole requests in the order in which they came."""
        self.errors: list[Exception] = []
        """Of the script, or of a request that is not HTTP."""

    @property
    def open_connections(self) -> int:
        """How many connections the client has not closed yet."""
        return sum(connection.open for connection in self.connections)

    @property
    def in_flight(self) -> list[RecordedRequest]:
        """The requests that are being answered, by connection."""
        return [request for each in self.connections for request in each.in_flight]
