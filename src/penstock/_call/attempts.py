"""One call's machine: attempts until the first byte of the answer's body, then the end.

`Sender` serves every call, streamed or whole. It alone moves the call through the table of
`lifecycle`, so the rule "never sent again after the first byte" has one home:

                     refused, or failed before the first byte
                   ┌──────────────── RETRY ────────────────┐
                   v                                        │
    NEW ─SEND─> SENDING ─HEAD─> OPEN ─FIRST_BYTE─> FLOWING ─FINISH─> COMPLETED
         open()  │  ^            │   body_began()     │     finish()
                 v  │            v                    v
               WAITING       read_failed()        fail(), close()

What it defends against:

- A cancellation may arrive at any await. What is known is in fields, changed only after an await
  has returned, so `open` can be called again: it keeps to the wait it was in (`_due`), goes on
  waiting for a head that is on its way, and counts a refusal whose body was not read to its end
  (`_pending`).
- Another task may close the call meanwhile. `interrupt` cancels the scope that `open` is in;
  nothing else in here may swallow a cancellation.
- A slot of a limiter is held from before the connection is made until the answer is over, and
  never during a back-off.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence

import anyio
import msgspec

from .._http import lazy
from .._http.exchange import Exchange
from .._http.network import ConnectionFailed, without_frames
from .._http.outgoing import Outgoing
from .._loops import event_loop_clock
from .._policy.deadlines import ConnectDeadline, Deadlines, UploadDeadline
from .._policy.retry import retries_stale, retry_delay, sibling_pause
from ..errors import APIStatusError, PenstockError, StreamClosedError, TotalTimeout
from ..headers import request_id
from ..observing.events import Outcome
from ..types import Usage
from . import log
from .call import Call, Service
from .faults import public_error
from .held import Held
from .lifecycle import Event, Lifecycle, StreamState
from .phases import Phase, Phases
from .refusal import ERROR_BODY_SECONDS, read_refusal, refusal_error
from .reports import Reports, Summary
from .route import Route
from .secrets import Secrets

__all__ = ["Sender"]


class Sender:
    """Sends one call, again where that is allowed, and settles what it took."""

    __slots__ = (
        "_added_headers",
        "_body_until",
        "_due",
        "_failures",
        "_fresh",
        "_held",
        "_pending",
        "_scope",
        "_total_at",
        "attempts",
        "call",
        "clock",
        "headers_at",
        "lifecycle",
        "limits",
        "phases",
        "reports",
        "route",
        "secrets",
        "service",
        "started",
    )

    def __init__(self, service: Service, call: Call) -> None:
        self.service: Service = service
        self.call: Call = call
        self.lifecycle: Lifecycle = Lifecycle()
        self.route: Route | None = call.route
        """Chooses the server of each attempt; None if there is one server."""
        notifier = service.notifier
        if self.route is not None:
            notifier = self.route.first_notifier
        self.reports: Reports | None = None
        if notifier is not None:
            self.reports = Reports(notifier, call, service.connections.dialer, service.provider)
            self.reports.server = service.server
        self.attempts: int = 0
        """Requests sent so far."""
        self.clock: Callable[[], float] = anyio.current_time
        self.started: float = math.nan
        """When the call began, on the event loop's clock; NaN until then."""
        self.headers_at: float = math.nan
        """When the head of the success response was in; NaN until then."""
        self.limits: Deadlines = Deadlines(
            call.timeouts, total_at=math.inf, streaming=call.streaming
        )
        self.phases: Phases = Phases()
        """Where the time went until the body."""
        self.secrets: Secrets = Secrets(service, call.outgoing)
        self._added_headers: Sequence[tuple[bytes, bytes]] = ()
        """What the observers add to the request."""
        self._held = Held()
        self._failures = 0
        """Failed attempts, without those that only met a dead idle connection."""
        self._fresh = False
        """True once an idle connection was found dead: the others may be dead, too."""
        self._pending: PenstockError | None = None
        """An attempt's failure that has not led to another attempt or to an error yet."""
        self._due = -math.inf
        """When the next attempt may be sent."""
        self._total_at = math.inf
        self._scope: anyio.CancelScope | None = None
        """Around `open`, while a task is in it."""
        self._body_until = math.inf

    @property
    def exchange(self) -> Exchange | None:
        """The exchange of the current attempt, or of the last one."""
        return self._held.exchange

    @property
    def wants_usage(self) -> bool:
        """True if somebody is told what the call has cost."""
        return self.reports is not None or self._held.metered

    @property
    def connected(self) -> bool:
        """Whether it holds a connection."""
        exchange = self.exchange
        return exchange is not None and not exchange.settled

    # --- opening ---

    async def open(
        self, failed: PenstockError | None = None, *, resumable: bool = False
    ) -> Exchange:
        """Send until a success head is in, and return its exchange.

        `failed` is the error of an exchange that broke off before the first byte of its
        body: it counts as a failed attempt, raised here if nothing is sent again. Raises a
        PenstockError when out of attempts. Whenever it raises, nothing is held; a cancelled
        one can be opened again, and keeps to the wait it was in. With `resumable` a cancelled
        wait for the head, or for a refusal's body, keeps the connection, and opening again
        goes on waiting.
        """
        if math.isnan(self.started):
            await self._begin()
        if failed is not None:
            self._pending = failed
        scope = anyio.CancelScope(deadline=self._total_at)
        self._scope = scope
        try:
            with scope:
                while True:
                    if self._pending is not None:
                        await self._prepare_retry(self._pending)
                    if self._is_closed:
                        raise StreamClosedError("the client is closed")
                    if self._due > -math.inf and self._due > self.clock():
                        await anyio.sleep_until(self._due)
                    try:
                        return await self._attempt()
                    except StreamClosedError:
                        raise
                    except PenstockError as error:
                        self._pending = error
        except StreamClosedError:
            # The stream's owner did it, or the client's.
            self.lifecycle.advance(Event.CLOSE)
            await self.settle()  # noqa: ASYNC120 - closing shields what it must
            raise
        except PenstockError as error:
            self._step(Event.FAIL)
            self._ended("failed")
            self.secrets.mask(error)
            raise
        except BaseException:
            if resumable and self._goes_on():
                raise
            exchange = self.exchange
            if self._pending is None and exchange is not None and exchange.refused:
                # The caller will not wait for the rest of its body, but it was refused.
                self._pending = self._refused(refusal_error(exchange, exchange.collected))
            if self._pending is None and self.lifecycle.state in (
                StreamState.SENDING,
                StreamState.WAITING,
            ):
                self.lifecycle.advance(Event.WITHDRAW)
            await self.settle()  # noqa: ASYNC102 - closing shields what it must
            raise
        finally:
            self._scope = None
        # The scope swallowed its own cancellation: closed from elsewhere, or out of time.
        if self.service.closed:
            self.lifecycle.advance(Event.CLOSE)
        await self.settle()
        self._step(Event.FAIL)
        raise TotalTimeout(
            f"not finished within {self.call.timeouts.total:g} s in all (Timeouts.total)"
        )

    def _step(self, event: Event) -> None:
        """Move on, unless the stream was closed by another task in the meantime."""
        if self.lifecycle.state is StreamState.CLOSED:
            raise StreamClosedError("the stream was closed while it was being opened")
        self.lifecycle.advance(event)

    async def _begin(self) -> None:
        if not lazy.is_ready():
            # Before the clock starts: only the first request of a process waits for it.
            try:
                await lazy.ready()
            except ConnectionFailed as error:
                self._step(Event.FAIL)
                raise self.translate(error) from error
        self.clock = event_loop_clock()
        self.started = now = self.clock()
        if self.call.timeouts.total is not None:
            self._total_at = now + self.call.timeouts.total
        if self.route is not None:
            self._choose_server(self.route)
        self.service.totals.calls += 1
        log.began(self.call, self.service)
        if self.reports is not None:
            self.reports.request_started(now)
            self._added_headers = self.reports.request_headers()

    @property
    def _is_closed(self) -> bool:
        return self.service.closed if self.route is None else self.route.fleet.closed

    def _choose_server(self, route: Route) -> None:
        """Take a place at the server of the next attempt, if there is an open one."""
        self.service.live.discard(self)
        # A request that may not be sent again does not find out whether a server is back.
        chosen = route.take(self.clock(), may_probe=self._failures < self.call.max_retries)
        if chosen is None:
            return
        service, self._held.place = chosen
        if service is self.service:
            return
        self.service = service
        self.call = msgspec.structs.replace(self.call, outgoing=route.outgoing(self._held.place))
        self.secrets.add_server(service, self.call.outgoing)
        self._held.forget_slots()
        self._fresh = False
        if self.reports is not None:
            self.reports.move(self.call, service, route.notifier(self._held.place))

    def _goes_on(self) -> bool:
        """Whether an attempt is out whose answer, a head or a whole refusal, is not in."""
        exchange = self.exchange
        return exchange is not None and (exchange.awaits_head or exchange.refused)

    async def _attempt(self) -> Exchange:
        try:
            exchange = self.exchange
            if exchange is None or not self._goes_on():
                exchange = await self._connect()
            if not exchange.status:
                await exchange.send(self._signed())
                if self._held.metered:
                    self._held.head_arrived(exchange.headers, self.service.max_retry_wait)
            if not (200 <= exchange.status < 300 or self.call.any_status):
                # A point in time: a wait that is broken off and resumed does not put it off.
                self._body_until = min(self._body_until, self.clock() + ERROR_BODY_SECONDS)
                raise self._refused(await read_refusal(exchange, self._body_until))
        except PenstockError:
            raise
        except Exception as error:
            public = self.translate(error)
            if public is error:
                raise
            raise public from error
        refusal = None
        if exchange.status >= 400:  # an answer like any other, but not to the limiters
            refusal = self._refused(refusal_error(exchange, b""))
        self._step(Event.HEAD)
        if self.route is not None:
            self.route.answered(refusal, self.clock())
        self.headers_at = self.limits.now
        self.phases.enter(Phase.BODY, self.headers_at)
        log.answered(self.call, self.attempts, exchange.status, self.headers_at - self.started)
        if self.reports is not None:
            self.reports.response_started(
                self.attempts, exchange.status, self._request_id(), self.headers_at
            )
        return exchange

    async def _connect(self) -> Exchange:
        """Take slots, then a connection, and return an exchange on it."""
        timeouts, held = self.call.timeouts, self._held
        if self.route is not None and held.place is None:
            self._choose_server(self.route)
            if held.place is None:
                raise StreamClosedError("the client is closed")
        service = self.service
        self._step(Event.SEND)
        self.attempts += 1
        self.service.totals.attempts += 1
        # What the attempt before has received says nothing about this one.
        held.exchange = None
        self._body_until = math.inf
        service.live.add(self)
        self.phases.enter(Phase.SLOT, self.clock())
        await held.take_slots(service.limiter, timeouts.slot, self.call.outgoing.body)
        self.phases.enter(Phase.CONNECTION, self.clock())
        self.secrets.add_key(service, await service.authorize())
        if self.call.renew is not None and self._failures:
            self._renew(await self.call.renew(self._failures))
        pieces = self.call.outgoing.pieces
        # A body that can be sent once is not risked on a connection that may be dead.
        fresh = self._fresh or (pieces is not None and pieces.once)
        began = self.clock()
        connecting = ConnectDeadline(timeouts, now=began, total_at=self._total_at)
        stream, reused = await service.connections.acquire(connecting, fresh=fresh)
        self.limits = Deadlines(timeouts, total_at=self._total_at, streaming=self.call.streaming)
        self.limits.now = now = self.clock()
        self.phases.enter(Phase.HEAD, now)
        log.connected(service, self.attempts, reused=reused, seconds=now - began)
        held.exchange = Exchange(
            service.connections,
            stream,
            self.limits,
            reused=reused,
            encoded=self.call.encoded,
            uploading=self._upload_deadline(),
        )
        if service.closed:
            # `close()`, unlike `aclose()`, does not interrupt the waits above.
            raise StreamClosedError("the client is closed")
        if held.metered:
            held.sent()
        return held.exchange

    def _upload_deadline(self) -> UploadDeadline | None:
        limit = self.call.write_timeout
        return None if limit is None else UploadDeadline(self.limits, limit)

    def _renew(self, headers: Mapping[bytes, bytes]) -> None:
        """Take new values of headers, by their lower-case names."""
        outgoing = self.call.outgoing
        fields = [(name, headers.get(name.lower(), value)) for name, value in outgoing.headers]
        outgoing = msgspec.structs.replace(outgoing, headers=fields)
        self.call = msgspec.structs.replace(self.call, outgoing=outgoing)
        self.secrets.add_request(self.service, outgoing)

    def _signed(self) -> Outgoing:
        outgoing, key = self.call.outgoing, self.secrets.key
        added = list(self._added_headers)
        if key is not None:
            added.append((b"Authorization", b"Bearer " + key.encode("ascii")))
        if not added:
            return outgoing
        present = {name.lower() for name, _ in outgoing.headers}
        added = [field for field in added if field[0].lower() not in present]
        return msgspec.structs.replace(outgoing, headers=[*outgoing.headers, *added])

    def _refused(self, error: APIStatusError) -> APIStatusError:
        """Tell the limiters of a refusal, and return it."""
        pause = sibling_pause(
            error,
            failures=self._failures + 1,
            random=random.random(),
            max_wait=self.service.max_retry_wait,
        )
        self._held.refused(error, pause)
        if self.route is not None and pause is not None:
            self.route.rests(self.clock(), pause)
        return error

    # --- after a failure ---

    async def _prepare_retry(self, error: PenstockError) -> None:
        """Set when the request is sent again, or raise the error when it is not."""
        self.phases.fail(self.clock())
        exchange = self.exchange
        stale = exchange is not None and exchange.may_be_stale
        if self.route is not None and not (stale and retries_stale(error)):
            self.route.failed(error, self.clock())
        # The only wait comes first: cancelled in it, the failure is still pending.
        await self.settle()
        self.secrets.mask(error)
        self._pending = None
        self._fresh = self._fresh or stale
        # A dead idle connection costs no retry, and the next attempt uses a new connection.
        self._failures += not stale
        cause = error.__cause__
        delay = retry_delay(
            error,
            failures=self._failures,
            max_retries=self.call.max_retries,
            random=random.random(),
            stale=stale,
            permanent=isinstance(cause, ConnectionFailed) and cause.permanent,
            elsewhere=self.route is not None and self._goes_elsewhere(self.route, error, stale),
            max_wait=self.service.max_retry_wait,
        )
        pieces = self.call.outgoing.pieces
        if pieces is not None and pieces.spent:
            delay = None
        if delay is not None:
            without_frames(error)
        if self.reports is not None:
            self.reports.attempt_failed(self.attempts, error, delay, self.clock())
        if delay is None:
            raise error
        # Neither connection nor slot is held while waiting, not even a lent one.
        self._held.step_aside()
        self._step(Event.RETRY)
        log.retrying(self.call, self.attempts, error, delay)
        self._due = self.clock() + delay
        # So that a client that is closed ends the wait as well.
        self.service.live.add(self)

    def _goes_elsewhere(self, route: Route, error: PenstockError, stale: bool) -> bool:
        """Whether another server takes the request, after the last one has failed it."""
        if stale and retries_stale(error):
            route.stay()
            return False
        return route.goes_elsewhere(self.clock(), may_probe=self._failures < self.call.max_retries)

    def translate(self, error: Exception) -> Exception:
        """Return the public error for an error of the layers below; anything unknown as it is."""
        return public_error(error, self.exchange)

    # --- the body ---

    def body_began(self) -> None:
        """The first byte of the body is in: from here on nothing is sent again."""
        self.lifecycle.advance(Event.FIRST_BYTE)

    async def read_failed(self, error: Exception) -> PenstockError:
        """Return the public error of a read that failed.

        The state says what it means: still open, and `open` may send the request again; flowing,
        and it is the call's failure. Raises StreamClosedError where this side closed the call,
        and an unknown error as it is.
        """
        if self.lifecycle.state is StreamState.CLOSED:
            raise StreamClosedError("the stream was closed while it was being read") from None
        public = self.translate(error)
        if not isinstance(public, PenstockError):
            raise error
        if self.service.closed or isinstance(public, StreamClosedError):
            self.lifecycle.advance(Event.CLOSE)
            await self.settle()
            raise StreamClosedError("the client was closed while the stream was being read")
        if public is not error:
            public.__cause__ = error
        exchange = self.exchange
        if (
            self.lifecycle.state is StreamState.OPEN
            and exchange is not None
            and exchange.body_bytes
        ):
            # Framing without content: bytes of the body all the same.
            self.body_began()
        return public

    # --- the end ---

    def finish(self, usage: Callable[[], Usage | None]) -> None:
        """The answer is complete: the slot goes back, an adaptive limiter counts a success.

        `usage` returns the tokens that it has cost, for limiters that count them; so in the
        other ends.
        """
        self.lifecycle.advance(Event.FINISH)
        self._ended("completed")
        if self._held.metered:
            self._held.settle_tokens(usage())
        exchange = self.exchange
        if exchange is None or exchange.status < 400:
            self._held.succeeded()
        self._held.release_slots()

    async def fail(self, error: PenstockError, usage: Callable[[], Usage | None]) -> None:
        """The answer failed: record it, give everything back, and raise the error."""
        self.lifecycle.advance(Event.FAIL)
        if self._held.metered:
            self._held.settle_tokens(usage())
        seconds, received = self._so_far()
        log.broke_off(self.call, error, seconds=seconds, received=received)
        self._ended("failed")
        await self.settle()
        raise error

    async def close(self, usage: Callable[[], Usage | None]) -> None:
        """End the call from any task: a task in `open` raises StreamClosedError. Idempotent.

        A completed call waits a moment for the end of its body, to reuse the connection.
        """
        before = self.lifecycle.state
        completed = before is StreamState.COMPLETED
        self.lifecycle.advance(Event.CLOSE)
        if self._held.metered:
            self._held.settle_tokens(usage())
        if before is not self.lifecycle.state and not math.isnan(self.started):
            self._ended("closed")
        self.interrupt()
        await self.settle(drain=completed)

    def interrupt(self) -> None:
        """Break off an `open` that another task is in; it raises StreamClosedError."""
        if self._scope is not None:
            self._scope.cancel()

    async def settle(self, *, drain: bool = False) -> None:
        """Give back slot and connection; the latter is reused only after a whole answer."""
        self.service.live.discard(self)
        await self._held.aclose(drain=drain)

    def abort(self) -> None:
        """Cut everything now, without waiting; for `__del__`."""
        self.service.live.discard(self)
        self._held.close()

    def _so_far(self) -> tuple[float, int]:
        """Return the seconds since the start, and the bytes of the body received."""
        exchange = self.exchange
        return self.clock() - self.started, 0 if exchange is None else exchange.body_bytes

    def _ended(self, outcome: str) -> None:
        """Count and log the end of the call."""
        totals = self.service.totals
        totals.completed += outcome == "completed"
        totals.failed += outcome == "failed"
        seconds, received = self._so_far()
        log.ended(self.call, outcome, attempts=self.attempts, seconds=seconds, received=received)

    def report_finished(
        self,
        outcome: Outcome,
        error: Exception | None,
        summary: Callable[[float], Summary],
    ) -> None:
        """Tell the observers, if there are any, that the call is over; once."""
        if self.reports is None:
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
            request_id=self._request_id(),
            now=now,
        )

    def _request_id(self) -> str | None:
        exchange = self.exchange
        return self.secrets.mask_text(None if exchange is None else request_id(exchange.headers))
