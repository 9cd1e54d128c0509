"""Attempts: a request is sent until the first byte of its answer's body has arrived.

`Sender` serves one call, streamed or not. It owns what the call holds (a limiter's slot,
an exchange on a connection) and gives both back on every way out.
"""

from __future__ import annotations

import contextlib
import logging
import math
import random
import time
from collections.abc import Callable

import anyio
import msgspec

from .._http import lazy
from .._http.exchange import Exchange
from .._http.network import ConnectionFailed
from .._http.outgoing import Outgoing
from .._limiter.slots import Slot, lent_slots
from .._loops import event_loop_clock
from .._policy.deadlines import ConnectDeadline, Deadlines
from .._policy.retry import retry_delay, sibling_pause
from .._policy.retry_after import asked_wait
from .._wire.credentials import header_secrets
from .._wire.status import request_id, status_error
from ..errors import APIStatusError, PenstockError, SlotTimeout, StreamClosedError, TotalTimeout
from ..observing import Outcome
from ..types import Usage
from .call import Call, Service
from .faults import UNREADABLE, public_error
from .lifecycle import Event, Lifecycle, StreamState
from .redact import redact_error, redact_text
from .reports import Reports

__all__ = ["Sender"]

_logger = logging.getLogger("penstock")
_logger.addHandler(logging.NullHandler())

# An error body above this is cut to its excerpt: what a person can use stands at its start.
ERROR_BODY_BYTES = 1024 * 1024
ERROR_EXCERPT_BYTES = 64 * 1024
# Nor is it waited for any longer: the status is known, and a slot is held.
ERROR_BODY_SECONDS = 10.0


