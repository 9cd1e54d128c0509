"""Asks rows, each until it has an answer or has failed, or the run stops.

One `Asker` is one run: what it learns from a row, all its rows obey. It does nothing with files.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import anyio
import msgspec

from .._limiter.lent import lent
from .._limiter.limiter import Limiter
from .._limiter.slots import Slot, request_slot
from .._logs import logger
from .._loops import event_loop_clock
from .._policy.retry import backoff
from ..errors import PenstockError, StreamClosedError
from .answers import Answer, one_line_body
from .outage import Outage
from .outcomes import Failure, Outcome
from .rows import Row
from .sending import Sending
from .stops import Stop, StopReason
from .verdicts import Verdict, verdict_of

__all__ = ["Asker", "OnCut", "Policy"]


OVERLOAD_RETRIES = 20
FUSE = 100
"""Rows that fail one after the other, without an answer between, until the run stops."""
OnCut: TypeAlias = Literal["retry", "fail"]


class Policy(msgspec.Struct, frozen=True):
    """What is done about failures. ValueError or TypeError for values that make no sense."""

    max_retries: int = 5
    """How often a row is asked again at most; after an overload (429, 503, 529) 20 times."""
    patience: float = 300.0
    """Seconds without any answer after which the run stops."""
    on_cut: OnCut = "retry"
    """"retry" asks a row again whose answer was cut off; "fail" does not, as it must be paid."""
    stream: bool = False
    """Whether completions are streamed inside."""
    on_refused: Literal["stop", "row"] = "stop"
    """Whether a refused account (401, 402, a used-up quota) stops the run or fails the row."""
    fuse: int | None = FUSE
    """Rows that fail one after the other until the run stops; None: it goes on."""

    def __post_init__(self) -> None:
        if isinstance(self.max_retries, bool) or not isinstance(self.max_retries, int):
            raise TypeError(f"max_retries must be a whole number, not {self.max_retries!r}")
        if self.max_retries < 0:
            raise ValueError(f"max_retries is {self.max_retries}: give 0 or a positive number")
        if isinstance(self.patience, bool) or not isinstance(self.patience, (int, float)):
            raise TypeError(f"patience must be seconds, not {self.patience!r}")
        if not self.patience >= 0:
            raise ValueError(f"patience is {self.patience!r}: give 0 or a positive number")
        if self.on_cut not in ("retry", "fail"):
            raise ValueError(f'on_cut is {self.on_cut!r}: give "retry" or "fail"')
        if self.on_refused not in ("stop", "row"):
            raise ValueError(f'on_refused is {self.on_refused!r}: give "stop" or "row"')


class _Tally:
    """What has happened to one row so far."""

    __slots__ = ("again", "connection", "failures", "mark", "overload", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.failures = 0
        # Those that count, by the kinds of `verdicts`.
        self.again = 0
        self.overload = 0
        self.connection = 0
        self.mark: int | None = None
        """Of the first failure that counts once a later request is answered. Those after it, as
        long as none is, are of one outage with it."""


class Asker:
    """Asks any number of rows at once, in the places of one limiter."""

    def __init__(
        self,
        client: Any,
        limiter: Limiter,
        policy: Policy,
        *,
        on_stop: Callable[[Stop], None] = lambda stop: None,
        on_wait: Callable[[], None] = lambda: None,
        ever_answered: bool = False,
    ) -> None:
        self._sending = Sending(client, stream=policy.stream)
        self._limiter = limiter
        self._policy = policy
        self._fails_refused = policy.on_refused == "row"
        self._on_stop = on_stop
        self._on_wait = on_wait
        self._clock: Callable[[], float] | None = None
        self._outage = Outage(policy.patience)
        self._waiting: set[anyio.CancelScope] = set()
        """Around whatever waits and has no request under way."""
        self._failed_in_a_row = 0
        self._ever_answered = ever_answered
        self.waiting: int = 0
        """Rows that have failed, and wait to be asked again."""
        self.stopped: Stop | None = None
        """Why no request is sent any more; None while they are."""
        self.notice: str | None = None
        """One line for a person while the server is away, else None."""
        self.refusal: PenstockError | None = None
        """The error that said first that the account is refused."""
        self.outage: Failure | None = None
        """The latest failure that may be an outage of the server."""
        self.requests: int = 0
        """Requests sent so far."""
        self.retries: int = 0
        """Requests among them that asked a row again."""
        self.tokens: dict[str, int] = {}
        """Token counts of all answers, by the server's names."""

    def stop(self, reason: StopReason, message: str) -> None:
        """Send no further request. What waits gives up; what is under way goes on."""
        if self.stopped is None:
            self.stopped = Stop(reason, message)
            for scope in list(self._waiting):
                scope.cancel()
            self._on_stop(self.stopped)

    async def ask(self, index: int, row: Row, place: Slot | None = None) -> Outcome | None:
        """Return the row's answer or failure; None if it was given up because the run stopped.

        Sends a request only in a place of the limiter: in `place`, which is lent to this task, or
        in one that it waits for. Cancelled, it leaves nothing open. Raises nothing for the row.
        """
        if self._clock is None:
            self._clock = event_loop_clock()
        clock = self._clock
        started = clock()
        tally = _Tally()
        while True:
            if place is not None and not tally.requests and self._may_start():
                # The usual case: nothing to wait for, so nothing to look at again.
                if self.stopped is not None:
                    return None
                verdict = await self._attempt(row, tally)
                aside = place
            else:
                slot = await self._wait_for_place(row)
                if slot is None:
                    return None
                try:
                    with lent(slot):
                        verdict = await self._attempt(row, tally)
                finally:
                    slot.release()
                aside = slot
            if isinstance(verdict, Answer):
                return self._answered(index, row, verdict, tally, started)
            if not self._goes_on(verdict, tally):
                if self.stopped is not None and verdict.kind == "refused":
                    return None
                return self._failed(index, row, verdict, tally, started)
            # Nothing is held while waiting.
            aside.step_aside()
            delay = backoff(tally.failures, random.random())
            if verdict.wait is not None:
                # A server that always asks for no wait at all is not asked in a busy loop.
                delay = max(verdict.wait, delay if tally.failures > 3 else 0.0)
            self.waiting += 1
            self._on_wait()
            try:
                await self._wait(clock() + delay)
            finally:
                self.waiting -= 1
            if self._is_over():
                return None
            if self._counts(verdict, tally):
                return self._failed(index, row, verdict, tally, started)

    # --- one request ---

    def _may_start(self) -> bool:
        """Return whether a place is all that a request needs: no pause, no rate."""
        line = self._limiter.line
        return line.rates is None and line.paused_until <= line.clock.now()

    async def _wait_for_place(self, row: Row) -> Slot | None:
        """Wait for a place and the row's tokens; None if the run has stopped in the meantime."""
        slot = request_slot(self._limiter.line, row.body)
        while self.stopped is None:
            with anyio.CancelScope(deadline=self._patience_ends()) as scope:
                self._waiting.add(scope)
                try:
                    await slot.acquire()
                finally:
                    self._waiting.discard(scope)
            if not scope.cancelled_caught:
                if not self._is_over():
                    return slot
                slot.release()
            self._check_patience()
        return None

    def _is_over(self) -> bool:
        """Look again whether the run has stopped."""
        return self.stopped is not None

    async def _attempt(self, row: Row, tally: _Tally) -> Answer | Verdict:
        """Send one request in the place that is held; return the answer, or what went wrong."""
        outage = self._outage
        number = outage.sent()
        tally.requests += 1
        self.requests += 1
        self.retries += tally.requests > 1
        try:
            answer = await self._sending.send(row)
        except StreamClosedError:
            raise
        except PenstockError as error:
            verdict = verdict_of(error)
            if verdict.kind == "refused" and self.refusal is None:
                self.refusal = error.with_traceback(None)
        except (ValueError, TypeError) as error:
            # Refused before anything was sent.
            tally.requests -= 1
            self.requests -= 1
            return Verdict("fails", Failure("invalid_row", str(error)))
        else:
            outage.answered(number)
            return answer
        finally:
            outage.ended(number)
        if verdict.kind == "fails" or (verdict.kind == "refused" and self._fails_refused):
            outage.answered(number)
        return verdict

    # --- after a failure ---

    def _goes_on(self, verdict: Verdict, tally: _Tally) -> bool:
        """Note a failure; return whether the row may be asked again."""
        policy = self._policy
        if verdict.kind in ("fails", "refused"):
            if verdict.kind == "refused" and not self._fails_refused:
                self.stop("refused", f"the account was refused: {verdict.failure.message}")
            return False
        if verdict.cut and policy.on_cut == "fail":
            return False
        tally.failures += 1
        if verdict.kind == "again":
            tally.again += 1
            return tally.again <= policy.max_retries
        assert self._clock is not None
        self.outage = verdict.failure
        mark = self._outage.failed(self._clock())
        if self._counts(verdict, tally):
            return False
        if tally.mark is None:
            tally.mark = mark
        if verdict.wait is not None:
            self._limiter.pause(verdict.wait)
        if tally.failures > 1 and self.notice is None and self._outage.is_on:
            self.notice = (
                f"no answer from the server ({verdict.failure.message}):"
                f" waiting, for {policy.patience:g} s at most"
            )
            # Not the notice: it may have the words of the server.
            logger("batch").warning(
                "no answer from the server (%s): waiting, for %g s at most",
                verdict.failure.code,
                policy.patience,
                extra={
                    "reason": verdict.failure.code,
                    "status_code": verdict.failure.status_code,
                    "patience": policy.patience,
                },
            )
        return True

    def _counts(self, verdict: Verdict, tally: _Tally) -> bool:
        """Count what counts by now; return whether the row has failed too often."""
        if tally.mark is None or not self._outage.counts(tally.mark):
            return False
        tally.mark = None
        if verdict.kind == "overload":
            tally.overload += 1
            return tally.overload > OVERLOAD_RETRIES
        tally.connection += 1
        return tally.connection > self._policy.max_retries

    async def _wait(self, until: float) -> None:
        """Wait until then, or until the run stops."""
        assert self._clock is not None
        while self.stopped is None and self._clock() < until:
            with anyio.CancelScope(deadline=min(until, self._patience_ends())) as scope:
                self._waiting.add(scope)
                try:
                    await anyio.sleep_forever()
                finally:
                    self._waiting.discard(scope)
            self._check_patience()

    def _patience_ends(self) -> float:
        """When to look again whether patience has ended."""
        assert self._clock is not None
        now, expires = self._clock(), self._outage.expires
        # While requests from before the outage are under way, once a second.
        return expires if expires > now else now + 1.0

    def _check_patience(self) -> None:
        assert self._clock is not None
        if self.stopped is None and self._outage.expired(self._clock()):
            self.stop("unavailable", f"no answer for {self._policy.patience:g} s")

    # --- the end of a row ---

    def _answered(
        self, index: int, row: Row, answer: Answer, tally: _Tally, started: float
    ) -> Outcome:
        assert self._clock is not None
        self._ever_answered = True
        self._failed_in_a_row = 0
        self.notice = None
        for name, count in answer.tokens.items():
            self.tokens[name] = self.tokens.get(name, 0) + count
        return Outcome(
            index,
            row.custom_id,
            row.id,
            answer.status_code,
            answer.request_id or row.id,
            answer.body,
            None,
            tally.requests,
            started,
            self._clock(),
        )

    def _failed(
        self, index: int, row: Row, verdict: Verdict, tally: _Tally, started: float
    ) -> Outcome:
        assert self._clock is not None
        if verdict.kind != "fails" or not self._ever_answered:
            # Of sorted input, rows that the server rejects may come in long runs.
            self._failed_in_a_row += 1
            fuse = self._policy.fuse
            if fuse is not None and self._failed_in_a_row >= fuse:
                self.stop(
                    "fuse",
                    f"{fuse} rows failed one after the other, the last: {verdict.failure.message}",
                )
        answered = verdict.status_code is not None
        return Outcome(
            index,
            row.custom_id,
            row.id,
            verdict.status_code,
            (verdict.request_id or row.id) if answered else None,
            one_line_body(verdict.body),
            verdict.failure,
            tally.requests,
            started,
            self._clock(),
        )
