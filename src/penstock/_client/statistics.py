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
