"""Streamed chat completions: the SDK's streams, read from penstock's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache
from types import CoroutineType, new_class
from typing import Any, Generic, Self, TypeVar, get_args, get_origin

import msgspec
import openai
from openai.types.chat import ChatCompletionChunk

from ...errors import PenstockError, StreamBusyError
from ...types import decode_json
from .._plan import STREAM
from ._building import builder
from ._errors import sdk_error
from ._foreign import AsyncForeignStream, ForeignStream

__all__ = ["AsyncChatStream", "ChatStream", "async_stream_class", "stream_class"]

T = TypeVar("T")

_decode = msgspec.json.Decoder().decode


class _Reading(Generic[T]):
    """What the streams of both kinds have in common: how an item is made, and the end."""

    response: Any
    _source: Any

    def _take(self, cast_to: type[T], response: Any, client: Any, options: Any) -> None:
        self.response = response
        self._cast_to = cast_to
        self._client = client
        self._options = options
        strict = client._strict_response_validation
        self._build: Callable[[Any], T] = (
            _by_client(client, cast_to, response) if strict else builder(cast_to)
        )

    def _item(self, data: bytes) -> T:
        """Return the SDK's object for the data of one event."""
        try:
            payload = _decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            payload = decode_json(data)
        return self._build(payload)

    def _error(self, error: PenstockError) -> openai.APIError:
        """Return the SDK's error for a failed read."""
        # The reader keeps the error for later reads; with the frames of this one it would keep
        # the stream as well, which keeps the reader.
        error.__traceback__ = None
        return sdk_error(error, self.response.request, self.response)

    def __del__(self) -> None:
        source = getattr(self, "_source", None)
        if source is not None:
            source.abandon()


def _overrides(cls: Any, ours: Any) -> bool:
    """Return whether a subclass iterates in a way of its own."""
    return cls.__stream__ is not ours.__stream__


def _by_client(client: Any, cast_to: Any, response: Any) -> Callable[[Any], Any]:
    """Return what builds items as the SDK does when it validates them."""
    process = client._process_response_data
    return lambda data: process(data=data, cast_to=cast_to, response=response)


class AsyncChatStream(_Reading[T], openai.AsyncStream[T]):
    """A chat completion as it is generated: an async iterator of the SDK's chunks.

    Iteration ends only when the server has finished; any other end is an `openai.APIError`, whose
    `__cause__` is penstock's error with what had come as `partial`. A cancelled read closes the
    connection at once, and so does dropping the stream.
    """

    def __init__(
        self, *, cast_to: type[T], response: Any, client: openai.AsyncOpenAI, options: Any = None
    ) -> None:
        self._take(cast_to, response, client, options)
        self._source = response.extensions.get(STREAM)
        if self._source is None:
            self._source = AsyncForeignStream(response, options)
        self._wrapped: AsyncIterator[T] | None = None
        if _overrides(type(self), AsyncChatStream):
            # An instrumentation's subclass, which looks at the chunks as they pass.
            self._wrapped = self.__stream__()

    @property
    def _iterator(self) -> AsyncIterator[T]:
        # For subclasses. No attribute, as the stream must not refer to itself.
        return self._wrapped or _AsyncItems(self)

    @_iterator.setter
    def _iterator(self, wrapped: AsyncIterator[T]) -> None:
        self._wrapped = wrapped

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> CoroutineType[Any, Any, T]:
        """Return the next chunk; StopAsyncIteration means completed."""
        # No coroutine of its own: there is one for each chunk.
        wrapped: Any = self._wrapped
        read: Any = self.read_next if wrapped is None else wrapped.__anext__
        coroutine: CoroutineType[Any, Any, T] = read()
        return coroutine

    async def read_next(self) -> T:
        """Return the next chunk, past any subclass."""
        try:
            chunk = await self._source.__anext__()
            return self._item(chunk.raw)
        except StreamBusyError as error:
            raise self._error(error) from error
        except PenstockError as error:
            await self.close()  # noqa: ASYNC120 - closing shields what it must
            raise self._error(error) from error
        except BaseException:
            # Completed or cancelled, or an item of another type than was asked for.
            await self.close()  # noqa: ASYNC102 - closing shields what it must
            raise

    async def __stream__(self) -> AsyncIterator[T]:  # noqa: ASYNC900 - what subclasses expect
        """Iterate over the chunks; for subclasses."""
        try:
            while True:
                try:
                    item = await self.read_next()
                except StopAsyncIteration:
                    return
                yield item
        finally:
            await self.close()  # noqa: ASYNC102 - closing shields what it must

    async def close(self) -> None:
        """Close the connection at once, unless the answer was complete. Idempotent."""
        await self._source.aclose()
        await self.response.aclose()

    async def aclose(self) -> None:
        """Close the connection at once, as `close` does."""
        await self.close()


