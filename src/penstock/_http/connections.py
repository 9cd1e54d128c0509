"""The idle connections of one client.

They replace httpcore's pool, which loses slots for good when a request is cancelled
(encode/httpcore#1093) and whose bookkeeping is quadratic. Here a request costs the same
whatever the number of connections. The acquirer of a connection owns it until it is
released or discarded.
"""

from __future__ import annotations

import math
import weakref
from collections import deque
from functools import partial
from typing import Protocol

import anyio

from .._loops import event_loop, event_loop_clock, in_trio
from .dial import Dialer, NewScope
from .network import Deadline, NetworkStream

__all__ = ["KEEPALIVE", "MAX_IDLE", "Connections"]

KEEPALIVE = 30.0
"""Seconds an idle connection is kept: below what most load balancers and NATs allow."""

MAX_IDLE = 1000
"""Idle connections that are kept at most; beyond it the one that is idle longest is closed."""

# Seconds by which timers may fire early (uvloop rounds to milliseconds).
TIMER_SLACK = 0.01


class Connections:
    """A last-in-first-out stack of idle connections to one origin.

    Expired ones are closed by the next use, by `count_idle`, and by a timer of the event
    loop. (trio has none without a task: see `trio_timer`.)
    """

    def __init__(self, dialer: Dialer, *, keepalive: float = KEEPALIVE) -> None:
        self.dialer = dialer
        self._keepalive = keepalive
        # The oldest are at the left.
        self._idle: deque[tuple[float, NetworkStream]] = deque()
        # Closed ones that the next use must wait for.
        self._closing: list[NetworkStream] = []
        # The event loop in which a connection was released last, and its timer.
        self._home: object = None
        self._timer: _Timer | None = None
        self.made: int = 0
        """New connections so far, failed ones not counted."""
        self.closed: bool = False
        """True once idle connections are no longer kept."""

    @property
    def keeps(self) -> bool:
        """True if a released connection is kept."""
        return not self.closed and self._keepalive > 0

    @property
    def capacity(self) -> int:
        """How many idle connections may be kept at once."""
        return MAX_IDLE if self.keeps else 0

    async def acquire(
        self, deadline: Deadline, *, fresh: bool = False, new_scope: NewScope = anyio.CancelScope
    ) -> tuple[NetworkStream, bool]:
        """Return a connection for a request, and whether it has served before.

        With `fresh` it is always a new one; `new_scope` as in `Dialer.dial`. Raises
        ConnectionFailed or the error of `deadline`; then nothing was taken.
        """
        self._expire()
        while self._closing:
            await self.discard(self._closing.pop())
        while self._idle and not fresh:
            _, stream = self._idle.pop()
            if stream.is_clean():
                return stream, True
            await self.discard(stream)
        stream = await self.dialer.dial(deadline, new_scope)
        self.made += 1
        return stream, False

    def release(self, stream: NetworkStream) -> None:
        """Keep the connection: its exchange is over, with nothing left unread."""
        if not self.keeps:
            self._drop(stream)
            return
        self._idle.append((event_loop_clock()(), stream))
        if len(self._idle) > MAX_IDLE:
            self._drop(self._idle.popleft()[1])
        self._set_timer()

    def _drop(self, stream: NetworkStream) -> None:
        stream.close()
        if not stream.closes_at_once:
            self._closing.append(stream)

    async def discard(self, stream: NetworkStream) -> None:
        """Close the connection; return when nothing of it is open any more."""
        stream.close()
        with anyio.CancelScope(shield=True):
            await stream.aclose(0)

    def count_idle(self) -> int:
        """Return how many idle connections are usable; close the others.

        Outside the event loop that uses them, return how many there are.
        """
        home = self._home
        return self.keep_usable() if home is not None and event_loop() is home else len(self._idle)

    def keep_usable(self) -> int:
        """Close the idle connections that cannot take a request here; return how many can."""
        kept = deque[tuple[float, NetworkStream]]()
        self._expire()
        for since, stream in self._idle:
            if stream.is_clean():
                kept.append((since, stream))
            else:
                self._drop(stream)
        self._idle = kept
        return len(kept)

    def _expire(self, slack: float = 0.0) -> None:
        """Close the connections that have been idle for too long."""
        if not self._idle:
            return
        oldest = event_loop_clock()() - self._keepalive + slack
        while self._idle and self._idle[0][0] <= oldest:
            self._drop(self._idle.popleft()[1])

    def _set_timer(self) -> None:
        home = event_loop()
        if home is not self._home:
            self._home = home
            self._timer = None
        if self._timer is None and self._keepalive < math.inf:
            # Weakly, so that the timer does not keep an abandoned client.
            when = self._idle[0][0] + self._keepalive
            on_timer = partial(_on_timer, weakref.ref(self))  # pyright: ignore[reportArgumentType] - Self is one
            if not in_trio():
                self._timer = home.call_at(when, on_timer)
                return
            try:
                from .trio_timer import Timer
            except OSError:
                return  # no descriptor is left; the next release tries again
            self._timer = Timer(when - event_loop_clock()(), on_timer)

    def on_timer(self) -> None:
        """Called by the event loop when the oldest connection has expired."""
        self._timer = None
        self._expire(TIMER_SLACK)
        if self._idle:
            self._set_timer()

    async def aclose(self, grace: float | None) -> None:
        """Close the idle ones gracefully, within `grace` seconds in all, and keep none again."""
        self.closed = True
        self._stop_timer()
        idle = [stream for _, stream in self._idle] + self._closing
        self._idle.clear()
        self._closing.clear()
        try:
            with anyio.move_on_after(grace, shield=True):
                for stream in idle:
                    await stream.aclose(grace)
        finally:
            # Out of time, or natively cancelled, which ignores shields.
            for stream in idle:
                stream.close()

    def close(self) -> int:
        """Close the idle ones now, from anywhere; return how many there were. Keeps none again."""
        self.closed = True
        if event_loop() is self._home:
            self._stop_timer()
        self._home = self._timer = None
        count = len(self._idle)
        while self._idle:
            self._idle.pop()[1].close()
        return count

    def _stop_timer(self) -> None:
        # The timer of another event loop finds nothing to do.
        if self._timer is not None and event_loop() is self._home:
            self._timer.cancel()
        self._timer = None


class _Timer(Protocol):
    def cancel(self) -> None: ...


def _on_timer(connections: weakref.ref[Connections]) -> None:
    alive = connections()
    if alive is not None:
        alive.on_timer()
