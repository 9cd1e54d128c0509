"""A client in numbers."""

from __future__ import annotations

import msgspec

__all__ = ["ClientStatistics"]


class ClientStatistics(msgspec.Struct, frozen=True):
    """Numbers of one moment; see `AsyncClient.statistics`."""

    open_calls: int
    """Calls that hold, or wait for, a slot of a limiter or a connection; open streams included."""
    idle_connections: int
    """Connections that are kept for the next call, 1000 at most."""
    active_connections: int
    """Connections that calls hold now."""
    connections_made: int
    """New connections since the client was made, failed ones not counted."""
    calls: int
    """Calls that began since the client was made."""
    attempts: int
    """Attempts that began: one for each call, and one for each time it was sent again."""
    completed: int
    """Calls whose answer was complete."""
    failed: int
    """Calls that ended in an error. The others were closed or cancelled, or are open."""
