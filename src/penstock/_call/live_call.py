"""A call under way: what is known of it, what it holds, and how it ends.

Every end is here, from any task, from garbage collection and from another thread. Each of them
moves the call on in the table of `lifecycle`, tells limiters and observers what became of it, and
gives back slot and connection.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

import anyio
import msgspec

from .._http.exchange import Exchange
from .._policy.deadlines import Deadlines
from ..errors import PenstockError, StreamClosedError
from ..headers import request_id
from ..timeouts import Timeouts
from ..types import Usage
from . import log
from .call import Call, Service
from .faults import public_error
from .held import NO_SLOTS
from .lifecycle import Event, Lifecycle, StreamState
from .phases import Phases
from .place import add_place
from .secrets import Secrets

if TYPE_CHECKING:
    from .._policy.servers import Place
    from ..observing.events import Outcome
    from .reports import Reports, Summary
    from .route import Route

__all__ = ["LiveCall"]

E = TypeVar("E", bound=PenstockError)


NOT_YET: Final = Deadlines(Timeouts(), total_at=math.inf, streaming=False)
"""The limits of calls that have no exchange yet."""


class LiveCall(Lifecycle):
    """One call from its beginning to its end."""

    __slots__ = (
        "_interrupted",
        "_key",
        "_place",
        "_scope",
        "_secrets_before",
        "_slots",
        "attempts",
        "call",
        "clock",
        "exchange",
        "headers_at",
        "limits",
        "phases",
        "reports",
        "route",
        "service",
        "started",
    )

    def __init__(self, service: Service, call: Call) -> None:
        super().__init__()
        self.service: Service = service
        self.call: Call = call
        self.route: Route | None = call.route
        """Chooses the server of each attempt; None if there is one server, or no other attempt."""
        notifier = service.notifier
        if self.route is not None:
            notifier = self.route.first_notifier
        self.reports: Reports | None = None
        if notifier is not None:
            from .reports import Reports  # most clients have no observer

            self.reports = Reports(notifier, call, service.connections.dialer, service.provider)
            self.reports.server = service.server
        self.attempts: int = 0
        """Requests sent so far."""
        self.clock: Callable[[], float] = anyio.current_time
        self.started: float = math.nan
        """When the call began, on the event loop's clock; NaN until then."""
        self.headers_at: float = math.nan
        """When the head of the success response was in; NaN until then."""
        self.limits: Deadlines = NOT_YET
        self.phases: Phases = Phases()
        """Where the time went until the body."""
        self._key: str | None = None
        """The key of the current attempt; None where none is sent."""
        self._secrets_before: Secrets | None = None
        """Those of the attempts before, where they had another key or server, or other headers."""
        self.exchange: Exchange | None = None
        """The exchange of the current attempt, or of the last one."""
        self._slots = NO_SLOTS
        self._place: Place | None = None
        """The current attempt's place at one of several servers."""
        self._scope: anyio.CancelScope | None = None
        """Around what a task in `open` waits for, if that is not a connection."""
        self._interrupted = False

    @property
    def wants_usage(self) -> bool:
        """True if somebody is told what the call has cost."""
        return self.reports is not None or self._slots.metered

    @property
    def secrets(self) -> Secrets:
        """What its errors must not show."""
        return Secrets(self.service, self.call.outgoing, self._key, self._secrets_before)

    @property
    def connected(self) -> bool:
        """Whether it holds a connection."""
        exchange = self.exchange
        return exchange is not None and not exchange.settled

    def translate(self, error: Exception) -> Exception:
        """Return the public error for an error of the layers below; anything unknown as it is."""
        return public_error(error, self.exchange)

    def describe(self, error: E) -> E:
        """Return the error, which from now on says where the request went, and no secret."""
        secrets = self.secrets
        add_place(error, self.service, self.call.outgoing, secrets)
        return secrets.mask(error)

    # --- the body ---

    def body_began(self) -> None:
        """The first byte of the body is in: from here on nothing is sent again."""
        self.advance(Event.FIRST_BYTE)
        if self.call.streaming and self.exchange is not None:
            # It may last for hours. Prompts and heads are most of what an idle stream holds.
            self.exchange.headers.pack()
            outgoing = msgspec.structs.replace(self.call.outgoing, body=b"", pieces=None)
            self.call = msgspec.structs.replace(self.call, outgoing=outgoing, route=None)
            self.route = None
            if self.reports is not None:
                self.reports.forget_body(self.call)

    async def read_failed(self, error: Exception) -> PenstockError:
        """Return the public error of a read that failed.

        The state says what it means: still open, and `open` may send the request again; flowing,
        and it is the call's failure. Raises StreamClosedError where this side closed the call,
        and an unknown error as it is.
        """
        if self.state is StreamState.CLOSED:
            raise StreamClosedError("the stream was closed while it was being read") from None
        public = self.translate(error)
        if not isinstance(public, PenstockError):
            raise error
        if self.service.closed or isinstance(public, StreamClosedError):
            self.advance(Event.CLOSE)
            await self.settle()
            raise StreamClosedError("the client was closed while the stream was being read")
        if public is not error:
            public.__cause__ = error
        exchange = self.exchange
        if self.state is StreamState.OPEN and exchange is not None and exchange.body_bytes:
            # Framing without content: bytes of the body all the same.
            self.body_began()
        return public

    # --- the end ---

    def finish(self, usage: Callable[[], Usage | None]) -> None:
        """The answer is complete: the slot goes back, an adaptive limiter counts a success.

        `usage` returns the tokens that it has cost, for limiters that count them; so in the
        other ends.
        """
        self.advance(Event.FINISH)
        self._ended("completed")
        if self._slots.metered:
            self._slots.settle_tokens(usage())
        exchange = self.exchange
        if exchange is None or exchange.status < 400:
            self._slots.succeeded()
        self._release()

    async def fail(self, error: PenstockError, usage: Callable[[], Usage | None]) -> None:
        """The answer failed: record it, give everything back, and raise the error."""
        self.advance(Event.FAIL)
        if self._slots.metered:
            self._slots.settle_tokens(usage())
        seconds, received = self._so_far()
        log.broke_off(self.call, self.service, error, seconds=seconds, received=received)
        self._ended("failed")
        try:
            await self.settle()
            raise error
        finally:
            del error  # its traceback holds this frame

    async def close(self, usage: Callable[[], Usage | None]) -> None:
        """End the call from any task: a task in `open` raises StreamClosedError. Idempotent.

        A completed call waits a moment for the end of its body, to reuse the connection.
        """
        before = self.state
        completed = before is StreamState.COMPLETED
        if completed and not self.connected:
            self.service.live.discard(self)
            return
        self.advance(Event.CLOSE)
        if self._slots.metered:
            self._slots.settle_tokens(usage())
        if before is not self.state and not math.isnan(self.started):
            self._ended("closed")
        self.interrupt()
        await self.settle(drain=completed)

    def interrupt(self) -> None:
        """Break off an `open` that another task is in; it raises StreamClosedError.

        Where that waits for its connection, the closing of that does it, which must follow.
        """
        self._interrupted = True
        if self._scope is not None:
            self._scope.cancel()

    async def settle(self, *, drain: bool = False) -> None:
        """Give back slots and connection; the latter is reused only after a whole answer.

        `drain` waits a moment for an end of the body that is on its way. Idempotent. Cancelled,
        the connection is closed all the same.
        """
        self.service.live.discard(self)
        self._release()
        if self.exchange is not None:
            await self.exchange.aclose(drain=drain)

    def abort(self) -> None:
        """Cut everything now, without waiting; for `__del__`."""
        self.service.live.discard(self)
        if self.exchange is not None:
            self.exchange.close()
        self._release()

    def _release(self) -> None:
        """Give the slots back, and the place at the server. Idempotent."""
        slots = self._slots
        if slots.metered and self.exchange is not None and not self.exchange.began:
            slots.withdraw()
        slots.release()
        if self._place is not None:
            self._place.release()
            self._place = None

    def _so_far(self) -> tuple[float, int]:
        """Return the seconds since the start, and the bytes of the body received."""
        exchange = self.exchange
        return self.clock() - self.started, 0 if exchange is None else exchange.body_bytes

    def _ended(self, outcome: str) -> None:
        """Count and log the end of the call."""
        totals = self.service.totals
        totals.completed += outcome == "completed"
        totals.failed += outcome == "failed"
        log.ended(self.call, outcome, self.attempts, self._so_far)

    def report_finished(
        self,
        outcome: Outcome,
        error: Exception | None,
        summary: Callable[[float], Summary],
    ) -> None:
        """Tell the observers, if there are any, that the call is over; once."""
        if self.reports is None or self.reports.over:
            return
        try:
            now = self.clock()
        except RuntimeError:  # trio's has ended: the stream is collected after its run
            now = self.limits.now
        self.reports.finished(
            outcome,
            error,
            summary,
            attempts=self.attempts,
            request_id=self._request_id(self.reports),
            now=now,
        )

    def _request_id(self, reports: Reports) -> str | None:
        """Return the server's id of the request, as observers are told it."""
        exchange = self.exchange
        sent = None if exchange is None else request_id(exchange.headers)
        if sent is None:
            return None
        if reports.shown_id is None or reports.shown_id[0] != sent:
            reports.shown_id = (sent, self.secrets.mask_text(sent))
        return reports.shown_id[1]
