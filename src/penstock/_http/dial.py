"""Making a connection to an origin: name look-up, TCP or Unix socket, proxy, TLS."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import cache
from typing import TYPE_CHECKING, Protocol

import anyio

from .._loops import event_loop_clock, in_trio
from .._wire.url import Origin
from ..errors import ConnectTimeout, PenstockError
from . import lazy
from .lookup import Lookups, literal_address
from .network import ConnectionFailed, Deadline, NetworkStream
from .off_loop import run_off_loop, turn
from .proxy import Proxy
from .turns import Turns

if TYPE_CHECKING:
    import ssl

__all__ = ["Dialer", "NewScope"]


# Seconds after which the next address is tried beside the previous one (RFC 8305, 5).
ATTEMPT_DELAY = 0.25


class NewScope(Protocol):
    """Makes the cancel scope of a wait."""

    def __call__(self, *, deadline: float) -> anyio.CancelScope: ...


class Dialer:
    """How connections to one origin are made."""

    def __init__(
        self,
        origin: Origin,
        *,
        ssl_context: ssl.SSLContext | None = None,
        proxy: Proxy | None = None,
        uds: str | None = None,
        network: lazy.httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self.origin = origin
        self.proxy = proxy
        self._ssl_context = ssl_context
        self._hop = origin if proxy is None else proxy.origin
        # The hop where it is an address itself, not a name; None until it is looked at.
        self._literal: list[tuple[str, int]] | None = None
        self._lookups = Lookups()
        self._turns = Turns()
        self._uds = uds
        self._network = network

    @property
    def forwards(self) -> bool:
        """True if requests go to the proxy itself, which forwards them (http:// origins)."""
        return self.proxy is not None and not self.proxy.is_socks and self.origin.scheme == "http"

    async def dial(
        self, deadline: Deadline, new_scope: NewScope = anyio.CancelScope
    ) -> NetworkStream:
        """Return a connected stream, over TLS if the origin is https.

        `new_scope` makes the cancel scope of each wait, so that its caller can cancel that wait.
        Raises ConnectionFailed or the error of `deadline`. On any failure or cancellation nothing
        stays open.
        """
        if self._needs_httpcore and not lazy.is_ready():
            await lazy.ready()
        opened: list[NetworkStream] = []
        until = deadline.begin(event_loop_clock()())
        try:
            # Both before the scope, which those that wait their turn need not hold.
            addresses = self._literal or await self._look_up(until, deadline, new_scope)
            await self._turns.take()
            with new_scope(deadline=until):
                return await self._connect(addresses, opened, deadline)
        except OSError as error:
            # For instance, no file descriptor is left to load a module or certificates.
            await _close_all(opened)  # noqa: ASYNC120 - a cancellation may replace the error
            if isinstance(error, PenstockError):
                raise
            raise ConnectionFailed(
                f"cannot connect to {self.origin.authority}: {_reason(error)}"
            ) from error
        except BaseException:
            await _close_all(opened)  # noqa: ASYNC102 - shielded inside
            raise
        await _close_all(opened)
        raise deadline.error()

    @property
    def _needs_httpcore(self) -> bool:
        """Whether connections are those of a backend, or go through an HTTP proxy's tunnel."""
        if self.proxy is None or self.proxy.is_socks:
            return self._network is not None
        return not self.forwards

    async def _look_up(
        self, until: float, deadline: Deadline, new_scope: NewScope
    ) -> list[tuple[str, int]]:
        if self._network is not None or self._uds is not None:
            return []
        if self._literal is None:
            self._literal = literal_address(self._hop)
        if self._literal:
            return self._literal
        with new_scope(deadline=until):
            return await self._lookups.resolve(self._hop, self._shown(self._hop.host))
        raise deadline.error()

    async def _connect(
        self,
        addresses: list[tuple[str, int]],
        opened: list[NetworkStream],
        deadline: Deadline,
    ) -> NetworkStream:
        proxy, origin = self.proxy, self.origin
        stream = await self._reach(addresses)
        opened.append(stream)
        if proxy is not None:
            if proxy.scheme == "https":
                stream = await self._start_tls(stream, proxy.host, deadline)
            if not self.forwards:
                from .tunnel import tunnel

                stream = await tunnel(stream, proxy, origin, deadline)
        if origin.scheme == "https":
            stream = await self._start_tls(stream, origin.host, deadline)
        return stream

    async def _reach(self, addresses: list[tuple[str, int]]) -> NetworkStream:
        hop = self._hop
        if self._network is not None:
            return await self._reach_by_backend(self._network, hop)
        connectors = _connectors(in_trio())
        if self._uds is not None:
            try:
                return await connectors.connect_unix(self._uds)
            except OSError as error:
                raise ConnectionFailed(
                    f"cannot connect to {self._uds}: {_reason(error)}"
                ) from error
        try:
            return await _first_to_connect(addresses, hop.port, connectors.connect_tcp)
        except OSError as error:
            raise ConnectionFailed(
                f"cannot connect to {self._shown(hop.host_and_port)}: {_reason(error)}"
            ) from error

    async def _reach_by_backend(
        self, network: lazy.httpcore.AsyncNetworkBackend, hop: Origin
    ) -> NetworkStream:
        from .foreign_stream import ForeignStream

        try:
            if self._uds is not None:
                return ForeignStream(await network.connect_unix_socket(self._uds))
            return ForeignStream(await network.connect_tcp(hop.host, hop.port))
        except lazy.httpcore.TimeoutException as error:
            raise ConnectTimeout("the network backend reported a connect timeout") from error
        except Exception as error:
            text = str(error) or type(error).__name__
            where = self._shown(hop.host_and_port)
            raise ConnectionFailed(f"cannot connect to {where}: {text}") from error

    def _shown(self, hop: str) -> str:
        return hop if self.proxy is None else f"the proxy {hop}"

    async def _start_tls(
        self, stream: NetworkStream, hostname: str, deadline: Deadline
    ) -> NetworkStream:
        from .tls import start_tls  # only https needs it

        context = self._ssl_context or await self._default_context()
        if self._network is not None:
            from .foreign_stream import ForeignStream

            if isinstance(stream, ForeignStream):
                await stream.start_tls(context, hostname, deadline)
                return stream
        return await start_tls(stream, context, hostname, deadline)

    async def _default_context(self) -> ssl.SSLContext:
        from . import tls

        if self._network is not None:
            # In virtual time no timer waits for a thread.
            self._ssl_context = tls.default_context()
            return self._ssl_context
        async with turn():
            if self._ssl_context is None:
                return await run_off_loop(self._load_context)
            return self._ssl_context

    def _load_context(self) -> ssl.SSLContext:
        """Load the authorities, and store them even if the task that asked has been cancelled."""
        from . import tls

        context = self._ssl_context = tls.shared_context()
        return context


def _reason(error: OSError) -> str:
    # asyncio replaces the system's words for the error by the address.
    return os.strerror(error.errno) if error.errno else str(error)


async def _close_all(streams: list[NetworkStream]) -> None:
    for stream in streams:
        stream.close()
    with anyio.CancelScope(shield=True):
        for stream in streams:
            await stream.aclose(1.0)


class _Connectors(Protocol):
    """What the module of an event loop offers."""

    async def connect_tcp(self, host: str, port: int, family: int) -> NetworkStream: ...
    async def connect_unix(self, path: str) -> NetworkStream: ...


@cache  # an import in a function takes as long as a dozen calls
def _connectors(trio: bool) -> _Connectors:
    if trio:
        from . import trio_stream

        return trio_stream
    from . import asyncio_stream

    return asyncio_stream


async def _first_to_connect(
    addresses: list[tuple[str, int]],
    port: int,
    connect: Callable[[str, int, int], Awaitable[NetworkStream]],
) -> NetworkStream:
    """Try each address a moment after the previous one, or once that failed (Happy Eyeballs)."""
    if len(addresses) == 1:
        ((host, family),) = addresses
        return await connect(host, port, family)
    won: list[NetworkStream] = []
    failures: list[Exception] = []

    async def attempt(host: str, family: int, failed: anyio.Event) -> None:
        try:
            stream = await connect(host, port, family)
        except Exception as error:  # noqa: BLE001 - raised below, in no exception group
            failures.append(error)
            failed.set()
        else:
            if won:
                stream.close()
                return
            won.append(stream)
            group.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as group:
            for host, family in addresses:
                failed = anyio.Event()
                group.start_soon(attempt, host, family, failed)
                with anyio.move_on_after(ATTEMPT_DELAY):
                    await failed.wait()
    except BaseException:
        for stream in won:
            stream.close()
        raise
    if won:
        return won[0]
    raise failures[-1] if failures else OSError("no address to connect to")