class ChatStream(_Reading[T], openai.Stream[T]):
    """A chat completion as it is generated: the blocking twin of `AsyncChatStream`."""

    def __init__(
        self, *, cast_to: type[T], response: Any, client: openai.OpenAI, options: Any = None
    ) -> None:
        self._take(cast_to, response, client, options)
        self._source = response.extensions.get(STREAM)
        if self._source is None:
            self._source = ForeignStream(response, options)
        self._wrapped: Iterator[T] | None = None
        if _overrides(type(self), ChatStream):
            self._wrapped = self.__stream__()

    @property
    def _iterator(self) -> Iterator[T]:
        return self._wrapped or _Items(self)

    @_iterator.setter
    def _iterator(self, wrapped: Iterator[T]) -> None:
        self._wrapped = wrapped

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        """Return the next chunk; StopIteration means completed."""
        if self._wrapped is not None:
            return self._wrapped.__next__()
        return self.read_next()

    def read_next(self) -> T:
        """Return the next chunk, past any subclass."""
        try:
            chunk = self._source.__next__()
            return self._item(chunk.raw)
        except StreamBusyError as error:
            raise self._error(error) from error
        except PenstockError as error:
            self.close()
            raise self._error(error) from error
        except BaseException:
            self.close()
            raise

    def __stream__(self) -> Iterator[T]:
        """Iterate over the chunks; for subclasses."""
        try:
            while True:
                try:
                    item = self.read_next()
                except StopIteration:
                    return
                yield item
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection at once, unless the answer was complete. Idempotent."""
        self._source.close()
        self.response.close()


class _AsyncItems(AsyncIterator[T]):
    """What `AsyncChatStream` iterates over."""

    def __init__(self, stream: AsyncChatStream[T]) -> None:
        self._stream = stream

    async def __anext__(self) -> T:
        return await self._stream.read_next()


class _Items(Iterator[T]):
    """What `ChatStream` iterates over."""

    def __init__(self, stream: ChatStream[T]) -> None:
        self._stream = stream

    def __next__(self) -> T:
        return self._stream.read_next()


# --- in place of the class that a caller asks for ---


def async_stream_class(asked: Any) -> Any:
    """Return the stream class to use where the SDK's resources ask for `asked`."""
    return _derived(asked, openai.AsyncStream, AsyncChatStream)


def stream_class(asked: Any) -> Any:
    """Return the blocking stream class to use where the SDK's resources ask for `asked`."""
    return _derived(asked, openai.Stream, ChatStream)


@cache
def _of(ours: Any, base: Any, chunk: Any) -> Any:
    """Return the class of streams of this type of chunk.

    The SDK reads the type from the bases. It has to find it in those of an instrumentation's
    subclass as well, which has no type arguments and names only this class as its base.
    """
    return new_class(ours.__name__, (ours[chunk], base[chunk]))


def _derived(asked: Any, base: Any, ours: Any) -> Any:
    if asked is None:
        return _of(ours, base, ChatCompletionChunk)
    cls: Any = get_origin(asked) or asked
    if cls is base:
        return _of(ours, base, *(get_args(asked) or (ChatCompletionChunk,)))
    if not (isinstance(cls, type) and issubclass(cls, base)) or issubclass(cls, ours):
        return asked
    # An instrumentation's subclass stays in front of ours.
    args = get_args(asked)
    if not args:
        return new_class(cls.__name__, (cls, ours))
    generic: Any = cls
    combined: Any = new_class(cls.__name__, (generic[T], ours[T], base[T]))
    return combined[args]
