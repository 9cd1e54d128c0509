"""What a client and its resources share: settings, and how a call is made from them."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from .._call.call import Call, Service
from .._call.fetch import Fetch, RawAnswer
from .._call.stream import CompletionStream
from .._http.outgoing import Outgoing
from .._http.pieces import Content, Pieces
from .._wire.encode import encode_json
from .._wire.history import provider_at
from .._wire.parameters import choices_asked
from .._wire.query import Query
from .._wire.request import (
    RequestHeaders,
    completion_body,
    listed_prompt,
    text_completion_body,
)
from .._wire.request_head import RequestHead
from .._wire.status import with_headers
from .._wire.url import USUAL_PATHS, BaseURL
from ..timeouts import Timeouts
from ..types import Answer, ChatCompletion
from .api_key import APIKey, key_source
from .arguments import (
    checked_limiter,
    checked_method,
    checked_observer,
    checked_retries,
    checked_timeouts,
    checked_wait,
)

if TYPE_CHECKING:
    from .._call.event_stream import EventStream
    from .._call.response_stream import ResponseStream
    from .._call.text_stream import TextCompletionStream
    from .._limiter.limiter import Limiter
    from ..structured import OutputType
    from .response import Response

__all__ = ["Endpoint", "output_type"]


A = TypeVar("A", bound=Answer)


JSON = b"application/json"
BYTES = b"application/octet-stream"


Heads = dict[tuple[str, str, bytes, bytes, bool], RequestHead]
"""Heads of requests to the usual paths, by what they differ in."""


class Endpoint:
    """One client's settings and service, and how a call is made from them.

    Holds no reference to the client, which avoids a reference cycle.
    """

    __slots__ = ("_heads", "base_url", "headers", "max_retries", "provider", "service", "timeouts")

    def __init__(
        self,
        service: Service,
        base_url: BaseURL,
        *,
        headers: Mapping[str, str] | None,
        timeouts: Timeouts,
        max_retries: int,
        provider: str | None = None,
    ) -> None:
        self.service: Service = service
        self.base_url: BaseURL = base_url
        self.provider: str | None = provider_at(base_url.origin.host, provider)
        """Whose rules messages of earlier answers follow."""
        self.timeouts: Timeouts = timeouts
        self.max_retries: int = max_retries
        self.headers: RequestHeaders = RequestHeaders(base_url, headers)
        self._heads: Heads = {}

    def derive(
        self,
        *,
        timeouts: Timeouts | None,
        max_retries: int | None,
        max_retry_wait: float | None,
        headers: Mapping[str, str] | None,
        default_query: Mapping[str, Any] | None,
        api_key: APIKey | None,
        limiter: Limiter | None,
        observer: object | None,
    ) -> Endpoint:
        """Return an endpoint of the same server; what is None stays as it is here."""
        timeouts = self.timeouts if timeouts is None else checked_timeouts(timeouts)
        retries = self.max_retries if max_retries is None else checked_retries(max_retries)
        url = self.base_url.with_query(Query.of(default_query, "default_query"))
        service = self.service.derive(
            authorize=None if api_key is None else key_source(api_key),
            asks_for_key=None if api_key is None else callable(api_key),
            limiter=checked_limiter(limiter),
            notifier=None if observer is None else checked_observer(observer),
            max_retry_wait=None if max_retry_wait is None else checked_wait(max_retry_wait),
        )
        endpoint = Endpoint(
            service,
            url,
            headers=None,
            timeouts=timeouts,
            max_retries=retries,
            provider=self.provider,
        )
        endpoint.headers = self.headers.merged(headers)
        return endpoint

    # --- calls, made without any I/O; ValueError or TypeError for bad arguments ---

    def stream(self, params: dict[str, Any]) -> CompletionStream:
        """Return a stream for the keyword arguments of `chat.completions.create`."""
        output = output_type(params)
        call = self.chat_call(params, stream=True)
        return CompletionStream(self.service, call, output)

    def any_stream(self, params: dict[str, Any]) -> CompletionStream | TextCompletionStream:
        """Return a stream for a chat request, or for one with a `prompt` in place of `messages`."""
        text = "prompt" in params and "messages" not in params
        return self.text_stream(params) if text else self.stream(params)

    def text_stream(self, params: dict[str, Any]) -> TextCompletionStream:
        """Return a stream for the keyword arguments of `completions.create`."""
        from .._call.text_stream import TextCompletionStream

        return TextCompletionStream(self.service, self.text_call(params, stream=True))

    def events(
        self, path: str, *, json: object, method: str, done: Collection[str], **options: Any
    ) -> EventStream:
        """Return the event stream of any endpoint, as `AsyncClient.events` has it."""
        from .._call.event_stream import EventStream

        if isinstance(done, str) or not all(isinstance(name, str) for name in done):
            raise TypeError("done must be names of events, for instance ('message_stop',)")
        body = None if json is None else encode_json(json)
        call = self.call(checked_method(method), path, body, streaming=True, **options)
        return EventStream(self.service, call, frozenset(done))

    def raw_stream(
        self,
        method: str,
        path: str,
        *,
        json: object,
        content: Content | None,
        check_status: bool,
        **options: Any,
    ) -> ResponseStream:
        """Return the byte stream of any endpoint, as `AsyncClient.stream` has it."""
        from .._call.response_stream import ResponseStream

        call = self.call(
            checked_method(method),
            path,
            self._body(json, content),
            streaming=True,
            accept=b"*/*",
            content_type=JSON if content is None else BYTES,
            any_status=not check_status,
            **options,
        )
        return ResponseStream(self.service, call)

    def options_of(self, params: dict[str, Any]) -> dict[str, Any]:
        """Take the arguments of `call` out of those of `create`."""
        return {name: params.pop(name, None) for name in _OPTIONS}

    def chat_call(self, params: dict[str, Any], *, stream: bool) -> Call:
        """Return the call for the arguments of `chat.completions.create`, taken from `params`."""
        options = self.options_of(params)
        model, messages = params.pop("model", None), params.pop("messages", None)
        body = completion_body(model, messages, params, stream=stream, provider=self.provider)
        return self.call(
            "POST",
            "/chat/completions",
            body,
            streaming=stream,
            model=model,
            choices=choices_asked(params),
            **options,
        )

    def text_call(self, params: dict[str, Any], *, stream: bool) -> Call:
        """Return the call for the arguments of `completions.create`, taken from `params`."""
        options = self.options_of(params)
        model, prompt = params.pop("model", None), listed_prompt(params.pop("prompt", None))
        body = text_completion_body(model, prompt, params, stream=stream)
        return self.call(
            "POST",
            "/completions",
            body,
            streaming=stream,
            model=model,
            choices=choices_asked(params, prompt),
            **options,
        )

    def call(
        self,
        method: str,
        path: str,
        body: bytes | Pieces | None = None,
        *,
        streaming: bool = False,
        model: str | None = None,
        choices: int = 1,
        accept: bytes | None = None,
        content_type: bytes = JSON,
        any_status: bool = False,
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
        extra_query: Mapping[str, Any] | None = None,
    ) -> Call:
        """A call to a path below the base URL. ValueError or TypeError before any I/O."""
        timeouts = self.timeouts if timeouts is None else checked_timeouts(timeouts)
        retries = self.max_retries if max_retries is None else checked_retries(max_retries)
        query = Query.of(extra_query, "extra_query")
        accept = accept_of(accept, streaming=streaming)
        outgoing = self.outgoing(
            method,
            path,
            body,
            accept=accept,
            content_type=content_type,
            extra_headers=extra_headers,
            query=query,
        )
        return Call(
            outgoing=outgoing,
            timeouts=timeouts,
            max_retries=retries,
            streaming=streaming,
            model=model,
            choices=choices,
            any_status=any_status,
        )

    def outgoing(
        self,
        method: str,
        path: str,
        body: bytes | Pieces | None,
        *,
        accept: bytes,
        content_type: bytes,
        extra_headers: Mapping[str, str] | None,
        query: Query,
    ) -> Outgoing:
        """Return a request to this server, without its API key."""
        pieces = body if isinstance(body, Pieces) else None
        usual = (method, path, accept, content_type, body is not None)
        keeps = path in USUAL_PATHS and not (extra_headers or query.parts or pieces)
        head = self._heads.get(usual) if keeps else None
        if head is None:
            # The target is in no variable: it may have a credential, as the headers may.
            head = self.headers.head(
                method,
                self.base_url.target(path, query),
                accept=accept,
                content_type=content_type,
                has_body=body is not None,
                chunked=pieces is not None,
                extra=extra_headers,
            )
            if keeps:
                self._heads[usual] = head
        return Outgoing(head, b"" if body is None or isinstance(body, Pieces) else body, pieces)

    def _body(self, json: object, content: Content | None) -> bytes | Pieces | None:
        """Return the body that one of the two makes; TypeError or ValueError if there is none."""
        if json is not None and content is not None:
            raise TypeError("give json or content, not both")
        if content is None:
            return None if json is None else encode_json(json)
        if isinstance(content, (bytes, bytearray, memoryview)):
            return bytes(content)
        given: object = content
        if isinstance(given, (str, Mapping)) or not isinstance(given, (Iterable, AsyncIterable)):
            kind = type(content).__name__
            raise TypeError(f"content must be bytes, or an iterable of bytes, not {kind}")
        return Pieces(content, run=self.service.run)

    # --- whole answers ---

    async def complete(self, params: dict[str, Any]) -> ChatCompletion:
        """Return the collected stream of a request, as `AsyncClient.complete` has it."""
        params.pop("stream", None)
        async with self.any_stream(params) as stream:
            answer: Any = await stream.collect()
        completion: ChatCompletion = answer
        return completion

    async def answer(self, call: Call, decode: Callable[[bytes], A]) -> A:
        """Send the call and return what `decode` makes of its body, with the response's headers."""
        # A server that holds the connection open behind `[DONE]` does not hold up the answer.
        fetch = Fetch(
            self.service,
            call,
            lambda exchange, body: with_headers(decode(body), exchange.headers),
            sentinel=True,
        )
        return await fetch.run()

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        content: Content | None = None,
        **options: Any,
    ) -> Response:
        """Any endpoint, as `AsyncClient.request` has it."""
        call = self.call(
            checked_method(method),
            path,
            self._body(json, content),
            content_type=JSON if content is None else BYTES,
            **options,
        )
        fetch = Fetch(self.service, call, RawAnswer)
        answer = await fetch.run()
        from .response import Response

        exchange = answer.exchange
        return Response(exchange.status, exchange.headers, answer.content, fetch.redaction())


_OPTIONS = ("timeouts", "max_retries", "extra_headers", "extra_query")


def accept_of(accept: bytes | None, *, streaming: bool) -> bytes:
    """Return the content type to ask for."""
    return accept or (b"text/event-stream" if streaming else JSON)


def output_type(params: dict[str, Any]) -> OutputType[Any] | None:
    """The type that `response_format` asks for, if it is one; then its schema takes its place."""
    wanted = params.get("response_format")
    if wanted is None or isinstance(wanted, Mapping):
        return None
    from ..structured import OutputType  # most clients never need it

    return OutputType.asked_for(params)
