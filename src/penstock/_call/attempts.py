"""One call's machine: attempts until the first byte of the answer's body.

`Sender` serves every call, streamed or whole. It and its base, which ends the call, alone move it
through the table of `lifecycle`, so the rule "never sent again after the first byte" has one home:

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
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import anyio
import msgspec

from .._http.exchange import Exchange
from .._http.network import ClosedLocally, ConnectionFailed, without_frames
from .._loops import event_loop_clock, in_trio, load_backend
from .._policy.deadlines import ConnectDeadline, Deadlines, UploadDeadline
from .._policy.retry import retries_stale, retry_delay, sibling_pause
from ..errors import APIStatusError, PenstockError, StreamClosedError, TotalTimeout
from . import log
from .call import Call, Service
from .held import NO_SLOTS, find_slots
from .lifecycle import Event, StreamState
from .live_call import LiveCall
from .refusal import ERROR_BODY_SECONDS, read_refusal, refusal_error

if TYPE_CHECKING:
    from .route import Route

__all__ = ["Sender"]

T = TypeVar("T")

_CLOSED = "the stream was closed while it was being opened"


class Sender(LiveCall):
    """Sends one call, again where that is allowed, and settles what it took."""

    __slots__ = (
        "_body_until",
        "_due",
        "_failures",
        "_fresh",
        "_pending",
        "_total_at",
    )

    # Annotated here too, where they are assigned: `pyright --verifytypes` requires it.
    attempts: int
    call: Call
    clock: Callable[[], float]
    exchange: Exchange | None
    headers_at: float
    limits: Deadlines
    service: Service
    started: float

    def __init__(self, service: Service, call: Call) -> None:
        super().__init__(service, call)
        self._failures = 0
        """Failed attempts, without those that only met a dead idle connection."""
        self._fresh = False
        """True once an idle connection was found dead: the others may be dead, too."""
        self._pending: PenstockError | None = None
        """An attempt's failure that has not led to another attempt or to an error yet."""
        self._due = -math.inf
        """When the next attempt may be sent."""
        self._total_at = math.inf
        self._body_until = math.inf

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
            self._begin()
        if failed is not None:
            self._pending = failed
        try:
            try:
                while True:
                    if self._pending is not None:
                        await self._within(self._prepare_retry(self._pending))
                    if self._is_closed:
                        raise StreamClosedError("the client is closed")
                    if self._due > -math.inf and self._due > self.clock():
                        await self._within(anyio.sleep_until(self._due))
                    try:
                        return await self._attempt()
                    except (StreamClosedError, TotalTimeout):
                        raise
                    except PenstockError as error:
                        self._pending = error
            except TotalTimeout:
                exchange = self.exchange
                if exchange is not None and exchange.refused:
                    # There was no time for the rest of its body, but it was refused.
                    self._refused(refusal_error(exchange, exchange.collected))
                # Before the call counts as failed: a task that is cancelled in this wait may open
                # the call again.
                await self.settle()  # noqa: ASYNC120 - closing shields what it must
                raise
        except StreamClosedError:
            # The stream's owner did it, or the client's.
            self.advance(Event.CLOSE)
            await self.settle()  # noqa: ASYNC120 - closing shields what it must
            raise
        except PenstockError as error:
            self._step(Event.FAIL)
            self._ended("failed")
            self.describe(error)
            raise
        except BaseException:
            if resumable and self._goes_on():
                raise
            exchange = self.exchange
            if self._pending is None and exchange is not None and exchange.refused:
                # The caller will not wait for the rest of its body, but it was refused.
                self._pending = self._refused(refusal_error(exchange, exchange.collected))
            if self._pending is None and self.state in (
                StreamState.SENDING,
                StreamState.WAITING,
            ):
                self.advance(Event.WITHDRAW)
            await self.settle()  # noqa: ASYNC102 - closing shields what it must
            raise

    async def _within(self, wait: Awaitable[T]) -> T:
        """Return what this wait returns. It ends with the call, and at the call's deadline.

        For waits that know neither. Those of a connection do: they are given the deadline, and
        closing the connection ends them (a cancel scope is 7 % of a whole answer).
        """
        try:
            with self._new_scope(deadline=self._total_at):
                return await wait
        finally:
            self._scope = None
        # The scope swallowed its own cancellation.
        self._check_interrupted()
        raise TotalTimeout(
            f"not finished within {self.call.timeouts.total:g} s in all (Timeouts.total)"
        )

    def _new_scope(self, deadline: float) -> anyio.CancelScope:
        """Return a cancel scope for the next wait, which `interrupt` breaks off."""
        scope = self._scope = anyio.CancelScope(deadline=deadline)
        if self._interrupted:  # between two waits
            scope.cancel()
        return scope

    def _check_interrupted(self) -> None:
        if self._interrupted:
            raise StreamClosedError(_CLOSED) from None

    def _step(self, event: Event) -> None:
        """Move on, unless the stream was closed by another task in the meantime."""
        if self.state is StreamState.CLOSED:
            raise StreamClosedError(_CLOSED)
        self.advance(event)

    def _begin(self) -> None:
        try:
            load_backend(in_trio())
        except OSError as error:
            self._step(Event.FAIL)
            raise self.translate(ConnectionFailed(f"cannot load a module: {error}")) from error
        self.clock = event_loop_clock()
        self.started = now = self.clock()
        self.phases.enter("slot", now)
        if self.call.timeouts.total is not None:
            self._total_at = now + self.call.timeouts.total
        if self.route is not None:
            self._choose_server(self.route)
        self.service.totals.calls += 1
        log.began(self.call, self.service)
        if self.reports is not None:
            self.reports.request_started(now)
            self.reports.ask_for_headers()

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
        service, self._place = chosen
        if service is self.service:
            return
        self._secrets_before = self.secrets
        self.service = service
        self.call = msgspec.structs.replace(self.call, outgoing=route.outgoing(self._place))
        self._slots = NO_SLOTS
        self._fresh = False
        if self.reports is not None:
            self.reports.move(self.call, service, route.notifier(self._place))

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
                added = () if self.reports is None else self.reports.added_headers
                signed = self.call.outgoing.signed(self._key, added)
                sent = exchange.send(signed)
                # What gives the pieces of a body knows no deadline.
                await (sent if signed.pieces is None else self._within(sent))
                if self._slots.metered:
                    self._slots.head_arrived(exchange.headers, self.service.max_retry_wait)
            if not (200 <= exchange.status < 300 or self.call.any_status):
                # A point in time: a wait that is broken off and resumed does not put it off.
                self._body_until = min(self._body_until, self.clock() + ERROR_BODY_SECONDS)
                refusal = await self._within(read_refusal(exchange, self._body_until))
                raise self._refused(refusal)
        except PenstockError:
            raise
        except ClosedLocally:
            raise StreamClosedError(_CLOSED) from None
        except Exception as error:
            public = self.translate(error)
            if public is error:
                raise
            # Its text says what went wrong; the frames of sockets and threads would say no more.
            raise public from without_frames(error)
        refused = None
        if exchange.status >= 400:  # an answer like any other, but not to the limiters
            refused = self._refused(refusal_error(exchange, b""))
        self._step(Event.HEAD)
        if self.route is not None:
            self.route.answered(refused, self.clock())
        self.headers_at = self.limits.now
        self.phases.enter("body", self.headers_at)
        log.answered(self.call, self.attempts, exchange.status, self.headers_at - self.started)
        if self.reports is not None:
            self.reports.response_started(
                self.attempts,
                exchange.status,
                self._request_id(self.reports),
                self.headers_at,
            )
        return exchange

    async def _connect(self) -> Exchange:
        """Take slots, then a connection, and return an exchange on it."""
        timeouts = self.call.timeouts
        if self.route is not None and self._place is None:
            self._choose_server(self.route)
            if self._place is None:
                raise StreamClosedError("the client is closed")
        service = self.service
        self._step(Event.SEND)
        self.attempts += 1
        service.totals.attempts += 1
        # What the attempt before has received says nothing about this one.
        self.exchange = None
        self._body_until = math.inf
        service.live.add(self)
        self.phases.enter("slot", self.clock())
        if self._slots is NO_SLOTS:
            self._slots = find_slots(service.limiter, self.call.outgoing.body)
        if self._slots is not NO_SLOTS:
            await self._within(self._slots.take(timeouts.slot))
        self.phases.enter("connection", self.clock())
        asked = service.authorize()
        # The key is in no variable: tools that report crashes show those of every frame.
        self._take_key(await (self._within(asked) if service.asks_for_key else asked))
        if self.call.renew is not None and self._failures:
            renewed = await self._within(self.call.renew(self._failures))
            outgoing = self.call.outgoing.renewed(renewed)
            self._secrets_before = self.secrets
            self.call = msgspec.structs.replace(self.call, outgoing=outgoing)
        pieces = self.call.outgoing.pieces
        # A body that can be sent once is not risked on a connection that may be dead.
        fresh = self._fresh or (pieces is not None and pieces.once)
        began = self.clock()
        connecting = ConnectDeadline(timeouts, now=began, total_at=self._total_at)
        try:
            stream, reused = await service.connections.acquire(
                connecting, fresh=fresh, new_scope=self._new_scope
            )
        except PenstockError:
            self._check_interrupted()
            raise
        finally:
            self._scope = None
        self.limits = Deadlines(timeouts, total_at=self._total_at, streaming=self.call.streaming)
        self.limits.now = now = self.clock()
        self.phases.enter("head", now)
        log.connected(service, self.attempts, reused=reused, seconds=now - began)
        limit = self.call.write_timeout
        self.exchange = exchange = Exchange(
            service.connections,
            stream,
            self.limits,
            reused=reused,
            encoded=self.call.encoded,
            uploading=None if limit is None else UploadDeadline(self.limits, limit),
        )
        self._check_interrupted()
        # Its time may be over without a wait, or before this opening began.
        self.limits.check(now)
        if service.closed:
            # `close()`, unlike `aclose()`, does not interrupt the waits above.
            raise StreamClosedError("the client is closed")
        if self._slots.metered:
            self._slots.sent()
        return exchange

    def _take_key(self, key: str | None) -> None:
        """Note the key of the attempt."""
        if self._key is not None and self._key != key:
            self._secrets_before = self.secrets
        self._key = key
        recent = self.service.recent_keys
        if key is not None and key not in recent:
            recent.append(key)

    def _refused(self, error: APIStatusError) -> APIStatusError:
        """Tell the limiters of a refusal, and return it."""
        pause = sibling_pause(
            error,
            failures=self._failures + 1,
            random=random.random(),
            max_wait=self.service.max_retry_wait,
        )
        self._slots.refused(error, pause)
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
        # Not before it was decided on the server's words alone.
        self.describe(error)
        if self.reports is not None:
            self.reports.attempt_failed(self.attempts, error, delay, self.clock())
        if delay is None:
            raise error
        # Neither connection nor slot is held while waiting, not even a lent one.
        self._slots.step_aside()
        self._step(Event.RETRY)
        log.retrying(self.call, self.service, self.attempts, error, delay)
        self._due = self.clock() + delay
        # So that a client that is closed ends the wait as well.
        self.service.live.add(self)

    def _goes_elsewhere(self, route: Route, error: PenstockError, stale: bool) -> bool:
        """Whether another server takes the request, after the last one has failed it."""
        if stale and retries_stale(error):
            route.stay()
            return False
        return route.goes_elsewhere(self.clock(), may_probe=self._failures < self.call.max_retries)
