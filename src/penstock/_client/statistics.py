"""A client in numbers."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import msgspec

from .._call.call import Service

if TYPE_CHECKING:
    from .._limiter.limiter import LimiterStatistics
    from ..observing.events import ClientMade

__all__ = ["ClientStatistics", "client_made", "client_statistics"]


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


def client_statistics(service: Service) -> ClientStatistics:
    """Return the figures of a client's service, and of those derived from it."""
    live, totals = service.all_live(), service.all_totals()
    return ClientStatistics(
        open_calls=len(live),
        idle_connections=service.connections.count_idle(),
        active_connections=sum(call.connected for call in live),
        connections_made=service.connections.made,
        calls=totals.calls,
        attempts=totals.attempts,
        completed=totals.completed,
        failed=totals.failed,
    )


def client_made(service: Service) -> ClientMade:
    """Return what observers are told of a new client; it does not keep the client alive."""
    from ..observing.events import ClientMade  # the observer has imported it

    reference = weakref.ref(service)

    def statistics() -> ClientStatistics | None:
        alive = reference()
        return None if alive is None or alive.closed else client_statistics(alive)

    def limiter_statistics() -> LimiterStatistics | None:
        alive = reference()
        if alive is None or alive.closed or alive.limiter is None:
            return None
        return alive.limiter.statistics()

    origin = service.connections.dialer.origin
    return ClientMade(
        origin.host,
        origin.port,
        service.provider,
        statistics,
        limiter_statistics,
        limiter=None if service.limiter is None else id(service.limiter),
    )
