"""`Client`, the blocking twin of `AsyncClient`."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .. import providers
from .._client.client import AsyncClient
from .._client.endpoint import APIKey
from .._client.resources import ChatRequest
from .._client.response import Response
from .._limiter.limiter import Limiter
from .._policy.retry import MAX_RETRY_WAIT
from ..providers import Provider
from ..timeouts import Timeouts
from ..types import ChatCompletion
from ._loop.loop_thread import LoopThread
from .resources import Chat, Models

if TYPE_CHECKING:
    import ssl

    from .._http.lazy import httpcore

__all__ = ["Client"]


class Client:
    """A blocking client of one OpenAI-compatible server. It owns its connections.

    `with Client(...) as client:` closes every open stream and connection on the way out.
    Arguments as of `AsyncClient`; making a client does no I/O and starts no thread. An
    `api_key` that is a plain callable is asked in a worker thread, so it may block; the
    observer's methods are called in the thread of the event loop and may not.

    It drives an `AsyncClient` on an event loop in a thread of its own (one for all blocking
    clients of the process), which is started by the first request and ended by `close()`,
    with the last client that is collected, or with the interpreter. Any number of threads
    may use it; a stream is read by one thread at a time. Ctrl-C ends a wait at once and
    closes its connection.

    Inside a running event loop, and in a process forked after it was made, its calls are a
    RuntimeError that says what to do instead; after `close()` they are a StreamClosedError.
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
        default_query: Mapping[str, Any] | None = None,
    ) -> None:
        loop = LoopThread()
        self._drive(
            loop,
            _Driven(
                base_url,
                api_key=_in_thread(loop, api_key),
                provider=provider,
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
            ),
        )

    def _drive(self, loop: LoopThread, client: AsyncClient) -> None:
        self.asynchronous = client
        """The client it drives, for use on its loop only."""
        self.loop = loop
        """Its share in the loop."""
        self.chat: Chat = Chat(loop, client)
        self.models: Models = Models(loop, client)

    @classmethod
    def from_env(cls, provider: str | Provider = "openai", **overrides: Any) -> Client:
        """A client set up by the environment variables that the provider names.

        `overrides` are the arguments of the constructor and win over the environment.
        ValueError names the variable when a key is needed and there is none.
        """
        client = cls.__new__(cls)
        loop = LoopThread()
        if "api_key" in overrides:
            overrides["api_key"] = _in_thread(loop, overrides["api_key"])
        client._drive(loop, _Driven.from_env(provider, **overrides))
        return client

    @property
    def provider(self) -> Provider:
        """Whose server it is."""
        return self.asynchronous.provider

    def complete(
        self,
        request: ChatRequest,
        *,
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> ChatCompletion:
        """One completion, from the keyword arguments of `create()` as a mapping.

        It streams inside, so that deadlines count tokens, and Ctrl-C reaches the server at
        once. Most servers then report usage only when asked:
        `"stream_options": {"include_usage": True}`. Raises a PenstockError, with `partial`
        when the answer had begun.
        """
        return self.loop.run(
            lambda: self.asynchronous.complete(
                request, timeouts=timeouts, max_retries=max_retries, extra_headers=extra_headers
            )
        )

    def request(
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
        return self.loop.run(
            lambda: self.asynchronous.request(
                method,
                path,
                json=json,
                timeouts=timeouts,
                max_retries=max_retries,
                extra_headers=extra_headers,
            )
        )

    def close(self) -> None:
        """Close every open stream at once and the idle connections; idempotent.

        From any thread: a call or a read that is under way raises StreamClosedError there.
        The last client that is closed ends the event loop's thread. RuntimeError inside a
        running event loop; in a forked process it does nothing.
        """
        self.loop.close(self.asynchronous.aclose)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self.asynchronous)


class _Driven(AsyncClient):
    """The client on the loop, which speaks of itself as of the one that people know."""

    def __del__(self) -> None:
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
    """A callable that may block as one that does not block the loop."""
    if not callable(api_key) or inspect.iscoroutinefunction(api_key):
        return api_key
    ask: Callable[[], Any] = api_key
    workers = loop.workers

    async def key() -> str:
        answer = await workers.run(ask)
        # An async one only made its coroutine there.
        known: str = await answer if inspect.isawaitable(answer) else answer
        return known

    return key
