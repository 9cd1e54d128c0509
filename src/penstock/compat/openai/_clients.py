"""The SDK's clients on penstock's connections, streams and retries."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import openai
from openai import NOT_GIVEN

from ..._wire.credentials import hides_arguments
from ._sending import AsyncSending, Sending

if TYPE_CHECKING:
    import ssl
    from typing import Unpack

    from ..._http.lazy import httpcore
    from ..._limiter.limiter import Limiter
    from ...timeouts import Timeouts
    from ._options import AsyncAzureOptions, AsyncOptions, AzureOptions, Options, SDKTimeout

__all__ = ["AsyncAzureOpenAI", "AsyncOpenAI", "AzureOpenAI", "OpenAI"]


class AsyncOpenAI(AsyncSending, openai.AsyncOpenAI):
    """`openai.AsyncOpenAI` on penstock's connections.

    It takes the SDK's keywords, and penstock's, which all its connections share, also those of
    `with_options` and `copy`:

    - `timeouts`: deadlines, in place of the SDK's `timeout`. A `timeout` of one call, or of
      `with_options`, counts as `connect` and `read`.
    - `limiter`, `observer`, `proxy`, `ssl_context`, `uds`, `network`: as `penstock.AsyncClient`
      has them.
    - `http_client`: an http client of your own. Then penstock's keywords are refused, retries are
      the SDK's, and a cut stream is an error all the same.

    Chat completions are sent again by penstock's rules, `max_retries` times at most, and never
    after the first byte of the answer. Streams end only when the server has finished; any other
    end is an `openai.APIError` whose `__cause__` is penstock's error, with what had come as
    `partial`. A cancelled read closes the connection at once, and so does dropping the stream.
    One client may be used in several event loops and threads, and under trio.
    """

    @hides_arguments
    def __init__(
        self,
        *,
        timeout: SDKTimeout = NOT_GIVEN,
        http_client: Any = None,
        timeouts: Timeouts | None = None,
        limiter: Limiter | None = None,
        observer: object | None = None,
        proxy: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        uds: str | None = None,
        network: httpcore.AsyncNetworkBackend | None = None,
        **options: Unpack[AsyncOptions],
    ) -> None:
        self._start(
            http_client,
            {"timeout": timeout, **options},
            timeouts=timeouts,
            limiter=limiter,
            observer=observer,
            proxy=proxy,
            ssl_context=ssl_context,
            uds=uds,
            network=network,
        )


class OpenAI(Sending, openai.OpenAI):
    """`openai.OpenAI` on penstock's connections; the blocking twin of `AsyncOpenAI`.

    Its further keywords are those of `AsyncOpenAI`.
    """

    @hides_arguments
    def __init__(
        self,
        *,
        timeout: SDKTimeout = NOT_GIVEN,
        http_client: Any = None,
        timeouts: Timeouts | None = None,
        limiter: Limiter | None = None,
        observer: object | None = None,
        proxy: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        uds: str | None = None,
        network: httpcore.AsyncNetworkBackend | None = None,
        **options: Unpack[Options],
    ) -> None:
        self._start(
            http_client,
            {"timeout": timeout, **options},
            timeouts=timeouts,
            limiter=limiter,
            observer=observer,
            proxy=proxy,
            ssl_context=ssl_context,
            uds=uds,
            network=network,
        )


class AsyncAzureOpenAI(AsyncSending, openai.AsyncAzureOpenAI):
    """`openai.AsyncAzureOpenAI` on penstock's connections.

    Its further keywords are those of `AsyncOpenAI`.
    """

    @hides_arguments
    def __init__(
        self,
        *,
        timeout: SDKTimeout = NOT_GIVEN,
        http_client: Any = None,
        timeouts: Timeouts | None = None,
        limiter: Limiter | None = None,
        observer: object | None = None,
        proxy: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        uds: str | None = None,
        network: httpcore.AsyncNetworkBackend | None = None,
        **options: Unpack[AsyncAzureOptions],
    ) -> None:
        self._start(
            http_client,
            {"timeout": timeout, **options},
            timeouts=timeouts,
            limiter=limiter,
            observer=observer,
            proxy=proxy,
            ssl_context=ssl_context,
            uds=uds,
            network=network,
        )


class AzureOpenAI(Sending, openai.AzureOpenAI):
    """`openai.AzureOpenAI` on penstock's connections.

    Its further keywords are those of `AsyncOpenAI`.
    """

    @hides_arguments
    def __init__(
        self,
        *,
        timeout: SDKTimeout = NOT_GIVEN,
        http_client: Any = None,
        timeouts: Timeouts | None = None,
        limiter: Limiter | None = None,
        observer: object | None = None,
        proxy: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        uds: str | None = None,
        network: httpcore.AsyncNetworkBackend | None = None,
        **options: Unpack[AzureOptions],
    ) -> None:
        self._start(
            http_client,
            {"timeout": timeout, **options},
            timeouts=timeouts,
            limiter=limiter,
            observer=observer,
            proxy=proxy,
            ssl_context=ssl_context,
            uds=uds,
            network=network,
        )


def _sign(*classes: Any) -> None:
    """Give each class the signature it has: the keywords of this release's class, and ours."""
    for cls in classes:
        own = inspect.signature(cls.__init__)
        base = inspect.signature(getattr(openai, cls.__name__).__init__)
        ours = [each for each in own.parameters.values() if each.name not in {"self", "options"}]
        known = {**base.parameters, **{each.name: each for each in ours}}
        cls.__init__.__signature__ = own.replace(parameters=list(known.values()))


_sign(AsyncOpenAI, OpenAI, AsyncAzureOpenAI, AzureOpenAI)
