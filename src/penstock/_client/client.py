"""`AsyncClient`: combines the floors below."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Unpack, overload

from .. import providers
from .._call.call import Service
from .._http.connections import KEEPALIVE, Connections
from .._http.dial import Dialer
from .._http.pieces import Content
from .._http.proxy import Proxy, proxy_from_environment
from .._policy.retry import MAX_RETRY_WAIT
from .._wire.credentials import hides_arguments
from .._wire.query import Query
from ..providers import Provider
from ..timeouts import Timeouts
from ..types import ChatCompletion
from .api_key import APIKey, key_source
from .arguments import (
    checked_keepalive,
    checked_limiter,
    checked_observer,
    checked_retries,
    checked_timeouts,
    checked_wait,
)
from .endpoint import Endpoint
from .environment import base_url_for, key_from_environment
from .resources import Chat, ChatRequest, Models, TextCompletions

if TYPE_CHECKING:
    import ssl

    from .._call.event_stream import EventStream
    from .._call.response_stream import ResponseStream
    from .._http.lazy import httpcore
    from .._limiter.limiter import Limiter
    from .._local.server import LocalServer
    from .params import RequestParams
    from .response import Response
    from .statistics import ClientStatistics

__all__ = ["AsyncClient"]


class AsyncClient:
    """A client of one OpenAI-compatible server. It owns its connections.

    `async with AsyncClient(...) as client:` closes every open stream and connection at the
    end of the block. Creating a client does no I/O and needs no event loop. Any number of
    tasks of one event loop may use it.

    - `base_url`: URL of the API, usually ending in /v1. A query in it (`?api-version=...`)
      is sent with every request. Default: the provider's, or that of its environment
      variable (`OPENAI_BASE_URL`).
    - `api_key`: sent as a bearer token. A string, or a callable (sync or async) that is
      called for one before each attempt. Without `base_url` the default is the key in the
      provider's environment variable (`OPENAI_API_KEY`); to a `base_url` of your own no key
      is sent by default.
    - `timeouts`, `max_retries`: defaults for every call. A request is retried only while no
      byte of the response body has arrived.
    - `max_retry_wait`: seconds. If a server asks for a longer wait before the retry, the
      error is raised at once. Default: 60.
    - `keepalive`: seconds for which an idle connection is kept (default: 30); 0 keeps none.
      Choose less than what the server keeps them for (uvicorn: 5).
    - `limiter`: shared limit on requests in flight and on their rate.
    - `headers`: sent with every request; they override the library's own.
    - `default_query`: URL parameters sent with every request, for instance
      `{"api-version": "2025-04-01"}`; a call's `extra_query` overrides them.
    - `proxy`: URL of an http, https or socks5 proxy (socks5 needs the extra `socks`).
      None reads HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY; "" uses no proxy.
    - `ssl_context`: replaces the one that verifies against certifi's authorities.
    - `uds`: path of a Unix socket to connect to instead of the host.
    - `observer`: receives events; see `penstock.observing`. A list for several of them.
    - `network`: an httpcore network backend instead of real sockets. The proxies of the
      environment are then ignored.

    ValueError or TypeError for invalid arguments and for a missing key, before any I/O.
    """

    _local: LocalServer | None = None
    """The server that this client has started."""

    @hides_arguments
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
        default_query: Mapping[str, Any] | None = None,
        keepalive: float = KEEPALIVE,
    ) -> None:
        timeouts, limiter = checked_timeouts(timeouts), checked_limiter(limiter)
        provider = providers.get(provider)
        notifier = checked_observer(observer)
        url = base_url_for(provider, base_url).with_query(Query.of(default_query, "default_query"))
        chosen = Proxy.parse(proxy) if proxy else None
        if proxy is None and uds is None and network is None:
            chosen = proxy_from_environment(url.origin)
        dialer = Dialer(url.origin, ssl_context=ssl_context, proxy=chosen, uds=uds, network=network)
        max_retries, max_retry_wait = checked_retries(max_retries), checked_wait(max_retry_wait)
        keepalive = checked_keepalive(keepalive)
        if base_url is None and api_key is None:
            # Only for the provider's own URL: to another one its key is not sent.
            api_key = key_from_environment(provider, headers)
        self._connections = Connections(dialer, keepalive=keepalive)
        self._parent: AsyncClient | None = None
        service = Service(
            connections=self._connections,
            limiter=limiter,
            notifier=notifier,
            authorize=key_source(api_key),
            asks_for_key=callable(api_key),
            max_retry_wait=max_retry_wait,
            provider=provider.name,
            server=str(url),
        )
        endpoint = Endpoint(
            service,
            url,
            headers=headers,
            timeouts=timeouts,
            max_retries=max_retries,
            provider=provider.name,
        )
        self.provider: Provider = provider
        """The provider that was given or named."""
        self._endpoint = endpoint
        self.chat: Chat = Chat(endpoint)
        """Chat completions: `client.chat.completions.create(...)` and `.stream(...)`."""
        self.completions: TextCompletions = TextCompletions(endpoint)
        """Text completions of the legacy endpoint: `client.completions.create(...)`."""
        self.models: Models = Models(endpoint)
        """The server's models: `await client.models.list()`."""
        if notifier is not None and notifier.wants("client_made"):
            from .statistics import client_made

            notifier.tell("client_made", client_made(self._endpoint.service))

    @classmethod
    @hides_arguments
    def from_env(
        cls,
        provider: str | Provider = "openai",
        *,
        base_url: str | None = None,
        api_key: APIKey | None = None,
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
        default_query: Mapping[str, Any] | None = None,
        keepalive: float = KEEPALIVE,
    ) -> AsyncClient:
        """Create a client from the environment variables that the provider names.

        The other arguments are those of the constructor; they take precedence over the
        environment. With a `base_url` the key of the environment is sent there. ValueError names
        the variable if a key is required and missing.
        """
        chosen = providers.get(provider)
        return cls(
            base_url,
            api_key=key_from_environment(chosen, headers) if api_key is None else api_key,
            provider=chosen,
            timeouts=timeouts,
            max_retries=max_retries,
            limiter=limiter,
            headers=headers,
            proxy=proxy,
            ssl_context=ssl_context,
            uds=uds,
            observer=observer,
            network=network,
            max_retry_wait=max_retry_wait,
            default_query=default_query,
            keepalive=keepalive,
        )

    @classmethod
    def local(cls, *, parallel: int = 4, **options: Any) -> AsyncClient:
        """Start the embedded model and return a client for it, to develop without a key.

        It takes half a second, during which the event loop stands still. The model's name is
        `smollm2-135m-instruct`; `parallel` answers run at once. Its server ends when the client
        is closed or collected, or with the process. `options` are arguments of the constructor.
        RuntimeError if the extra `demo` is not installed, and says how, or if it cannot start.
        """
        from .._local.server import LocalServer  # it looks for packages, which is a large import

        server = LocalServer(parallel=parallel)
        server.start()
        try:
            client = cls(server.base_url, **options)
        except BaseException:
            server.stop()
            raise
        client._local = server
        return client

    @hides_arguments
    def with_options(
        self,
        *,
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        max_retry_wait: float | None = None,
        headers: Mapping[str, str] | None = None,
        default_query: Mapping[str, Any] | None = None,
        api_key: APIKey | None = None,
        limiter: Limiter | None = None,
        observer: object | None = None,
    ) -> AsyncClient:
        """Return a client with other settings on the connections of this one.

            patient = client.with_options(timeouts=Timeouts(read=1800), max_retries=5)

        Arguments as for the constructor; those left out are as in this client. `headers` and
        `default_query` are added to this client's, and replace those of the same name. It costs
        no I/O, and shares limiter and observer unless it is given its own.

        It need not be closed. `aclose()` and `async with` end the streams that were opened with
        it, and leave this client open; closing this client closes it, too. ValueError or
        TypeError for invalid arguments.
        """
        client = type(self).__new__(type(self))
        client._derive(
            self,
            self._endpoint.derive(
                timeouts=timeouts,
                max_retries=max_retries,
                max_retry_wait=max_retry_wait,
                headers=headers,
                default_query=default_query,
                api_key=api_key,
                limiter=limiter,
                observer=observer,
            ),
        )
        return client

    def _derive(self, parent: AsyncClient, endpoint: Endpoint) -> None:
        # The parent stays alive: its end would close the idle connections.
        self._parent = parent
        self.provider = parent.provider
        self._endpoint = endpoint
        self.chat = Chat(endpoint)
        self.completions = TextCompletions(endpoint)
        self.models = Models(endpoint)

    async def warm(self, n: int = 1) -> int:
        """Connect in advance; return how many idle connections are ready.

        Makes connections, TLS included, until `n` are idle (1000 at most; none with
        `keepalive=0`), so that the first requests need not wait for that. Sends no request and
        takes no slot of the limiter. Idle connections end after `keepalive` seconds.

        Raises an APIConnectionError or ConnectTimeout as a request would, without retries, and
        StreamClosedError if the client is closed; connections that are ready stay so. Cancelled,
        it leaves nothing half open.
        """
        from .warm_up import WarmUp

        return await WarmUp(self._endpoint, n).run()

    @overload
    async def complete(
        self,
        request: ChatRequest | None = None,
        *,
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
        **params: Unpack[RequestParams],
    ) -> ChatCompletion: ...

    @overload
    async def complete(self, *, _from_mapping: object, **params: Any) -> ChatCompletion: ...

    @hides_arguments
    async def complete(
        self,
        request: ChatRequest | None = None,
        *,
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
        **params: Any,
    ) -> ChatCompletion:
        """Return one completion for the keyword arguments of `create()`, or a mapping of them.

        Keywords go before members of the mapping.
        It streams internally, so deadlines count tokens and a cancellation reaches the server
        at once. Most servers then report usage only on request:
        `"stream_options": {"include_usage": True}`. Raises a PenstockError, with `partial` if
        the answer had begun.

        A request with a `prompt` in place of `messages` is one for the legacy endpoint, and
        returns a TextCompletion.
        """
        options = {
            "timeouts": timeouts,
            "max_retries": max_retries,
            "extra_headers": extra_headers,
        }
        given = {name: value for name, value in options.items() if value is not None}
        return await self._endpoint.complete({**(request or {}), **params, **given})

    @hides_arguments
    async def request(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        content: Content | None = None,
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Return the response of any endpoint, with the client's key, retries and errors.

        `path` is below the base URL and may have a query. The request's body is `json` encoded,
        or `content`, as of `stream()`. A status other than 2xx is an APIStatusError, a failed
        connection an APIConnectionError.
        """
        return await self._endpoint.request(
            method,
            path,
            json=json,
            content=content,
            timeouts=timeouts,
            max_retries=max_retries,
            extra_headers=extra_headers,
        )

    @hides_arguments
    def events(
        self,
        path: str,
        *,
        json: object = None,
        method: str = "POST",
        done: Collection[str] = (),
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> EventStream:
        """The server-sent events of any endpoint: `async with client.events(...) as events`.

        A plain call without I/O, with the guarantees of a completion stream: deadlines, slots,
        retries before the first byte only, `statistics()`, no secrets in errors. `done` names the
        events that end the stream properly (`"response.completed"`, `"message_stop"`); `[DONE]`
        always does. Without names a proper end of the body is an end; with names any other end
        is an IncompleteStreamError. An event that reports an error is raised as StreamError.
        ValueError or TypeError for bad arguments.
        """
        return self._endpoint.events(
            path,
            json=json,
            method=method,
            done=done,
            timeouts=timeouts,
            max_retries=max_retries,
            extra_headers=extra_headers,
        )

    @hides_arguments
    def stream(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        content: Content | None = None,
        check_status: bool = True,
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> ResponseStream:
        """The body of any endpoint's response as bytes: `async with client.stream(...) as body`.

        A plain call without I/O, with the guarantees of a completion stream. The request's body
        is `json` encoded, or `content` as it is: bytes, or an iterable of bytes, async or not,
        which is sent piece by piece. What an iterator has given once is not sent again. A status
        other than success is an APIStatusError; with `check_status=False` it is a response like
        any other, with its bytes as they are, and is not sent again. ValueError or TypeError for
        bad arguments.
        """
        return self._endpoint.raw_stream(
            method,
            path,
            json=json,
            content=content,
            check_status=check_status,
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

    @property
    def base_url(self) -> str:
        """URL that paths are appended to, without its query."""
        return str(self._endpoint.base_url)

    def statistics(self) -> ClientStatistics:
        """Return numbers of this moment.

        Closes idle connections that have expired or died, if it is called in the event loop
        that uses the client.
        """
        from .statistics import client_statistics

        return client_statistics(self._endpoint.service)

    async def aclose(self) -> None:
        """Close every open stream and all connections. Idempotent.

        A task that is reading a stream gets StreamClosedError. Idle connections are closed
        gracefully, within `Timeouts.close`. Clients that `with_options` made of this one are
        closed with it; such a client itself leaves the connections open.
        """
        try:
            await self._endpoint.service.aclose(self._endpoint.timeouts.close)
        finally:
            if self._local is not None:
                self._local.stop()

    def close(self) -> None:
        """Close every open stream and all connections at once, without waiting. Idempotent.

        Needs no event loop: call it where `aclose()` cannot be awaited, for instance in a
        finalizer, in another thread, or after the client's event loop has ended. A task that is
        reading a stream gets StreamClosedError. Clients of `with_options` are treated as by
        `aclose()`. In a forked process it leaves the connections of its parent alone.
        """
        self._endpoint.service.close()
        if self._local is not None:
            self._local.stop()

    @property
    def endpoint(self) -> Endpoint:
        """Its settings, for penstock's own use."""
        return self._endpoint

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a client cannot be pickled or copied, as it owns connections: make another one,"
            " from a penstock.ClientConfig where settings must be sent to another process"
        )

    def __del__(self) -> None:
        if globals()["warnings"] is None:
            # The interpreter has ended, and cleared its modules. Without the GIL much is
            # collected only then.
            return
        connections = getattr(self, "_connections", None)
        if connections is not None and (count := connections.close()):
            warnings.warn(
                f"unclosed {self!r} with {count} idle connections: use `async with`,"
                " or call aclose() or close()",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )

    def __repr__(self) -> str:
        return f"<AsyncClient {self.provider.name} {self._endpoint.base_url}>"
