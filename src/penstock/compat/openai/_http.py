"""The http clients under the SDK's: its own defaults, on penstock's connections.

Chat completions take a shorter way through them than httpx's own: what it does beside sending
(authentication flows, cookies, redirects) is skipped where there is nothing to do.
"""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from importlib import import_module
from typing import Any, Final

import openai
from openai import NotGiven

from ...timeouts import Timeouts
from .._plan import PLAN
from .._transport import Transporting

__all__ = ["has_transport", "http_client", "is_default", "limits_of", "own_timeouts"]

_GENERATION = next(
    name
    for base in openai.DefaultAsyncHttpxClient.__mro__
    if (name := base.__module__.partition(".")[0]) in ("httpx", "httpx2")
)
"""The httpx that this release of the SDK is made for."""

_httpx: Any = import_module(_GENERATION)

_logger = logging.getLogger(_GENERATION)


def _is_usual(http: Any, request: Any, how: dict[str, Any]) -> bool:
    """Return whether a request needs nothing that only httpx's own way does."""
    return (
        PLAN in request.extensions
        and how.get("auth") is None
        and http.auth is None
        and not request.url.userinfo
        and not http.is_closed
    )


def _received(http: Any, request: Any, response: Any, start: float) -> None:
    """Note on a response what httpx notes."""
    response.request = request
    response.default_encoding = http._default_encoding
    response.elapsed = timedelta(seconds=time.perf_counter() - start)
    if "set-cookie" in response.headers:
        http.cookies.extract_cookies(response)
    if _logger.isEnabledFor(logging.INFO):
        _logger.info(
            'HTTP Request: %s %s "%s %d %s"',
            request.method,
            request.url,
            response.http_version,
            response.status_code,
            response.reason_phrase,
        )


def _built(http: Any, method: str, url: Any, headers: Any, timeout: Any, content: Any) -> Any:
    """Return the request that httpx builds of these."""
    found = _urls.get(url)
    if found is None:
        if len(_urls) == _URLS:
            _urls.clear()
        found = _urls[url] = _httpx.URL(url)
    given = {name.lower() for name, _ in headers}
    defaults = [field for field in http.headers.multi_items() if field[0] not in given]
    if not isinstance(timeout, _httpx.Timeout):
        timeout = _httpx.Timeout(timeout)
    return _httpx.Request(
        method,
        found,
        headers=defaults + headers,
        content=content,
        extensions={"timeout": timeout.as_dict()},
    )


_URLS: Final = 64
_urls: dict[str, Any] = {}
"""URLs parsed before: that takes longer than all else of a request."""


class _Building:
    """Builds the requests that the SDK makes for JSON, in less time than httpx does."""

    def build_request(self, method: str, url: Any, **how: Any) -> Any:
        """Return a request, as httpx builds it."""
        http: Any = self
        if (
            type(how.get("content")) is bytes
            and type(url) is str
            and type(how.get("headers")) is list
            and how.keys() <= _BUILT
            and not (how.get("params") or how.get("files"))
            and not (http.params or http.cookies)
        ):
            return _built(http, method, url, how["headers"], how["timeout"], how["content"])
        usual: Any = super()
        return usual.build_request(method, url, **how)


_BUILT: Final = {"headers", "timeout", "params", "content", "files"}


class _AsyncHTTP(_Building, openai.DefaultAsyncHttpxClient):
    async def send(self, request: Any, *, stream: bool = False, **how: Any) -> Any:
        if not _is_usual(self, request, how):
            return await super().send(request, stream=stream, **how)
        for hook in self.event_hooks["request"]:
            await hook(request)
        start = time.perf_counter()
        response = await self._transport.handle_async_request(request)
        _received(self, request, response, start)
        try:
            for hook in self.event_hooks["response"]:
                await hook(response)
            if not stream:
                await response.aread()
        except BaseException:
            await response.aclose()  # noqa: ASYNC102 - closing shields what it must
            raise
        if response.has_redirect_location:
            await response.aclose()
            return await super().send(request, stream=stream, **how)
        return response


class _HTTP(_Building, openai.DefaultHttpxClient):
    def send(self, request: Any, *, stream: bool = False, **how: Any) -> Any:
        if not _is_usual(self, request, how):
            return super().send(request, stream=stream, **how)
        for hook in self.event_hooks["request"]:
            hook(request)
        start = time.perf_counter()
        response = self._transport.handle_request(request)
        _received(self, request, response, start)
        try:
            for hook in self.event_hooks["response"]:
                hook(response)
            if not stream:
                response.read()
        except BaseException:
            response.close()
            raise
        if response.has_redirect_location:
            response.close()
            return super().send(request, stream=stream, **how)
        return response


def http_client(given: Any, timeout: Any, settings: dict[str, Any], *, blocking: bool) -> Any:
    """Return the client to send with: the caller's own, or one on penstock's transport.

    `settings` are penstock's, by name; TypeError if there are some beside a client of the
    caller's own, which they would not reach.
    """
    if given is not None:
        extra = sorted(name for name, value in settings.items() if value is not None)
        if extra:
            raise TypeError(
                f"{', '.join(extra)} cannot be set beside http_client: give them to the transport"
                f" of that client, for instance penstock.compat.{_GENERATION}.AsyncTransport"
            )
        return given
    transports = import_module(f"penstock.compat.{_GENERATION}")
    kind: Any = _HTTP if blocking else _AsyncHTTP
    transport = transports.Transport if blocking else transports.AsyncTransport
    limits = openai.DEFAULT_TIMEOUT if isinstance(timeout, NotGiven) else timeout
    return kind(transport=transport(**settings), timeout=limits_of(limits))


def has_transport(http: Any) -> bool:
    """Return whether an http client sends through a transport of penstock."""
    return isinstance(getattr(http, "_transport", None), Transporting)


def own_timeouts(http: Any) -> Timeouts | None:
    """Return the deadlines that the transport was given, if any."""
    own: Timeouts | None = http._transport._timeouts
    return own


def limits_of(timeout: Any) -> tuple[float | None, ...]:
    """Return connect, read, write and pool of a timeout of the SDK: a number, None or httpx's."""
    return tuple(getattr(timeout, name, timeout) for name in ("connect", "read", "write", "pool"))


def is_default(http: Any, timeout: Any) -> bool:
    """Return whether a timeout is the one the client was made with, or that of the SDK."""
    limits = limits_of(timeout)
    return limits in (limits_of(http.timeout), limits_of(openai.DEFAULT_TIMEOUT))
