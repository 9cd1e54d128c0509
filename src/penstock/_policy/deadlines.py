"""Choose the deadline of a wait for the network, and the error for it.

Time is passed in. `read`, `first_token` and `idle` are budgets of waiting time. A wait that is
interrupted (by the caller's own timeout or a cancellation) uses up a part of them; time between
two waits, in the caller's loop body, costs nothing. `total` is a point in time.
"""

from __future__ import annotations

import math

from ..errors import (
    APITimeoutError,
    ConnectTimeout,
    FirstTokenTimeout,
    IdleTimeout,
    ReadTimeout,
    TotalTimeout,
)
from ..timeouts import Timeouts

__all__ = ["AnswerEnded", "ConnectDeadline", "Deadlines", "UploadDeadline", "WriteStalled"]


class AnswerEnded(Exception):
    """Silence after every finish_reason: an end of the answer, not an error."""


class Deadlines:
    """The limits on one exchange, from the moment its request is sent."""

    __slots__ = (
        "_kind",
        "_read",
        "_silent",
        "_timeouts",
        "_token_error",
        "_token_limit",
        "_tokenless",
        "_total_at",
        "now",
        "since",
        "waited",
    )

    def __init__(self, timeouts: Timeouts, *, total_at: float, streaming: bool) -> None:
        self._timeouts = timeouts
        self._total_at = total_at
        self._read = _limit(timeouts.read)
        self._silent = 0.0
        self._token_error: type[APITimeoutError | AnswerEnded] = FirstTokenTimeout
        self._token_limit = _limit(timeouts.first_token) if streaming else math.inf
        self._tokenless = 0.0
        self._kind: type[APITimeoutError | AnswerEnded] = ReadTimeout
        self.now: float = math.nan
        """Loop time of the last `end()` or `check()`, so callers need not read the clock again.

        It never goes back.
        """
        self.since: float = math.inf
        """When the present wait began; for waits that do not call `begin`."""
        self.waited: float = 0.0
        """Total seconds spent waiting for the network."""

    def begin(self, now: float) -> float:
        """Begin a wait for the network; return the time at which it must end."""
        self.since = now
        return self.due()

    def due(self) -> float:
        """Return the time at which the present wait must end."""
        since = self.since
        self._kind = ReadTimeout
        deadline = since + self._read - self._silent
        by_token = since + self._token_limit - self._tokenless
        # At a tie, raise the error that says more about the answer.
        if by_token <= deadline:
            self._kind = self._token_error
            deadline = by_token
        if self._total_at < deadline:
            # The answer is there when it has ended: `total` only shortens the silence then.
            self._kind = AnswerEnded if self._token_error is AnswerEnded else TotalTimeout
            deadline = self._total_at
        return deadline

    def end(self, now: float) -> None:
        """End the last wait, whatever its outcome."""
        waited = now - self.since
        self._silent += waited
        self._tokenless += waited
        self.waited += waited
        self.now = self.since = now

    def check(self, now: float) -> None:
        """Raise if `total` is over; for reads that never had to wait."""
        if not now <= self.now:  # a wait may have ended since `now`
            self.now = self.since = now
        if now >= self._total_at:
            self._kind = AnswerEnded if self._token_error is AnswerEnded else TotalTimeout
            raise self.error()

    def byte_arrived(self) -> None:
        """Note that bytes arrived: `read` starts anew."""
        self._silent = 0.0

    def token_arrived(self) -> None:
        """Note that a token arrived: from now on `idle` counts."""
        self._tokenless = 0.0
        if self._token_error is IdleTimeout:
            return  # as it was with the token before
        if self._token_error is AnswerEnded:
            self.answer_goes_on()
        self._token_error = IdleTimeout
        self._token_limit = _limit(self._timeouts.idle)

    def token_taken(self, now: float) -> None:
        """End a wait in which bytes arrived with a token that is not the first one."""
        self.waited += now - self.since
        self.now = self.since = now
        self._silent = self._tokenless = 0.0

    def prompt_progressed(self) -> None:
        """Note that the server reads the prompt, as it says: `first_token` starts anew."""
        if self._token_error is FirstTokenTimeout:
            self._tokenless = 0.0

    def answer_finished(self, *, progress: bool) -> None:
        """Note that every choice has its finish_reason: silence of `trailing` ends the answer.

        Call it at each read from then on; `progress` starts the silence anew.
        """
        if self._timeouts.trailing is None:
            return
        if self._token_error is not AnswerEnded or progress:
            self._token_error = AnswerEnded
            self._token_limit = self._timeouts.trailing
            self._tokenless = 0.0
            self._read = math.inf

    def answer_goes_on(self) -> None:
        """Note that another choice has begun after all: the usual limits count again."""
        self._token_error = IdleTimeout
        self._token_limit = _limit(self._timeouts.idle)
        self._read = _limit(self._timeouts.read)

    def error(self) -> Exception:
        """Return the error for the deadline of the last wait."""
        if self._kind is AnswerEnded:
            return AnswerEnded()
        if self._kind is ReadTimeout:
            return ReadTimeout(
                f"no byte from the server for {self._read:g} s (Timeouts.read), not even a ping"
            )
        if self._kind is TotalTimeout:
            return TotalTimeout(
                f"not finished within {self._timeouts.total:g} s in all (Timeouts.total)"
            )
        if self._kind is FirstTokenTimeout:
            return FirstTokenTimeout(
                f"no token within {self._token_limit:g} s of sending the request"
                " (Timeouts.first_token)"
            )
        return IdleTimeout(f"no further token for {self._token_limit:g} s (Timeouts.idle)")