class Sender:
    """Sends one call, again where that is allowed, and settles what it took."""

    __slots__ = (
        "_body_until",
        "_due",
        "_failures",
        "_key",
        "_pending",
        "_scope",
        "_slots",
        "_total_at",
        "attempts",
        "call",
        "clock",
        "exchange",
        "headers_at",
        "lifecycle",
        "limits",
        "reports",
        "service",
        "started",
    )

    def __init__(self, service: Service, call: Call) -> None:
        self.service = service
        self.call = call
        self.lifecycle = Lifecycle()
        notifier = service.notifier
        self.reports = None if notifier is None else Reports(notifier, call)
        self.attempts = 0
        self.clock: Callable[[], float] = anyio.current_time
        self.exchange: Exchange | None = None
        self.started = math.nan
        self.headers_at = math.nan
        self.limits = Deadlines(call.timeouts, total_at=math.inf, streaming=call.streaming)
        self._failures = 0
        self._pending: PenstockError | None = None
        self._due = -math.inf
        self._total_at = math.inf
        self._slots: list[Slot] = []
        self._scope: anyio.CancelScope | None = None
        self._key: str | None = None
        self._body_until = math.inf

    # --- opening ---

    async def open(
        self, failed: PenstockError | None = None, *, resumable: bool = False
    ) -> Exchange:
        """Send until a success head is in, and give its exchange.

        `failed` is the error of an exchange that broke off before the first byte of its
        body: it counts as a failed attempt, raised here if nothing is to be sent again.
        Raises a PenstockError when out of attempts. Whenever it raises, nothing is held; a
        cancelled one can be opened again, and keeps to the wait it was in. With `resumable`
        a cancelled wait for the head, or for a refusal's body, keeps the connection, and
        opening again goes on waiting.
        """
        self._begin()
        if failed is not None:
            self._pending = failed
        scope = anyio.CancelScope(deadline=self._total_at)
        self._scope = scope
        try:
            with scope:
                while True:
                    if self._pending is not None:
                        await self._prepare_retry(self._pending)
                    if self.service.closed:
                        raise StreamClosedError("the client is closed")
                    if self._due > self.clock():
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
            await self.settle()  # noqa: ASYNC120 - closing shields what it has to
            raise
        except PenstockError as error:
            self._step(Event.FAIL)
            self.redacted(error)
            raise
        except BaseException:
            if resumable and self._goes_on():
                raise
            exchange = self.exchange
            if self._pending is None and exchange is not None and exchange.refused:
                # The caller will not wait for the rest of its body, but it was refused.
                self._pending = self._refused(exchange, exchange.collected)
            if self._pending is None and self.lifecycle.state in (
                StreamState.SENDING,
                StreamState.WAITING,
            ):
                self.lifecycle.advance(Event.WITHDRAW)
            await self.settle()  # noqa: ASYNC102 - closing shields what it has to
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

    def _begin(self) -> None:
        if not math.isnan(self.started):
            return
        # The first request of a process pays for the import: before the clock starts.
        lazy.load()
        self.clock = event_loop_clock()
        self.started = now = self.clock()
        if self.call.timeouts.total is not None:
            self._total_at = now + self.call.timeouts.total
        if self.reports is not None:
            self.reports.request_started(now)

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
            if not 200 <= exchange.status < 300:
                raise await self._refusal(exchange)
        except PenstockError:
            raise
        except Exception as error:
            public = self.translate(error)
            if public is error:
                raise
            raise public from error
        self._step(Event.HEAD)
        self.headers_at = self.clock()
        if self.reports is not None:
            self.reports.response_started(
                self.attempts, exchange.status, self._request_id(), self.headers_at
            )
        return exchange

    async def _connect(self) -> Exchange:
        """An exchange on a connection, with a slot taken for it."""
        service, timeouts = self.service, self.call.timeouts
        self._step(Event.SEND)
        self.attempts += 1
        # What the attempt before has received says nothing about this one.
        self.exchange = None
        self._body_until = math.inf
        service.live.add(self)
        await self._take_slot()
        self._key = await service.authorize()
        connecting = ConnectDeadline(timeouts, now=self.clock(), total_at=self._total_at)
        stream, reused = await service.connections.acquire(connecting)
        self.limits = Deadlines(timeouts, total_at=self._total_at, streaming=self.call.streaming)
        self.exchange = Exchange(service.connections, stream, self.limits, reused=reused)
        return self.exchange

    async def _take_slot(self) -> None:
        if self.attempts == 1:
            # Of the fan-out this is made in, and of the client: one where both have the same.
            lines = [slot.line for slot in lent_slots()[-1:]]
            limiter = self.service.limiter
            if limiter is not None and limiter.line not in lines:
                lines.append(limiter.line)
            self._slots = [Slot(line) for line in lines]
        if not self._slots:
            return
        patience = self.call.timeouts.slot
        with anyio.move_on_after(patience) as scope:
            for slot in self._slots:
                await slot.acquire()
        if scope.cancelled_caught:
            raise SlotTimeout(f"the limiter had no free slot for {patience:g} s (Timeouts.slot)")

    def _signed(self) -> Outgoing:
        outgoing = self.call.outgoing
        if self._key is None or any(
            name.lower() == b"authorization" for name, _ in outgoing.headers
        ):
            return outgoing
        authorization = (b"Authorization", b"Bearer " + self._key.encode("ascii"))
        return msgspec.structs.replace(outgoing, headers=[*outgoing.headers, authorization])

    async def _refusal(self, exchange: Exchange) -> APIStatusError:
        # A point in time: a wait that is broken off and resumed does not put it off.
        self._body_until = min(self._body_until, self.clock() + ERROR_BODY_SECONDS)
        # The status is what counts, whatever becomes of the body (rule 11 of the wire).
        try:
            with (
                contextlib.suppress(ConnectionFailed, TimeoutError),
                anyio.CancelScope(deadline=self._body_until),
            ):
                await exchange.read_all(ERROR_BODY_BYTES)
            body = exchange.collected
        except UNREADABLE:
            body = exchange.collected[:ERROR_EXCERPT_BYTES]
        return self._refused(exchange, body)

    def _refused(self, exchange: Exchange, body: bytes) -> APIStatusError:
        """The error of a refusal; limiters learn of it."""
        error = status_error(
            exchange.status,
            exchange.headers,
            body,
        )
        status = exchange.status
        error.retry_after = asked_wait(status, exchange.headers, error.body, time.time())
        pause = sibling_pause(
            error,
            failures=self._failures + 1,
            random=random.random(),
            max_wait=self.service.max_retry_wait,
        )
        for slot in self._slots:
            slot.refused(error, pause)
        return error

    # --- after a failure ---

    async def _prepare_retry(self, error: PenstockError) -> None:
        """Set when the request is sent again, or raise the error when it is not."""
        # The only wait comes first: cancelled in it, the failure is still pending.
        await self.settle()
        self.redacted(error)
        self._pending = None
        self._failures += 1
        exchange = self.exchange
        cause = error.__cause__
        delay = retry_delay(
            error,
            failures=self._failures,
            max_retries=self.call.max_retries,
            random=random.random(),
            stale=exchange is not None and exchange.may_be_stale,
            permanent=isinstance(cause, ConnectionFailed) and cause.permanent,
            max_wait=self.service.max_retry_wait,
        )
        if self.reports is not None:
            self.reports.attempt_failed(self.attempts, error, delay, self.clock())
        if delay is None:
            raise error
        # Neither connection nor slot is held while waiting, not even a lent one.
        for slot in self._slots:
            slot.step_aside()
        self._step(Event.RETRY)
        _logger.info(
            "attempt %d failed (%s); sending again in %.2f s",
            self.attempts,
            type(error).__name__,
            delay,
        )
        self._due = self.clock() + delay
        # So that a client that is closed ends the wait as well.
        self.service.live.add(self)

    def translate(self, error: Exception) -> Exception:
        """The public error for one of the rooms below; anything unknown as it is."""
        return public_error(error, self.exchange)

    # --- settling ---

    def interrupt(self) -> None:
        """Break off an `open` that another task is in; it raises StreamClosedError."""
        if self._scope is not None:
            self._scope.cancel()

    def release_slot(self) -> None:
        """Give the limiters' slots back. Idempotent."""
        for slot in self._slots:
            slot.release()

    async def settle(self, *, drain: bool = False) -> None:
        """Give back slot and connection; the latter is reused only after a whole answer."""
        self.release_slot()
        self.service.live.discard(self)
        if self.exchange is not None:
            await self.exchange.aclose(drain=drain)

    def succeeded(self) -> None:
        """The answer is complete: what an adaptive limiter counts."""
        for slot in self._slots:
            slot.succeeded()

    def abort(self) -> None:
        """Cut everything now, without waiting; for `__del__`."""
        self.release_slot()
        self.service.live.discard(self)
        if self.exchange is not None:
            self.exchange.close()

    def redacted(self, error: PenstockError) -> PenstockError:
        """The error without the key and whatever else is secret in the request."""
        return redact_error(error, *self.secrets())

    def _request_id(self) -> str | None:
        # For an observer, so without what a server may have sent back in it.
        rid = None if self.exchange is None else request_id(self.exchange.headers)
        return rid and redact_text(rid, *self.secrets())

    def secrets(self) -> list[str | None]:
        """What no error and no value for an observer may show."""
        secrets = [self._key, *header_secrets(self.call.outgoing.headers)]
        proxy = self.service.connections.dialer.proxy
        if proxy is not None:
            secrets += [proxy.password, *header_secrets(proxy.authorization)]
        return secrets

    def report_finished(
        self,
        outcome: Outcome,
        error: Exception | None,
        usage: Callable[[], Usage | None] = lambda: None,
    ) -> None:
        """Tell the observer, if there is one, that the call is over; once."""
        if self.reports is not None:
            self.reports.finished(
                outcome,
                error,
                usage,
                attempts=self.attempts,
                request_id=self._request_id(),
                now=self.clock(),
            )
