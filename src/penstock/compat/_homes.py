"""A transport's connections: by event loop, and there by the server they lead to.

A connection belongs to the event loop it was made in, and a client of httpx may be used in
several: in one after another (each `asyncio.run` has its own), and in several threads at once.
So each loop has a `Home`. It ends with its loop: asyncio and trio close async generators that
are still open when they end, and one that waits at its `yield` closes the connections then.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from .._call.call import Service
from .._client.arguments import checked_limiter, checked_observer
from .._http.connections import Connections
from .._http.dial import Dialer
from .._http.proxy import Proxy, proxy_from_environment
from .._limiter.limiter import Limiter
from .._loops import event_loop
from .._policy.retry import MAX_RETRY_WAIT
from .._wire.url import Origin

if TYPE_CHECKING:
    import ssl

    from .._http.lazy import httpcore

__all__ = ["Home", "Homes", "Services"]


class Services:
    """The settings of one transport, and how a service for a server is made from them."""

    def __init__(
        self,
        *,
        limiter: Limiter | None,
        observer: object | None,
        proxy: str | None,
        ssl_context: ssl.SSLContext | None,
        uds: str | None,
        network: httpcore.AsyncNetworkBackend | None,
    ) -> None:
        self._limiter = checked_limiter(limiter)
        self._notifier = checked_observer(observer)
        self._proxy = Proxy.parse(proxy) if proxy else None
        self._asks_environment = proxy is None and uds is None and network is None
        self._ssl_context = ssl_context
        self._uds = uds
        self._network = network

    def make(self, origin: Origin) -> Service:
        """Return what calls to this server need, in one event loop."""
        proxy = proxy_from_environment(origin) if self._asks_environment else self._proxy
        dialer = Dialer(
            origin,
            ssl_context=self._ssl_context,
            proxy=proxy,
            uds=self._uds,
            network=self._network,
        )
        return Service(
            connections=Connections(dialer),
            limiter=self._limiter,
            notifier=self._notifier,
            authorize=_no_key,
            asks_for_key=False,
            max_retry_wait=MAX_RETRY_WAIT,
        )


class Homes:
    """The homes of one transport."""

    def __init__(self, services: Services) -> None:
        # Each home refers to it, and nothing of it back: what is dropped closes at once.
        self._services = services
        self._lock = threading.Lock()
        self._homes: weakref.WeakKeyDictionary[Any, Home] = weakref.WeakKeyDictionary()
        self.closed: bool = False
        """Whether the transport is closed: nothing is sent any more."""

    def here(self) -> Home:
        """Return the home of the running event loop."""
        loop = event_loop()
        home = self._homes.get(loop)
        if home is None:
            home = self.of(loop)
            home.end_with_loop()
        return home

    def of(self, owner: Any) -> Home:
        """Return the home that belongs to `owner`, an event loop or what stands for one."""
        with self._lock:
            home = self._homes.get(owner)
            if home is None:
                for other, abandoned in list(self._homes.items()):
                    if isinstance(other, asyncio.AbstractEventLoop) and other.is_closed():
                        abandoned.cut()
                        del self._homes[other]
                home = self._homes[owner] = Home(self._services)
            return home

    async def aclose(self, grace: float | None) -> None:
        """Close every request and connection: here gracefully, in other loops soon. Idempotent."""
        self.closed = True
        with self._lock:
            homes = list(self._homes.items())
            self._homes.clear()
        here = event_loop()
        mine: Home | None = None
        for loop, home in homes:
            if loop is here:
                mine = home
            elif not _run_soon(loop, partial(home.aclose, 0)):
                home.cut()
        if mine is not None:
            await mine.aclose(grace)

    async def close_of(self, owner: Any, grace: float | None) -> None:
        """Close what belongs to `owner`, in whose event loop this runs. Idempotent."""
        self.closed = True
        with self._lock:
            home = self._homes.pop(owner, None)
        if home is not None:
            await home.aclose(grace)


class Home:
    """What a transport has in one event loop: a service for each server."""

    __slots__ = ("__weakref__", "_maker", "_services", "_until_end")

    def __init__(self, services: Services) -> None:
        self._maker = services
        self._services: dict[Origin, Service] = {}
        self._until_end: AsyncGenerator[None, None] | None = None

    def service(self, origin: Origin) -> Service:
        """Return what calls to this server need."""
        service = self._services.get(origin)
        if service is None:
            service = self._services[origin] = self._maker.make(origin)
        return service

    def end_with_loop(self) -> None:
        """Have the running event loop close everything when it ends."""
        self._until_end = _until_end(self._services)
        _step(self._until_end.__anext__())

    async def aclose(self, grace: float | None) -> None:
        """Close open requests at once, and idle connections within `grace` seconds."""
        try:
            for service in list(self._services.values()):
                await service.aclose(grace)
        finally:
            self.cut()

    def cut(self) -> None:
        """Close everything now, from any thread and without waiting. Idempotent."""
        for service in self._services.values():
            service.close()
        self._forget()

    def _forget(self) -> None:
        for service in self._services.values():
            service.connections.close()
        if self._until_end is not None:
            self._services.clear()
            _step(self._until_end.aclose())
            self._until_end = None

    def __del__(self) -> None:
        # Nobody can send anything any more. What is still being read goes on.
        if hasattr(self, "_until_end"):
            self._forget()


async def _until_end(services: dict[Origin, Service]) -> AsyncGenerator[None, None]:  # noqa: ASYNC900 - its user closes it
    # It waits for nothing at its end, so that `_step` can end it without an event loop.
    try:
        yield
    finally:
        for service in services.values():
            service.close()
        # For one that goes on after all.
        services.clear()


def _step(step: Any) -> None:
    """Take an async generator's step that waits for nothing, in any thread."""
    try:
        step.send(None)
    except (StopIteration, StopAsyncIteration):
        pass
    except RuntimeError:
        # Its loop is just ending it.
        pass


def _run_soon(loop: Any, fn: Callable[[], Coroutine[Any, Any, None]]) -> bool:
    """Have another event loop run this; return whether there is one that runs."""
    try:
        if isinstance(loop, asyncio.AbstractEventLoop):
            if not loop.is_running():
                return False
            loop.call_soon_threadsafe(lambda: loop.create_task(fn()))
        else:
            import trio

            loop.run_sync_soon(lambda: trio.lowlevel.spawn_system_task(fn))
    except RuntimeError:  # it has ended; trio.RunFinishedError is one
        return False
    return True


async def _no_key() -> None:
    """Return no key: the client above has put its own into the headers."""
