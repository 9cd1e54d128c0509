"""Connections that are made before the first request needs them."""

from __future__ import annotations

import math

import anyio

from .._call.call import Service
from .._call.faults import public_error
from .._call.secrets import Secrets
from .._http.network import ConnectionFailed
from .._loops import in_trio, load_backend
from .._policy.deadlines import ConnectDeadline
from ..errors import PenstockError, StreamClosedError
from .endpoint import Endpoint

__all__ = ["WarmUp", "checked_count"]

DIALS_AT_ONCE = 64
"""Connections that are being made at the same time, at most."""


def checked_count(n: object) -> int:
    """Return how many connections should be ready; TypeError or ValueError if it is no number."""
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"n must be a whole number, not {type(n).__name__}")
    if n < 0:
        raise ValueError(f"n is {n}: give how many connections should be ready")
    return n


class WarmUp:
    """Fills the idle connections of a client, once. It is ended by the client's `aclose`."""

    def __init__(self, endpoint: Endpoint, count: int) -> None:
        self._service: Service = endpoint.service
        self._timeouts = endpoint.timeouts
        self._secrets = Secrets(endpoint.service, endpoint.call("GET", "/").outgoing)
        self._count = checked_count(count)
        self._missing = 0
        self._error: Exception | None = None
        self._scope: anyio.CancelScope
        self._ended: anyio.Event | None = None

    @property
    def connected(self) -> bool:
        """False: the connections that it makes are idle."""
        return False

    async def run(self) -> int:
        """Return how many idle connections are ready.

        Raises the error of the first connection that cannot be made, as a request would, and
        StreamClosedError if the client is closed. Those that are ready stay ready.
        """
        service = self._service
        if service.closed:
            raise StreamClosedError("the client is closed")
        try:
            load_backend(in_trio())
        except OSError as error:
            raise self._public(ConnectionFailed(f"cannot load a module: {error}")) from error
        connections = service.connections
        self._scope = anyio.CancelScope()
        self._ended = anyio.Event()
        service.live.add(self)
        try:
            with self._scope:
                ready = connections.keep_usable()
                self._missing = min(self._count, connections.capacity) - ready
                async with anyio.create_task_group() as group:
                    for _ in range(min(self._missing, DIALS_AT_ONCE)):
                        group.start_soon(self._dial)
        finally:
            service.live.discard(self)
            self._ended.set()
        if service.closed:
            raise StreamClosedError("the client was closed while it made connections")
        if self._error is not None:
            raise self._public(self._error)
        return connections.keep_usable()

    async def _dial(self) -> None:
        """Make connections until none is missing."""
        connections, timeouts = self._service.connections, self._timeouts
        while self._missing > 0:
            self._missing -= 1
            now = anyio.current_time()
            total = math.inf if timeouts.total is None else timeouts.total
            deadline = ConnectDeadline(timeouts, now=now, total_at=now + total)
            try:
                stream = await connections.dialer.dial(deadline)
            except Exception as error:  # noqa: BLE001 - raised by `run`, in no exception group
                self._failed(error)
                return
            if connections.keeps:
                connections.release(stream)
            else:  # closed meanwhile
                await connections.discard(stream)

    def _failed(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
        self._scope.cancel()

    def _public(self, error: Exception) -> Exception:
        public = public_error(error, None)
        if public is not error:
            public.__cause__ = error
        return self._secrets.mask(public) if isinstance(public, PenstockError) else public

    # --- for the client's `aclose` ---

    def interrupt(self) -> None:
        """Make no further connection."""
        self._scope.cancel()

    async def settle(self) -> None:
        """Return when the connections that were being made are closed."""
        if self._ended is not None:
            await self._ended.wait()

    def abort(self) -> None:
        """Do nothing: what is being made is closed by the task that makes it."""
