"""`AsyncClient`: what ties the floors below together."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .. import providers
from .._call.call import Service
from .._http.connections import Connections
from .._http.dial import Dialer
from .._http.proxy import Proxy, proxy_from_environment
from .._limiter.limiter import Limiter
from .._policy.retry import MAX_RETRY_WAIT
from .._wire.request import checked_key
from .._wire.url import BaseURL, Origin
from ..observing import Notifier
from ..providers import Provider
from ..timeouts import Timeouts
from ..types import ChatCompletion
from .endpoint import APIKey, Endpoint, checked_retries, checked_wait, key_source
from .resources import Chat, ChatRequest, Models
from .response import Response

if TYPE_CHECKING:
    import ssl

    from .._http.lazy import httpcore

__all__ = ["AsyncClient"]


class AsyncClient:
    """A client of one OpenAI-compatible server. It owns its connections.

    `async with AsyncClient(...) as client:` closes every open stream and connection on
    the way out. Making a client does no I/O and needs no event loop. It may be used by
    any number of tasks of one event loop at a time.

    - `base_url`: where the API lives, usually ending in /v1; default: the provider's.
    - `api_key`: sent as a bearer token; a string, or a callable (sync or async) that is
      asked for one before each attempt.
    - `timeouts`, `max_retries`: for every call that gives none of its own. A request is
      sent again only while no byte of the response body has arrived.
    - `max_retry_wait`: seconds; a server that asks for a longer wait is not waited for.
    - `limiter`: shared bound on requests in flight and on their rate.
    - `headers`: sent with every request, on top of the library's own.
    - `proxy`: URL of an http, https or socks5 proxy (the latter needs the extra `socks`);
      None takes HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY from the environment, and
      "" uses none.
    - `ssl_context`: in place of one that verifies against certifi's authorities.
    - `uds`: path of a Unix socket to connect to instead of the host.
    - `observer`: see `penstock.observing`.
    - `network`: an httpcore network backend in place of real sockets; then the
      environment's proxies are not used.

    Bad values are a ValueError or TypeError here, before any I/O.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: APIKey | None = None,
        provider: Provider | str = providers.OPENAI,
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
        max_retries: int = 2,
        limiter: Limiter | None = None,
        headers: Mapping[str, str] | None = None,
        proxy: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        uds: str | None = None,
        observer: object | None = None,
        network: httpcore.AsyncNetworkBackend | None = None,
        max_retry_wait: float = MAX_RETRY_WAIT,
    ) -> None:
        if not isinstance(timeouts, Timeouts):
            raise TypeError(f"timeouts has to be penstock.Timeouts, not {type(timeouts).__name__}")
        if limiter is not None and not isinstance(limiter, Limiter):
            raise TypeError(f"limiter has to be a penstock.Limiter, not {type(limiter).__name__}")
        provider = providers.get(provider)
        url = BaseURL.parse(provider.base_url if base_url is None else base_url)
        origin = Origin(url.scheme, url.host, url.port)
        chosen = Proxy.parse(proxy) if proxy else None
        if proxy is None and uds is None and network is None:
            chosen = proxy_from_environment(origin)
        dialer = Dialer(origin, ssl_context=ssl_context, proxy=chosen, uds=uds, network=network)
        self._connections = Connections(dialer)
        service = Service(
            connections=self._connections,
            limiter=limiter,
            notifier=None if observer is None else Notifier(observer),
            authorize=key_source(api_key),
            max_retry_wait=checked_wait(max_retry_wait),
        )
        self._endpoint = Endpoint(
            service,
            url,
            headers=headers,
            timeouts=timeouts,
            max_retries=checked_retries(max_retries),
        )
        self.provider = provider
        self.chat: Chat = Chat(self._endpoint)
        self.models: Models = Models(self._endpoint)

    @classmethod
    def from_env(cls, provider: str | Provider = "openai", **overrides: Any) -> AsyncClient:
        """A client set up by the environment variables that the provider names.

        `overrides` are the arguments of the constructor and win over the environment.
        ValueError names the variable when a key is needed and there is none.
        """
        chosen = providers.get(provider)
        if overrides.get("base_url") is None and chosen.base_url_env:
            url = os.environ.get(chosen.base_url_env, "").strip() or None
            if url is not None:
                try:
                    BaseURL.parse(url)
                except ValueError as error:
                    raise ValueError(f"{chosen.base_url_env}: {error}") from None
            overrides["base_url"] = url
        if overrides.get("api_key") is None and chosen.api_key_env:
            key = os.environ.get(chosen.api_key_env, "").strip()
            if key:
                try:
                    overrides["api_key"] = checked_key(key)
                except ValueError as error:
                    raise ValueError(f"{chosen.api_key_env}: {error}") from None
            elif chosen.key_required:
                raise ValueError(
                    f"no API key for {chosen.name}: set {chosen.api_key_env}, or give api_key="
                )
        return cls(provider=chosen, **overrides)

    async def complete(
        self,
        request: ChatRequest,
        *,
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> ChatCompletion:
        """One completion, from the keyword arguments of `create()` as a mapping.

        It streams inside, so that deadlines count tokens and a cancellation reaches the
        server at once. Most servers then report usage only when asked:
        `"stream_options": {"include_usage": True}`. Raises a PenstockError, with `partial`
        when the answer had begun.
        """
        options: dict[str, Any] = {
            name: value
            for name, value in (
                ("timeouts", timeouts),
                ("max_retries", max_retries),
                ("extra_headers", extra_headers),
            )
            if value is not None
        }
        params = {**request, **options}
        params.pop("stream", None)
        async with self._endpoint.stream(params) as stream:
            return await stream.collect()

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Any endpoint below the base URL, with the client's key, retries and errors.

        `path` may have a query. Raises as elsewhere: a status that is no success is an
        APIStatusError.
        """
        return await self._endpoint.request(
            method,
            path,
            json=json,
            timeouts=timeouts,
            max_retries=max_retries,
            extra_headers=extra_headers,
        )

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every open stream at once and the idle connections; idempotent.

        A stream that is being read raises StreamClosedError there.
        """
        await self._endpoint.service.aclose(self._endpoint.timeouts.close)

    def __del__(self) -> None:
        connections = getattr(self, "_connections", None)
        if connections is not None and (count := connections.close()):
            warnings.warn(
                f"unclosed {self!r} with {count} idle connections: use `async with`,"
                " or call aclose()",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )

    def __repr__(self) -> str:
        url = self._endpoint.base_url
        host = f"[{url.host}]" if ":" in url.host else url.host
        return f"<AsyncClient {self.provider.name} {url.scheme}://{host}:{url.port}{url.path}>"
