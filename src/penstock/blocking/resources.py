"""The resources of a blocking client: `client.chat.completions` and `client.models`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, overload

from .._client.client import AsyncClient
from ..structured import ParsedCompletion
from ..timeouts import Timeouts
from ..types import ChatCompletion, ModelList
from ._loop.loop_thread import LoopThread
from .stream import Stream

__all__ = ["Chat", "Completions", "Models"]

T = TypeVar("T")


class Completions:
    """`client.chat.completions`."""

    __slots__ = ("_async", "_loop")

    def __init__(self, loop: LoopThread, client: AsyncClient) -> None:
        self._loop = loop
        self._async = client.chat.completions

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
        **params: Any,
    ) -> Stream[ParsedCompletion[T]]: ...

    @overload
    def stream(
        self,
        *,
        model: str,
        messages: Iterable[Any],
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
        **params: Any,
    ) -> Stream: ...

    def stream(self, *, model: str, messages: Iterable[Any], **params: Any) -> Stream[Any]:
        """A stream that has sent nothing yet: `with client.chat.completions.stream(...)`.

        `timeouts` replaces the client's, `max_retries` too; `extra_headers` go on top of
        its headers. Any further keyword goes into the JSON body as it is (temperature,
        tools, stop, stream_options, vendor extras). ValueError when model or messages are
        empty, before any I/O.

        A `response_format` that is a type goes out as its JSON schema, and `collect()` then
        gives what `parse` gives.
        """
        return Stream(self._loop, self._async.stream(model=model, messages=messages, **params))

    @overload
    def create(
        self,
        *,
        model: str,
        messages: Iterable[Any],
        stream: Literal[False] = False,
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
        **params: Any,
    ) -> ChatCompletion: ...

    @overload
    def create(
        self,
        *,
        model: str,
        messages: Iterable[Any],
        stream: Literal[True],
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
        **params: Any,
    ) -> Stream: ...

    @overload
    def create(
        self,
        *,
        model: str,
        messages: Iterable[Any],
        stream: bool,
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
        **params: Any,
    ) -> ChatCompletion | Stream: ...

    def create(
        self, *, model: str, messages: Iterable[Any], stream: bool = False, **params: Any
    ) -> ChatCompletion | Stream:
        """A completion, received as one; with `stream=True` a stream that has sent nothing yet.

        Arguments as for `stream`. Without streaming Ctrl-C closes the connection, but a
        server may not notice before it has generated the whole answer: prefer
        `client.complete`, which streams inside. Raises a PenstockError; interrupted, nothing
        stays open. With a type as `response_format` the completion is a `ParsedCompletion`,
        as from `parse`.
        """
        if stream:
            return self.stream(model=model, messages=messages, **params)

        async def create() -> ChatCompletion:
            completion: Any = await self._async.create(
                model=model, messages=messages, stream=False, **params
            )
            whole: ChatCompletion = completion
            return whole

        return self._loop.run(create)

    @overload
    def parse(
        self,
        *,
        model: str,
        messages: Iterable[Any],
        response_format: type[T],
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
        **params: Any,
    ) -> ParsedCompletion[T]: ...

    @overload
    def parse(
        self,
        *,
        model: str,
        messages: Iterable[Any],
        response_format: Any,
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
        **params: Any,
    ) -> ParsedCompletion[Any]: ...

    def parse(
        self, *, model: str, messages: Iterable[Any], response_format: Any, **params: Any
    ) -> ParsedCompletion[Any]:
        """A completion whose `choices[0].message.parsed` is a value of the type given.

        The type is one that msgspec decodes (a Struct, a dataclass, a TypedDict, an attrs
        class, `list[int]`, a union, ...) or a Pydantic model; it goes out as a JSON schema in
        the strict form. Further arguments as for `stream`. It streams inside.

        Raises StructuredOutputError, with the completion, when the answer was cut, refused or
        is not valid; `parsed` is None only in a message that calls tools instead.
        """
        return self._loop.run(
            lambda: self._async.parse(
                model=model, messages=messages, response_format=response_format, **params
            )
        )


class Chat:
    """`client.chat`."""

    __slots__ = ("completions",)

    def __init__(self, loop: LoopThread, client: AsyncClient) -> None:
        self.completions: Completions = Completions(loop, client)


class Models:
    """`client.models`."""

    __slots__ = ("_async", "_loop")

    def __init__(self, loop: LoopThread, client: AsyncClient) -> None:
        self._loop = loop
        self._async = client.models

    def list(
        self,
        *,
        timeouts: Timeouts | None = None,
        max_retries: int | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> ModelList:
        """The models the server offers: iterable, with a length; an `id` goes into `model=`."""
        return self._loop.run(
            lambda: self._async.list(
                timeouts=timeouts, max_retries=max_retries, extra_headers=extra_headers
            )
        )
