"""What the generated client and its resources stand on."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from ..._client.api_key import APIKey
from ..._client.client import AsyncClient
from ..._http.pieces import Run
from ...providers import Provider
from .loop_thread import LoopThread

if TYPE_CHECKING:
    from ..._client.spread import Spread

__all__ = ["ClientDriver", "Driven", "Driver", "Resource"]

A = TypeVar("A", AsyncClient, "Spread")


class Resource:
    """A resource of a blocking client: its async original, and the loop that this one runs on."""

    __slots__ = ("_async", "_loop")

    def __init__(self, loop: LoopThread, original: Any) -> None:
        self._loop: LoopThread = loop
        self._async: Any = original
        self._take_resources()

    def _take_resources(self) -> None:
        """Make the resources below this one."""

    def _run(self, call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return self._loop.run(call)


class Driver(Generic[A]):
    """A blocking client but for its methods: it drives an async one on the shared loop."""

    _loop: LoopThread
    _async: A

    def _drive(self, make: Callable[..., A], *args: Any, **options: Any) -> None:
        """Make the client that this one drives."""
        self._loop = LoopThread()
        if "api_key" in options:
            options["api_key"] = _in_thread(self._loop, options["api_key"])
        client = make(*args, **options)
        if isinstance(client, Driven):
            client.run_elsewhere(self._loop.workers.run)
        self._async = client
        self._take_resources()

    def _take_resources(self) -> None:
        """Make `chat`, `models` and the like."""

    def _run(self, call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return self._loop.run(call)

    @property
    def asynchronous(self) -> A:
        """The client that this one drives; use it only on the loop."""
        return self._async

    @property
    def loop(self) -> LoopThread:
        """This client's share in the event loop."""
        return self._loop

    def __reduce__(self) -> NoReturn:
        self._async.__reduce__()

    def __repr__(self) -> str:
        return repr(self._async)


class ClientDriver(Driver[AsyncClient]):
    """The blocking client of one server."""

    @property
    def provider(self) -> Provider:
        """The provider that the client was made for."""
        return self._async.provider


class Driven(AsyncClient):
    """The client on the loop. Its messages name the blocking one, which its users know."""

    def run_elsewhere(self, run: Run) -> None:
        """Have what may block, such as a body's iterable, run by this."""
        self._endpoint.service.run = run

    def __del__(self) -> None:
        if globals()["warnings"] is None:  # as in AsyncClient
            return
        connections = getattr(self, "_connections", None)
        if connections is not None and (count := connections.close()):
            warnings.warn(
                f"unclosed {self!r} with {count} idle connections: use `with`, or call close()",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )

    def __repr__(self) -> str:
        return super().__repr__().replace("AsyncClient", "Client", 1)


def _in_thread(loop: LoopThread, api_key: APIKey | None) -> APIKey | None:
    """Return a callable that may block as one that does not block the loop."""
    if not callable(api_key) or inspect.iscoroutinefunction(api_key):
        return api_key
    ask: Callable[[], Any] = api_key
    workers = loop.workers

    async def key() -> str:
        answer = await workers.run(ask)
        # An async callable has only made its coroutine in the worker thread.
        known: str = await answer if inspect.isawaitable(answer) else answer
        return known

    return key
