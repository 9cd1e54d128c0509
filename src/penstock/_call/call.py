"""A call, and what it needs of the client it is made on."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Protocol
from weakref import WeakValueDictionary

import msgspec

from .._http.connections import Connections
from .._http.outgoing import Outgoing
from .._http.pieces import Run
from ..timeouts import Timeouts

if TYPE_CHECKING:
    from .._limiter.limiter import Limiter
    from ..observing.notifier import Notifier
    from .route import Route

__all__ = ["Call", "Service", "Totals"]


class Call(msgspec.Struct, frozen=True):
    """One call, ready to be sent."""

    outgoing: Outgoing
    """The request, without its API key."""
    timeouts: Timeouts
    """The deadlines of this call."""
    max_retries: int
    """How often it may be sent again."""
    streaming: bool
    """Whether the deadlines between tokens apply."""
    model: str | None = None
    """The model asked, for observers; None at endpoints that have none."""
    choices: int = 1
    """How many choices the request asks for."""
    any_status: bool = False
    """Whether an answer with any status is one; else a refusal is an APIStatusError."""
    encoded: bool = False
    """Whether the body is given as it was sent, in its content coding."""
    write_timeout: float | None = None
    """Seconds in which the server takes no byte of the request; None leaves that to `read`."""
    check_end: bool = False
    """Whether the bytes of a known kind of event stream must end as such a stream does."""
    quiet: bool = False
    """Whether a stream that is dropped while it is open just closes, without a warning."""
    renew: Callable[[int], Awaitable[Mapping[bytes, bytes]]] | None = None
    """Gives the headers that are others when it is sent again, from how many attempts failed."""
    route: Route | None = None
    """Chooses the server of each attempt; None if there is one server."""


class Live(Protocol):
    """Who holds a slot or a connection."""

    @property
    def connected(self) -> bool: ...
    def interrupt(self) -> None: ...
    async def settle(self) -> None: ...
    def abort(self) -> None: ...


class Totals(msgspec.Struct, eq=False):
    """What a client has done so far."""

    calls: int = 0
    """Calls that began."""
    attempts: int = 0
    """Attempts that began; one for each call, and one for each time it was sent again."""
    completed: int = 0
    """Calls whose answer was complete."""
    failed: int = 0
    """Calls that ended in an error."""


class Service(msgspec.Struct, eq=False, weakref=True):
    """What calls need of their client."""

    connections: Connections
    """The client's connections to its server."""
    limiter: Limiter | None
    """The client's limiter."""
    notifier: Notifier | None
    """Calls the client's observer."""
    authorize: Callable[[], Awaitable[str | None]]
    """Gives the API key, anew for each attempt: a callable's keys may expire."""
    max_retry_wait: float
    """Seconds; a server that asks for a longer wait is not waited for."""
    asks_for_key: bool = True
    """Whether the key is asked for, which may take any time; else it is known."""
    run: Run | None = None
    """Runs what may block, where calls are made for threads that wait; None: where they are."""
    provider: str | None = None
    """Name of the provider whose rules the client follows, for observers."""
    totals: Totals = msgspec.field(default_factory=Totals)
    """Counts since the client was made."""
    server: str = ""
    """The base URL, for observers."""
    live: set[Live] = msgspec.field(default_factory=lambda: set[Live]())
    """The senders, not the streams themselves, which their owners may have abandoned."""
    closed: bool = False
    """Whether the client is closed: no call begins any more."""
    recent_keys: deque[str] = msgspec.field(default_factory=lambda: deque[str](maxlen=16))
    """API keys of the last calls: a server may send back an earlier one."""

    owner: Service | None = None
    """The service that this one was derived from, whose connections it uses."""
    derived: WeakValueDictionary[int, Service] = msgspec.field(
        default_factory=lambda: WeakValueDictionary[int, Service]()
    )
    """Services that use these connections with other settings, by `id`; they end with this one."""

    # Crash reporters show the variables of every frame: show no key there.
    def __repr__(self) -> str:
        return f"<Service {self.server}>"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("server", self.server)]

    def derive(
        self,
        *,
        authorize: Callable[[], Awaitable[str | None]] | None,
        asks_for_key: bool | None,
        limiter: Limiter | None,
        notifier: Notifier | None,
        max_retry_wait: float | None,
    ) -> Service:
        """Return a service on the same connections; what is None stays as it is here."""
        service = Service(
            connections=self.connections,
            limiter=self.limiter if limiter is None else limiter,
            notifier=self.notifier if notifier is None else notifier,
            authorize=self.authorize if authorize is None else authorize,
            max_retry_wait=self.max_retry_wait if max_retry_wait is None else max_retry_wait,
            asks_for_key=self.asks_for_key if asks_for_key is None else asks_for_key,
            run=self.run,
            provider=self.provider,
            server=self.server,
            closed=self.closed,
            recent_keys=self.recent_keys,
            owner=self,
        )
        self.derived[id(service)] = service
        return service

    def all_live(self) -> list[Live]:
        """Return who holds something, those of derived services included."""
        return [sender for service in self._all() for sender in list(service.live)]

    def all_totals(self) -> Totals:
        """Return the counts so far, those of derived services that are still used included."""
        totals = [service.totals for service in self._all()]
        return Totals(
            calls=sum(each.calls for each in totals),
            attempts=sum(each.attempts for each in totals),
            completed=sum(each.completed for each in totals),
            failed=sum(each.failed for each in totals),
        )

    def close(self) -> None:
        """Cut every open call and all connections now, from anywhere.

        A derived service leaves the connections to its owner.
        """
        for service in self._all():
            service.closed = True
            for sender in list(service.live):
                sender.abort()
        if self.owner is None:
            self.connections.close()

    async def aclose(self, grace: float | None) -> None:
        """Close every open call at once, then the idle connections gracefully.

        A derived service leaves the connections to its owner.
        """
        services = self._all()
        for service in services:
            service.closed = True
        try:
            for service in services:
                for sender in list(service.live):
                    sender.interrupt()
                    await sender.settle()
        finally:
            for service in services:
                for sender in list(service.live):
                    sender.abort()
            if self.owner is None:
                await self.connections.aclose(grace)  # noqa: ASYNC102 - shielded inside, for `grace` seconds

    def _all(self) -> list[Service]:
        """Return this service and those derived from it, at any depth."""
        services: list[Service] = [self]
        for service in services:
            # References, because other threads may ask while services come and go.
            derived = (reference() for reference in service.derived.valuerefs())
            services.extend(each for each in derived if each is not None)
        return services
