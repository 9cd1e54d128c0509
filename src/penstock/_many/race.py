"""`race`: several attempts at one answer; the first to deliver a token is the answer.

All of the race runs inside `Race.__aenter__`; the block itself only reads the winner's stream.

    __aenter__                                                        the block
    ├─ _run_all: starts an attempt, waits for `delay` or a failure    ┌─────────────────┐
    ├─ _run(0):  open, read ahead to the first token ── wins ───────> │ the same stream │
    ├─ _run(1):  open, read ahead ... cancelled, closed               │ from its first  │
    └─ _run(2):  not started                                          │ chunk on        │
                                                                      └─────────────────┘

- The winner reads ahead and hands nothing out, so that the block sees the stream from its first
  chunk. Two attempts with a token in the same iteration of the loop: the first one to set
  `_winner` wins, the other is a loser.
- The task group ends before the block begins, so nothing but a stream is alive in the block. It
  may be left from another task, and no ExceptionGroup can leave it.
- Losers are closed, shielded, before `__aenter__` returns: no connection generates for nobody.
- An attempt that ends without a token wins only if no attempt has one.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Literal, TypeAlias, cast

import anyio
import msgspec
from anyio.abc import TaskGroup

from .._call.lifecycle import StreamState
from .._call.stream import CompletionStream
from ..errors import (
    AllAttemptsFailed,
    AuthenticationError,
    InsufficientCreditsError,
    PermissionDeniedError,
)
from ..observing.figures import StreamStatistics
from ..observing.groups import Group
from ..types import Usage
from .cancellation import cancelled_by_itself, outcome_of, sole
from .interrupts import protect
from .requests import HasCompletions, Request, check_client, open_stream

__all__ = ["Attempt", "Race", "RaceStatistics", "race"]

# A bad key or an empty account fails every request of that client.
ACCOUNT_ERRORS = (AuthenticationError, InsufficientCreditsError, PermissionDeniedError)

Entry: TypeAlias = Request | tuple[HasCompletions, Request]


class Attempt(msgspec.Struct, frozen=True):
    """One attempt of a race."""

    index: int
    """Position of its request, from 0."""
    request: Request
    """The request itself, without the client of a pair."""
    outcome: Literal["running", "won", "lost", "failed"]
    """"lost" if another attempt had a token first, "failed" if it ended in `error`."""
    error: Exception | None
    """Why it failed, else None."""
    started: float
    """When it started, in seconds on the event loop's clock."""
    ended: float | None
    """When it ended, on the same clock; None while it runs. The winner ends with the block."""
    usage: Usage | None
    """The usage that the server had reported when the attempt ended, if any."""
    statistics: StreamStatistics
    """The figures of its stream."""


class RaceStatistics(msgspec.Struct, frozen=True):
    """A race at one moment."""

    attempts: list[Attempt]
    """The attempts that were started, in order."""
    winner: int | None
    """Index of the winner's request; None before there is one."""


class _Runner:
    """An attempt, started or not."""

    def __init__(self, index: int, client: HasCompletions, request: Request) -> None:
        self.index = index
        self.client = client
        self.request = request
        # A failed attempt starts the next one at once instead of a retry.
        self.stream: CompletionStream = open_stream(client, {"max_retries": 0, **request})
        self.scope: anyio.CancelScope | None = None
        self.started = math.nan
        self.ended: float | None = None
        self.error: Exception | None = None
        self.complete = False
        """True once the whole answer came without a token."""


