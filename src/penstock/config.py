"""The settings of a client as a value, for other processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from . import providers
from ._client.api_key import APIKey
from ._client.client import AsyncClient
from ._http.connections import KEEPALIVE
from ._limiter.limiter import Limiter
from ._policy.retry import MAX_RETRY_WAIT
from .blocking.client import Client
from .providers import Provider
from .timeouts import Timeouts

if TYPE_CHECKING:
    import ssl

    from ._http.lazy import httpcore

__all__ = ["ClientConfig"]


_PLAIN = (int, float, Timeouts, Provider)


class ClientConfig(msgspec.Struct, frozen=True):
    """A client's settings, to be pickled and opened in another process.

    A client itself cannot be pickled or copied: it owns connections. The fields are arguments of
    `AsyncClient`; arguments that belong to one process (`limiter`, `ssl_context`, `observer`,
    `network`) are given to `open`. A pickle contains the API key, unless `api_key` is None (then
    the environment of the process that opens it is read) or a function, which is pickled by name.
    """

    base_url: str | None = None
    """URL of the API; None: the environment's, or the provider's."""
    api_key: APIKey | None = None
    """The API key, or a function that returns one; None: the environment's."""
    provider: Provider | str = providers.OPENAI
    """The provider, or its name."""
    timeouts: Timeouts = Timeouts()
    """Limits in seconds, for calls without their own."""
    max_retries: int = 2
    """How often a call is retried at most."""
    headers: Mapping[str, str] | None = None
    """Sent with every request."""
    proxy: str | None = None
    """URL of a proxy; None: the environment's, "": none."""
    uds: str | None = None
    """Path of a Unix socket to connect to instead of the host."""
    max_retry_wait: float = MAX_RETRY_WAIT
    """Seconds that a server may ask to wait before a retry; 60 by default."""
    default_query: Mapping[str, Any] | None = None
    """URL parameters of every request."""
    keepalive: float = KEEPALIVE
    """Seconds for which an idle connection is kept; 30 by default, 0 keeps none."""

    def open(
        self,
        *,
        limiter: Limiter | None = None,
        ssl_context: ssl.SSLContext | None = None,
        observer: object | None = None,
        network: httpcore.AsyncNetworkBackend | None = None,
    ) -> AsyncClient:
        """Return a new client with these settings: `async with config.open() as client`.

        Does no I/O. ValueError or TypeError if a setting is not valid, as from `AsyncClient`.
        """
        return AsyncClient(
            **self._settings(),
            limiter=limiter,
            ssl_context=ssl_context,
            observer=observer,
            network=network,
        )

    def open_blocking(
        self,
        *,
        limiter: Limiter | None = None,
        ssl_context: ssl.SSLContext | None = None,
        observer: object | None = None,
        network: httpcore.AsyncNetworkBackend | None = None,
    ) -> Client:
        """Return a new blocking client with these settings: `with config.open_blocking() as ...`.

        Does no I/O. ValueError or TypeError if a setting is not valid, as from `Client`.
        """
        return Client(
            **self._settings(),
            limiter=limiter,
            ssl_context=ssl_context,
            observer=observer,
            network=network,
        )

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__struct_fields__}

    # Without what may be secret, or have a secret in the wrong place: texts and mappings.
    def __repr__(self) -> str:
        shown = self._shown()
        return f"ClientConfig({', '.join(f'{name}={value!r}' for name, value in shown)})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return self._shown()

    def _shown(self) -> list[tuple[str, Any]]:
        return [
            (name, value if isinstance(value, _PLAIN) else "...")
            for name, value in self._settings().items()
            if value is not None
        ]
