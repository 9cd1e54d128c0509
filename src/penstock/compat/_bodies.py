"""The bytes of a response, as httpx reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, Self

from .._call.stream import CompletionStream
from ..blocking.stream import Stream
from ..errors import PenstockError
from ..types import ChatCompletionChunk

__all__ = ["AsyncBody", "Body", "Events", "SyncEvents"]

Raises = Callable[[PenstockError], Exception]
"""Makes what httpx's users see of an error."""


class _AsyncBytes(Protocol):
    async def __anext__(self) -> bytes: ...
    async def __aexit__(self, kind: Any, error: Any, traceback: Any) -> None: ...
    async def aclose(self) -> None: ...


class _Bytes(Protocol):
    def __next__(self) -> bytes: ...
    def close(self) -> None: ...


class AsyncBody:
    """An async iterator over a stream's bytes, with the errors of httpx.

    A cancelled read closes the connection: httpx reads with async generators, which a
    cancellation ends for good.
    """

    def __init__(self, stream: _AsyncBytes, raises: Raises) -> None:
        self._stream = stream
        self._raises = raises

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """Return the next bytes; StopAsyncIteration is the proper end of the body."""
        try:
            return await self._stream.__anext__()
        except PenstockError as error:
            raise self._raises(error) from error
        except StopAsyncIteration:
            raise
        except BaseException as error:
            await self._stream.__aexit__(type(error), error, None)  # noqa: ASYNC102 - closing shields what it must
            raise

    async def aclose(self) -> None:
        """Close the connection at once, unless the body was read to its end. Idempotent."""
        await self._stream.aclose()


class Body:
    """The same for blocking clients."""

    def __init__(self, stream: _Bytes, raises: Raises) -> None:
        self._stream = stream
        self._raises = raises

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        """Return the next bytes; StopIteration is the proper end of the body."""
        try:
            return self._stream.__next__()
        except PenstockError as error:
            raise self._raises(error) from error

    def close(self) -> None:
        """Close the connection at once, unless the body was read to its end. Idempotent."""
        self._stream.close()


_DONE = b"data: [DONE]\n\n"


def _event(chunk: ChatCompletionChunk) -> bytes:
    return b"data: %b\n\n" % b" ".join((chunk.raw or b"{}").splitlines())


class Events:
    """A completion stream as the event stream that it was, for those who read bytes after all."""

    def __init__(self, stream: CompletionStream[Any]) -> None:
        self._stream = stream
        self._ended = False

    async def __anext__(self) -> bytes:
        if self._ended:
            raise StopAsyncIteration
        try:
            chunk = await self._stream.__anext__()
        except StopAsyncIteration:
            self._ended = True
            return _DONE
        return _event(chunk)

    async def __aexit__(self, kind: Any, error: Any, traceback: Any) -> None:
        await self._stream.__aexit__(kind, error, traceback)  # noqa: ASYNC102 - closing shields what it must

    async def aclose(self) -> None:
        await self._stream.aclose()


class SyncEvents:
    """The same for blocking clients."""

    def __init__(self, stream: Stream[Any]) -> None:
        self._stream = stream
        self._ended = False

    def __next__(self) -> bytes:
        if self._ended:
            raise StopIteration
        try:
            chunk = next(self._stream)
        except StopIteration:
            self._ended = True
            return _DONE
        return _event(chunk)

    def close(self) -> None:
        self._stream.close()
