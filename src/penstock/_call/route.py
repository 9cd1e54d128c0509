"""The way of one call over several servers: which of them gets the next attempt."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from .._http.outgoing import Outgoing
from .._policy.servers import Place, Server, Servers, is_failure
from ..errors import APIStatusError, PenstockError
from ..observing.notifier import Notifier
from .call import Service

__all__ = ["Fleet", "Route"]


class Fleet:
    """Several servers, what is known of them, and what calls need of each."""

    __slots__ = ("is_closed", "notifiers", "servers", "services")

    def __init__(self, services: Sequence[Service], servers: Servers) -> None:
        self.services: Sequence[Service] = services
        self.servers: Servers = servers
        """Shared by all fleets that send to these servers."""
        self.notifiers: Sequence[Notifier | None] = _shared(services)
        """Who is told of attempts at each server: one object where the observers are the same."""
        self.is_closed: bool = False
        """True once its owner has closed it."""

    @property
    def closed(self) -> bool:
        """True if no server takes a call any more."""
        return self.is_closed or all(service.closed for service in self.services)

    def is_closed_at(self, index: int) -> bool:
        """Return True if this client is closed."""
        return self.services[index].closed

    def is_in(self, server: Server) -> bool:
        """Return True if the server takes calls."""
        return not (server.failures or self.services[server.index].closed)

    def waits(self, index: int) -> bool:
        """Return True if a request to this server would wait for its limiter."""
        limiter = self.services[index].limiter
        if limiter is None:
            return False
        line = limiter.line
        if line.waiting or line.in_flight >= line.limit.limit:
            return True
        return line.held_back(line.clock.now())[0] > 0


class Route:
    """One call's attempts, each at a server of its own choice."""

    __slots__ = ("_outgoing", "_place", "_stays", "_tried", "fleet", "session")

    def __init__(
        self, fleet: Fleet, outgoing: Callable[[int], Outgoing], session: str | None
    ) -> None:
        self.fleet: Fleet = fleet
        self.session: str | None = session
        """Calls of one session go to one server."""
        self._outgoing = outgoing
        self._place: Place | None = None
        """The place of the current attempt, or of the last one."""
        self._tried: set[int] = set()
        """Servers that failed the call; all of them, and none counts."""
        self._stays = False

    def take(self, now: float, *, may_probe: bool) -> tuple[Service, Place] | None:
        """Return the service of the next attempt, and its place; None if all are closed."""
        fleet, last = self.fleet, self._place
        place: Place | None
        if self._stays and last is not None and fleet.is_in(last.server):
            place = fleet.servers.again(last.server)
        else:
            place = fleet.servers.take(
                now,
                session=self.session,
                tried=self._tried,
                may_probe=may_probe,
                closed=fleet.is_closed_at,
                waits=fleet.waits,
            )
        self._stays = False
        self._place = place
        return None if place is None else (fleet.services[place.server.index], place)

    def outgoing(self, place: Place) -> Outgoing:
        """Return the request as this server takes it."""
        return self._outgoing(place.server.index)

    def notifier(self, place: Place) -> Notifier | None:
        """Return who is told of attempts at this server."""
        return self.fleet.notifiers[place.server.index]

    @property
    def first_notifier(self) -> Notifier | None:
        """Who is told as long as no server is chosen; None if no server has observers."""
        notifiers = self.fleet.notifiers
        observed = any(notifier is not None for notifier in notifiers)
        return (notifiers[0] or Notifier()) if observed else None

    def answered(self, refusal: APIStatusError | None, now: float) -> None:
        """Note that the server has answered the current attempt, with a refusal or without."""
        if refusal is not None:
            self.failed(refusal, now)
        elif self._place is not None:
            self.fleet.servers.answered(self._place)

    def rests(self, now: float, pause: float) -> None:
        """Note that the server wants no request for so many seconds."""
        if self._place is not None:
            self.fleet.servers.rests(self._place, now, pause)

    def failed(self, error: PenstockError, now: float) -> None:
        """Learn from the failure of the current attempt, before the first byte."""
        place = self._place
        if place is None:
            return
        if is_failure(error):
            pause = max(0.0, place.server.rests_until - now)
            self.fleet.servers.failed(place, now, random.random(), pause)
        elif isinstance(error, APIStatusError):
            self.fleet.servers.answered(place)

    def goes_elsewhere(self, now: float, *, may_probe: bool) -> bool:
        """Return True if another server can take the request at once, as the last one failed."""
        if self._place is not None:
            self._tried.add(self._place.server.index)
        fleet = self.fleet
        elsewhere = fleet.servers.has_another(
            now,
            session=self.session,
            tried=self._tried,
            may_probe=may_probe,
            closed=fleet.is_closed_at,
            waits=fleet.waits,
        )
        if not elsewhere and len(self._tried) == len(fleet.services):
            # A new round, which begins with those that did not just fail.
            self._tried = set() if self._place is None else {self._place.server.index}
        return elsewhere

    def stay(self) -> None:
        """Have the next attempt made at the same server: only a connection was dead."""
        self._stays = True


def _shared(services: Sequence[Service]) -> list[Notifier | None]:
    notifiers: list[Notifier | None] = []
    for service in services:
        notifier = service.notifier
        same = (each for each in notifiers if each is not None and each.tells_as(notifier))
        notifiers.append(next(same, notifier))
    return notifiers
