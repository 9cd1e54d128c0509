"""What one call tells the client's observer; made only where there is one."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from .._wire.credentials import shown_target
from ..observing import (
    AttemptFailed,
    Finished,
    FirstToken,
    Notifier,
    Outcome,
    RequestStarted,
    ResponseStarted,
)
from ..types import Usage
from .call import Call

__all__ = ["Reports"]

_numbers = itertools.count(1)


class Reports:
    """The events of one call, under one number, the end of it once."""

    __slots__ = ("_call", "_finished", "_notifier", "_number", "_started")

    def __init__(self, notifier: Notifier, call: Call) -> None:
        self._notifier = notifier
        self._call = call
        self._number = next(_numbers)
        self._started: float | None = None
        self._finished = False

    def request_started(self, now: float) -> None:
        """The call begins."""
        self._started = now
        if self._notifier.wants("request_started"):
            call = self._call
            event = RequestStarted(
                self._number,
                call.model,
                call.outgoing.method,
                shown_target(call.outgoing.target),
                call.streaming,
                now,
            )
            self._notifier.tell("request_started", event)

    def attempt_failed(
        self, attempt: int, error: Exception, retry_in: float | None, now: float
    ) -> None:
        """An attempt failed before the first byte of its answer's body."""
        if self._notifier.wants("attempt_failed"):
            event = AttemptFailed(self._number, attempt, error, retry_in, now)
            self._notifier.tell("attempt_failed", event)

    def response_started(
        self, attempt: int, status_code: int, request_id: str | None, now: float
    ) -> None:
        """A success head is in."""
        if self._notifier.wants("response_started"):
            event = ResponseStarted(self._number, attempt, status_code, request_id, now)
            self._notifier.tell("response_started", event)

    def first_token(self, now: float) -> None:
        """The first token has come."""
        if self._notifier.wants("first_token"):
            self._notifier.tell("first_token", FirstToken(self._number, now))

    def finished(
        self,
        outcome: Outcome,
        error: Exception | None,
        usage: Callable[[], Usage | None],
        *,
        attempts: int,
        request_id: str | None,
        now: float,
    ) -> None:
        """The call is over; nothing when it had not begun, or was over already."""
        if self._finished or self._started is None:
            return
        self._finished = True
        if self._notifier.wants("finished"):
            event = Finished(
                id=self._number,
                model=self._call.model,
                outcome=outcome,
                error=error,
                usage=usage(),
                attempts=attempts,
                request_id=request_id,
                started=self._started,
                time=now,
            )
            self._notifier.tell("finished", event)
