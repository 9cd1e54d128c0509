"""A call, and what it needs of the client it is made on."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from .._http.connections import Connections
from .._http.outgoing import Outgoing
from .._limiter.limiter import Limiter
from ..observing import Notifier
from ..timeouts import Timeouts

__all__ = ["Call", "Service"]


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


class Live(Protocol):
    """Who holds a slot or a connection."""

    def interrupt(self) -> None: ...
    async def settle(self) -> None: ...
    def abort(self) -> None: ...


class Service(msgspec.Struct, eq=False):
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
    live: set[Live] = msgspec.field(default_factory=lambda: set[Live]())
    """The senders, not the streams themselves, which their owners may have abandoned."""
    closed: bool = False
    """Whether the client is closed: no call begins any more."""
    recent_keys: deque[str] = msgspec.field(default_factory=lambda: deque[str](maxlen=16))
    """API keys of the last calls: a server may send back an earlier one."""

    def close(self) -> None:
        """Cut every open call and all connections now, from anywhere."""
        self.closed = True
        for sender in list(self.live):
            sender.abort()
        self.connections.close()

    async def aclose(self, grace: float | None) -> None:
        """Close every open call at once, then the idle connections gracefully."""
        self.closed = True
        try:
            for sender in list(self.live):
                sender.interrupt()
                await sender.settle()
        finally:
            for sender in list(self.live):
                sender.abort()
            await self.connections.aclose(grace)  # noqa: ASYNC102 - shielded inside, for `grace` seconds