class Race:
    """Async context manager that gives the winning stream; made by `race`."""

    def __init__(
        self,
        client: HasCompletions,
        requests: Iterable[Entry],
        delay: float | None,
        max_live: int,
    ) -> None:
        if delay is not None and not delay >= 0:
            raise ValueError(f"delay is {delay!r}: give seconds, 0 or more, or None")
        if max_live < 1:
            raise ValueError(f"max_live is {max_live}: give a positive number")
        runners: list[_Runner] = []
        self._requests = Group("race")
        with self._requests.entered():
            for index, entry in enumerate(requests):
                of, *rest = entry if isinstance(entry, tuple) else (client, entry)
                request = rest[0] if len(rest) == 1 else None
                if not isinstance(request, Mapping):
                    raise TypeError("a request must be a mapping, or a (client, mapping) pair")
                check_client(of)
                runners.append(_Runner(index, of, request))
        if not runners:
            raise ValueError("a race needs at least one request")
        self._pending = deque(runners)
        self._started: list[_Runner] = []
        self._delay = math.inf if delay is None else delay
        self._max_live = max_live
        self._live = 0
        self._failures = 0
        self._winner: _Runner | None = None
        self._changed: anyio.Event | None = None

    async def __aenter__(self) -> CompletionStream:
        """Run the race and return the winner's stream.

        Raises AllAttemptsFailed. Cancelled or failed, nothing stays open.
        """
        if self._started:
            raise RuntimeError("a race is run once")
        protect(Race.__aenter__, Race.__aexit__, Race._run_all, Race._run)
        self._requests.begin(anyio.current_time())
        try:
            async with anyio.create_task_group() as group:
                # Not in this task: anyio (4.16) loses a cancellation of asyncio's own that
                # meets the deadline of a scope in the same task.
                group.start_soon(self._run_all, group)
            self._winner = self._winner or self._fallback()
            await self._close_all(but=self._winner)
            self._requests.decided = False
        except BaseException as error:
            await self._close_all(but=None)  # noqa: ASYNC102 - shielded inside
            self._requests.finish(outcome_of(error, whole=False), anyio.current_time())
            if isinstance(error, BaseExceptionGroup):
                raise sole(cast("BaseExceptionGroup[BaseException]", error)) from None  # noqa: ASYNC104 - the cancellation in it, or what goes before one
            raise
        if self._winner is None:
            self._requests.finish("failed", anyio.current_time())
            errors = [runner.error for runner in self._started if runner.error is not None]
            raise AllAttemptsFailed(
                f"all {len(errors)} attempts failed; the last one: {errors[-1]}", errors=errors
            ) from ExceptionGroup("attempts of the race", errors)
        return self._winner.stream

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._winner is not None
        try:
            await self._winner.stream.__aexit__(exc_type, exc, traceback)  # noqa: ASYNC102 - closing shields what it must
        finally:
            self._winner.ended = now = anyio.current_time()
            whole = self._winner.stream.state is StreamState.COMPLETED
            self._requests.finish(outcome_of(exc, whole=whole), now)

    def statistics(self) -> RaceStatistics:
        """Return the attempts so far; during the block and after it."""
        winner = self._winner
        return RaceStatistics(
            attempts=[self._report(runner) for runner in self._started],
            winner=None if winner is None else winner.index,
        )

    def _report(self, runner: _Runner) -> Attempt:
        outcome: Literal["running", "won", "lost", "failed"] = "running"
        if runner is self._winner:
            outcome = "won"
        elif runner.error is not None:
            outcome = "failed"
        elif runner.ended is not None:
            outcome = "lost"
        return Attempt(
            index=runner.index,
            request=runner.request,
            outcome=outcome,
            error=runner.error,
            started=runner.started,
            ended=runner.ended,
            usage=runner.stream.partial.usage,
            statistics=runner.stream.statistics(),
        )

    # --- the race ---

    async def _run_all(self, group: TaskGroup) -> None:
        """Start attempts by `delay`, `max_live` and failures; end all when the race is decided."""
        next_at = -math.inf
        while self._winner is None and (self._pending or self._live):
            wait = math.inf
            if self._pending and self._live < self._max_live:
                wait = next_at - anyio.current_time()
                if wait <= 0 or self._failures or not self._live:
                    self._failures = max(0, self._failures - 1)
                    runner = self._pending.popleft()
                    self._started.append(runner)
                    self._live += 1
                    runner.started = anyio.current_time()
                    runner.scope = anyio.CancelScope()
                    next_at = runner.started + self._delay
                    group.start_soon(self._run, runner)
                    continue
            self._changed = anyio.Event()
            with anyio.move_on_after(wait):
                await self._changed.wait()
        group.cancel_scope.cancel()

    async def _run(self, runner: _Runner) -> None:
        assert runner.scope is not None
        try:
            with runner.scope:
                # A task that was cancelled before it began still begins.
                if self._winner is not None or runner.scope.cancel_called:
                    return
                await runner.stream.__aenter__()
                if not await runner.stream.first_token():
                    runner.complete = True
                elif self._winner is None:
                    # A second attempt in the same loop iteration loses.
                    self._winner = runner
                    self._requests.decided = True
        except Exception as error:  # noqa: BLE001 - a failed attempt is a value
            self._failed(runner, error)
        except anyio.get_cancelled_exc_class():  # noqa: ASYNC103 - a task that was not cancelled goes on
            if not cancelled_by_itself():
                raise
            self._failed(runner, RuntimeError("the attempt raised a cancellation by itself"))
        finally:
            if runner is not self._winner:
                runner.ended = anyio.current_time()
                # Keep an answer without a token, in case no attempt has one.
                if not runner.complete:
                    await _give_up(runner.stream)  # noqa: ASYNC102 - closing shields what it must
            self._live -= 1
            if self._changed is not None:
                self._changed.set()

    def _failed(self, runner: _Runner, error: Exception) -> None:
        runner.error = error
        self._failures += 1
        if isinstance(error, ACCOUNT_ERRORS):
            self._pending = deque(
                other for other in self._pending if other.client is not runner.client
            )
            for other in self._started:
                if other.client is runner.client and other.scope is not None:
                    other.scope.cancel()

    def _fallback(self) -> _Runner | None:
        """Return the first attempt that was complete without a token, if no attempt had one."""
        return next((runner for runner in self._started if runner.complete), None)

    async def _close_all(self, but: _Runner | None) -> None:
        with anyio.CancelScope(shield=True):
            for runner in self._started:
                if runner is not but:
                    await _give_up(runner.stream)


async def _give_up(stream: CompletionStream) -> None:
    # Count what was read ahead as received: it may hold the usage.
    with contextlib.suppress(anyio.WouldBlock):
        while True:
            stream.receive_nowait()
    await stream.aclose()


def race(
    client: HasCompletions,
    requests: Iterable[Entry],
    *,
    delay: float | None = 0.0,
    max_live: int = 2,
) -> Race:
    """Run several requests against each other; the first to deliver a token is the answer.

        async with race(client, [request, request], delay=1.5) as stream:
            async for chunk in stream: ...

    A token is content, reasoning, refusal or a piece of a tool call; a role-only or empty first
    delta does not win. `delay` staggers the starts: 0 starts all at once, a number of seconds
    starts the next attempt if none has won by then (hedging), None starts it only after a
    failure. At most `max_live` run at once. A failed attempt starts the next one at once, so
    attempts are not retried unless their request has `max_retries`.

    `requests` are keyword arguments of `create()`, or `(client, arguments)` pairs for races
    between servers. 401, 402 and 403 end all attempts on the same client.

    The block gets the winner's stream, from its first chunk on. Losers are closed before the
    block runs, and the winner when the block is left. Raises AllAttemptsFailed, caused by an
    ExceptionGroup, if no attempt succeeds; ValueError or TypeError for requests that are not
    valid.
    """
    return Race(client, requests, delay, max_live)
