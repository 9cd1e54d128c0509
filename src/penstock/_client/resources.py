"""The resources of a client: `client.chat.completions` and `client.models`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, Unpack, overload

from .._call.stream import CompletionStream
from .._wire.credentials import hides_arguments
from .._wire.whole_answer import completion_of, models_of, text_completion_of
from ..timeouts import Timeouts
from ..types import ChatCompletion, ModelList, TextCompletion
from .endpoint import Endpoint, output_type

if TYPE_CHECKING:
    from .._call.text_stream import TextCompletionStream
    from ..structured import ParsedCompletion
    from .params import ChatParams, ParseParams, Prompt, TextParams

__all__ = ["Chat", "ChatRequest", "Completions", "Models", "TextCompletions"]

ChatRequest: TypeAlias = Mapping[str, Any]
"""The keyword arguments of `create()`: {"model": ..., "messages": [...], ...}."""

T = TypeVar("T")


# The last overload of each method is for a request in a mapping: `stream(**request)`. Nobody passes
# `_from_mapping`, so that keywords written out are checked by the overloads above it.


class Completions:
    """`client.chat.completions`."""

    __slots__ = ("_endpoint",)

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    @overload
    def stream(
        self,
        *,
        model: str,
        messages: Iterable[Any],
        response_format: type[T],
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
        **params: Unpack[ParseParams],
    ) -> CompletionStream[ParsedCompletion[T]]: ...

    @overload
    def stream(
        self,
        *,
        model: str,
        messages: Iterable[Any],
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
        **params: Unpack[ChatParams],
    ) -> CompletionStream: ...

    @overload
    def stream(
        self, *, model: Any, messages: Any, _from_mapping: object, **params: Any
    ) -> CompletionStream: ...

    @hides_arguments
    def stream(
        self,
        *,
        model: str,
        messages: Iterable[Any],
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
        **params: Any,
    ) -> CompletionStream[Any]:
        """A stream that has sent nothing yet: `async with client.chat.completions.stream(...)`.

        `timeouts` replaces the client's, `max_retries` too; `extra_headers` go on top of
        its headers, `extra_query` (a mapping) into the URL. Any further keyword goes into the
        JSON body as it is (temperature, tools, stop, stream_options, vendor extras), and so do
        the members of `extra_body`, which win. ValueError when model or messages are empty or
        a number is not finite, TypeError for `timeout=`, before any I/O; UserWarning for a
        keyword that is one letter off a known one.

        A `response_format` that is a type goes out as its JSON schema, and `collect()` then
        gives what `parse` gives.
        """
        params.pop("stream", None)
        return self._endpoint.stream(
            {
                "model": model,
                "messages": messages,
                "timeouts": timeouts,
                "max_retries": max_retries,
                "extra_headers": extra_headers,
                **params,
            }
        )

    @overload
    async def create(
        self,
        *,
        model: str,
        messages: Iterable[Any],
        stream: Literal[False] = False,
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
        **params: Unpack[ChatParams],
    ) -> ChatCompletion: ...

    @overload
    async def create(
        self,
        *,
        model: str,
        messages: Iterable[Any],
        stream: Literal[True],
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
        **params: Unpack[ChatParams],
    ) -> CompletionStream: ...

    @overload
    async def create(
        self,
        *,
        model: str,
        messages: Iterable[Any],
        stream: bool,
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
        **params: Unpack[ChatParams],
    ) -> ChatCompletion | CompletionStream: ...

    @overload
    async def create(
        self, *, model: Any, messages: Any, _from_mapping: object, **params: Any
    ) -> ChatCompletion: ...

    @hides_arguments
    async def create(
        self, *, model: str, messages: Iterable[Any], stream: bool = False, **params: Any
    ) -> ChatCompletion | CompletionStream:
        """A completion, received as one; with `stream=True` a stream that has sent nothing yet.

        Arguments as for `stream`. Without streaming a cancellation closes the connection,
        but a server may not notice before it has generated the whole answer: prefer
        `client.complete`, which streams inside. Raises a PenstockError; cancelled, nothing
        stays open. With a type as `response_format` the completion is a `ParsedCompletion`,
        as from `parse`.
        """
        if stream:
            return self.stream(model=model, messages=messages, **params)
        request: dict[str, Any] = {"model": model, "messages": messages, **params}
        output = output_type(request)
        call = self._endpoint.chat_call(request, stream=False)
        completion = await self._endpoint.answer(call, completion_of)
        return completion if output is None else output.completion(completion)

    @overload
    async def parse(
        self,
        *,
        model: str,
        messages: Iterable[Any],
        response_format: type[T],
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
        **params: Unpack[ParseParams],
    ) -> ParsedCompletion[T]: ...

    @overload
    async def parse(
        self,
        *,
        model: str,
        messages: Iterable[Any],
        response_format: Any,
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
        **params: Unpack[ParseParams],
    ) -> ParsedCompletion[Any]: ...

    @overload
    async def parse(
        self,
        *,
        model: Any,
        messages: Any,
        response_format: Any,
        _from_mapping: object,
        **params: Any,
    ) -> ParsedCompletion[Any]: ...

    @hides_arguments
    async def parse(
        self, *, model: str, messages: Iterable[Any], response_format: Any, **params: Any
    ) -> ParsedCompletion[Any]:
        """A completion whose `choices[0].message.parsed` is a value of the type given.

        The type is one that msgspec decodes (a Struct, a dataclass, a TypedDict, an attrs
        class, `list[int]`, a union, ...) or a Pydantic model; it goes out as a JSON schema in
        the strict form. Further arguments as for `stream`; set `max_tokens`, as a schema with
        open lists or texts has no end of its own. With `lenient=True` JSON is also found behind
        `<think>...</think>`, in a code fence, and encoded twice; what is valid as it is stays so.

        It streams inside, as `client.complete` does; `create` takes a type without streaming.
        Raises StructuredOutputError, with the completion, when the answer was cut, refused or
        is not valid; `parsed` is None only in a message that calls tools instead.
        """
        request: dict[str, Any] = {
            "model": model,
            "messages": messages,
            **params,
            "response_format": response_format,
        }
        request.pop("stream", None)
        if isinstance(response_format, Mapping) or response_format is None:
            raise TypeError("parse needs a type as response_format; create takes a mapping")
        async with self._endpoint.stream(request) as stream:
            completion: Any = await stream.collect()
        parsed: ParsedCompletion[Any] = completion
        return parsed


class TextCompletions:
    """`client.completions`: text completions of the legacy endpoint, /v1/completions."""

    __slots__ = ("_endpoint",)

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    @overload
    def stream(
        self,
        *,
        model: str,
        prompt: Prompt,
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
        **params: Unpack[TextParams],
    ) -> TextCompletionStream: ...

    @overload
    def stream(
        self, *, model: Any, prompt: Any, _from_mapping: object, **params: Any
    ) -> TextCompletionStream: ...

    @hides_arguments
    def stream(
        self,
        *,
        model: str,
        prompt: Prompt,
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
        **params: Any,
    ) -> TextCompletionStream:
        """A stream that has sent nothing yet: `async with client.completions.stream(...)`.

        `prompt` is a text, a list of texts, a list of token ids, or a list of such lists. Further
        arguments as for `client.chat.completions.stream`. ValueError when model or prompt are
        empty, before any I/O.
        """
        params.pop("stream", None)
        return self._endpoint.text_stream(
            {
                "model": model,
                "prompt": prompt,
                "timeouts": timeouts,
                "max_retries": max_retries,
                "extra_headers": extra_headers,
                **params,
            }
        )

    @overload
    async def create(
        self,
        *,
        model: str,
        prompt: Prompt,
        stream: Literal[False] = False,
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
        **params: Unpack[TextParams],
    ) -> TextCompletion: ...

    @overload
    async def create(
        self,
        *,
        model: str,
        prompt: Prompt,
        stream: Literal[True],
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
        **params: Unpack[TextParams],
    ) -> TextCompletionStream: ...

    @overload
    async def create(
        self,
        *,
        model: str,
        prompt: Prompt,
        stream: bool,
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
        **params: Unpack[TextParams],
    ) -> TextCompletion | TextCompletionStream: ...

    @overload
    async def create(
        self, *, model: Any, prompt: Any, _from_mapping: object, **params: Any
    ) -> TextCompletion: ...

    @hides_arguments
    async def create(
        self, *, model: str, prompt: Prompt, stream: bool = False, **params: Any
    ) -> TextCompletion | TextCompletionStream:
        """A text completion, received as one; with `stream=True` a stream that has sent nothing.

        Arguments as for `stream`. Raises a PenstockError; cancelled, nothing stays open.
        """
        if stream:
            return self.stream(model=model, prompt=prompt, **params)
        call = self._endpoint.text_call({"model": model, "prompt": prompt, **params}, stream=False)
        return await self._endpoint.answer(call, text_completion_of)


class Chat:
    """`client.chat`."""

    __slots__ = ("completions",)

    def __init__(self, endpoint: Endpoint) -> None:
        self.completions: Completions = Completions(endpoint)


class Models:
    """`client.models`."""

    __slots__ = ("_endpoint",)

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    @hides_arguments
    async def list(
        self,
        *,
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> ModelList:
        """The models the server offers: iterable, with a length; an `id` goes into `model=`."""
        call = self._endpoint.call(
            "GET",
            "/models",
            timeouts=timeouts,
            max_retries=max_retries,
            extra_headers=extra_headers,
        )
        return await self._endpoint.answer(call, models_of)
