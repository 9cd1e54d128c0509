"""What the clients change of the SDK's: how a request is sent, and how its answer is built.

Everything of the SDK ends in `request()`: create, parse, stream, beta, raw responses, Azure. So
that is what is overridden, and what instruments clients still sees each call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import openai
from openai.types.chat import ChatCompletion

from ._building import build
from ._http import http_client
from ._requests import Draft, draft, is_chat, making, prepare
from ._streams import async_stream_class, stream_class

if TYPE_CHECKING:
    _Async = openai.AsyncOpenAI
    _Blocking = openai.OpenAI
else:
    _Async = _Blocking = object

__all__ = ["AsyncSending", "Sending"]


def _planned(client: Any, options: Any, *, stream: bool) -> tuple[Draft | None, Any]:
    """Return the draft of a request, and the options to make it with."""
    drafted = draft(client, options, stream=stream)
    if drafted is not None and drafted.plan is not None:
        # One layer of retries. A copy: the options may be used for another page, or again.
        options = options.model_copy(update={"max_retries": 0})
    return drafted, options


def _counted(answer: Any, drafted: Draft | None) -> Any:
    """Return the answer; a raw response says how often the transport sent the request again."""
    if drafted is not None and drafted.renewal is not None and hasattr(answer, "retries_taken"):
        answer.retries_taken = drafted.renewal.failures
    return answer


def _answer(client: Any, data: object, cast_to: Any) -> Any:
    """Return a whole chat completion as the SDK builds it; None for anything else."""
    strict = client._strict_response_validation
    if cast_to is not ChatCompletion or strict or not isinstance(data, dict):
        return None
    return build(ChatCompletion, cast("dict[str, Any]", data))


class _Client:
    """How the clients start, and the URLs of chat completions, which take long to make."""

    _blocking: bool
    _prepared: tuple[Any, str, Any] | None = None

    def _start(self, http: Any, options: dict[str, Any], **settings: Any) -> None:
        """Initialize the SDK's client, with an http client of its own or on penstock's transport.

        `options` are the SDK's, `settings` those of the transport.
        """
        client: Any = self
        base: Any = super()
        made = http_client(http, options["timeout"], settings, blocking=self._blocking)
        base.__init__(http_client=made, **options)
        if http is None:
            made.base_url = client.base_url

    def _prepare_url(self, url: str) -> Any:
        base: Any = super()
        prepared = self._prepared
        client: Any = self
        if prepared is None or prepared[0] is not client._base_url or prepared[1] != url:
            # One of them: a client is seldom used for several endpoints in turn.
            prepared = self._prepared = (client._base_url, url, base._prepare_url(url))
        return prepared[2]


class AsyncSending(_Client, _Async):
    """The async client but for its constructor."""

    _blocking = False

    async def request(
        self, cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None
    ) -> Any:
        """Send a request, as the SDK does; chat completions by penstock's rules."""
        if stream and is_chat(options):
            stream_cls = async_stream_class(stream_cls)
        drafted, options = _planned(self, options, stream=stream)
        with making(drafted):
            answer = await super().request(cast_to, options, stream=stream, stream_cls=stream_cls)
        return _counted(answer, drafted)

    async def _prepare_request(self, request: Any) -> None:
        await super()._prepare_request(request)
        prepare(request)

    def _process_response_data(self, *, data: object, cast_to: Any, response: Any) -> Any:
        answer = _answer(self, data, cast_to)
        if answer is not None:
            return answer
        return super()._process_response_data(data=data, cast_to=cast_to, response=response)


class Sending(_Client, _Blocking):
    """The blocking client but for its constructor."""

    _blocking = True

    def request(
        self, cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None
    ) -> Any:
        """Send a request, as the SDK does; chat completions by penstock's rules."""
        if stream and is_chat(options):
            stream_cls = stream_class(stream_cls)
        drafted, options = _planned(self, options, stream=stream)
        with making(drafted):
            answer = super().request(cast_to, options, stream=stream, stream_cls=stream_cls)
        return _counted(answer, drafted)

    def _prepare_request(self, request: Any) -> None:
        super()._prepare_request(request)
        prepare(request)

    def _process_response_data(self, *, data: object, cast_to: Any, response: Any) -> Any:
        answer = _answer(self, data, cast_to)
        if answer is not None:
            return answer
        return super()._process_response_data(data=data, cast_to=cast_to, response=response)