class WriteStalled(ReadTimeout):
    """The server took no bytes of the request for as long as an upload may wait."""


class UploadDeadline:
    """The limits on an exchange while its request is sent, and one more on each wait for that."""

    __slots__ = ("_deadlines", "_limit", "_silent", "_since", "_stalled")

    def __init__(self, deadlines: Deadlines, limit: float) -> None:
        self._deadlines = deadlines
        self._limit = limit
        self._silent = 0.0
        self._since = math.inf
        self._stalled = False

    def begin(self, now: float) -> float:
        """Begin a wait; return the time at which it must end."""
        self._since = now
        others = self._deadlines.begin(now)
        deadline = now + self._limit - self._silent
        self._stalled = deadline < others
        return min(deadline, others)

    def end(self, now: float) -> None:
        """End the last wait, whatever its outcome."""
        self._silent += now - self._since
        self._deadlines.end(now)

    def check(self, now: float) -> None:
        """Raise if `total` is over; for writes that never had to wait."""
        self._stalled = False
        self._deadlines.check(now)

    def byte_arrived(self) -> None:
        """Note that the network took bytes, or brought some."""
        self._silent = 0.0
        self._deadlines.byte_arrived()

    def error(self) -> Exception:
        """Return the error for the deadline of the last wait."""
        if self._stalled:
            return WriteStalled(f"the server took no byte of the request for {self._limit:g} s")
        return self._deadlines.error()


class ConnectDeadline:
    """The limit on establishing a connection: one point in time for all its steps."""

    __slots__ = ("_at", "_kind", "_timeouts")

    def __init__(self, timeouts: Timeouts, *, now: float, total_at: float) -> None:
        self._timeouts = timeouts
        connect_at = now + _limit(timeouts.connect)
        self._at = min(connect_at, total_at)
        self._kind = ConnectTimeout if connect_at <= total_at else TotalTimeout

    def begin(self, now: float) -> float:
        """Begin a wait; return the time by which the connection must be established."""
        return self._at

    def end(self, now: float) -> None:
        """End the wait; the deadline stays the same."""

    def check(self, now: float) -> None:
        """Raise if the time is up; for steps that never had to wait."""
        if now >= self._at:
            raise self.error()

    def byte_arrived(self) -> None:
        """Do nothing: bytes do not move this deadline."""

    def error(self) -> APITimeoutError:
        """Return the error for this deadline."""
        if self._kind is TotalTimeout:
            return TotalTimeout(
                f"not connected within {self._timeouts.total:g} s in all (Timeouts.total)"
            )
        return ConnectTimeout(
            f"no connection within {self._timeouts.connect:g} s (Timeouts.connect)"
        )


def _limit(seconds: float | None) -> float:
    return math.inf if seconds is None else seconds
