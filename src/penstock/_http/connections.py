"""The idle connections of one client.

In place of httpcore's pool, which loses slots for good when a request is cancelled
(encode/httpcore#1093) and whose bookkeeping is quadratic. Here a request costs the same
whatever the number of connections. Who acquires a connection owns it, until it is
released or discarded.
"""

from __future__ import annotations

from collections import deque

import anyio

from .dial import Dialer
from .network import Deadline, NetworkStream

__all__ = ["KEEPALIVE_EXPIRY", "Connections"]

KEEPALIVE_EXPIRY = 30.0
"""Seconds an idle connection is kept: below what most load balancers and NATs allow."""


class Connections:
    """A last-in-first-out stack of idle connections to one origin."""

    def __init__(self, dialer: Dialer, *, keepalive_expiry: float = KEEPALIVE_EXPIRY) -> None:
        self.dialer = dialer
        self._keepalive_expiry = keepalive_expiry
        self._idle: deque[tuple[float, NetworkStream]] = deque()
        self.closed: bool = False
        """Whether idle connections are no longer kept."""

    async def acquire(self, deadline: Deadline) -> tuple[NetworkStream, bool]:
        """A connection to send a request on, and whether it has been used before.

        Raises ConnectionFailed or the error of `deadline`; then nothing was taken.
        """
        now = anyio.current_time()
        # The oldest lie at the left; looking at one there keeps this O(1).
        if self._idle and self._idle[0][0] <= now - self._keepalive_expiry:
            await self.discard(self._idle.popleft()[1])
        while self._idle:
            since, stream = self._idle.pop()
            if since > now - self._keepalive_expiry and stream.is_clean():
                return stream, True
            await self.discard(stream)
        return await self.dialer.dial(deadline), False

    def release(self, stream: NetworkStream) -> None:
        """Back to the idle ones: the exchange on it is over, with nothing left unread."""
        if self.closed:
            stream.close()
        else:
            self._idle.append((anyio.current_time(), stream))

    async def discard(self, stream: NetworkStream) -> None:
        """Cut it, and return when nothing of it is open any more."""
        stream.close()
        with anyio.CancelScope(shield=True):
            await stream.aclose(0)

    async def aclose(self, grace: float | None) -> None:
        """Close the idle ones gracefully, within `grace` seconds in all, and keep none again."""
        self.closed = True
        idle = [stream for _, stream in self._idle]
        self._idle.clear()
        try:
            with anyio.move_on_after(grace, shield=True):
                for stream in idle:
                    await stream.aclose(grace)
        finally:
            # Out of time, or natively cancelled, which goes through shields.
            for stream in idle:
                stream.close()

    def close(self) -> int:
        """Cut the idle ones from `__del__`; gives how many there were."""
        count = len(self._idle)
        while self._idle:
            self._idle.pop()[1].close()
        return count
