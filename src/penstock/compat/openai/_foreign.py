"""Streams of an http client of the caller's own: the SDK sends, penstock decodes.

So a cut is an error here, too. What only penstock's transport can do is missing: nothing closes
the connection when an async stream is dropped, and retries are the SDK's.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, cast

import anyio
import anyio.lowlevel

from ..._wire.accumulate import Accumulator
from ..._wire.completion import CompletionDecoder
from ..._wire.parameters import choices_asked
from ...errors import PenstockError, ReadTimeout, StreamClosedError, StreamInterruptedError
from ...types import ChatCompletionChunk

__all__ = ["AsyncForeignStream", "ForeignStream", "choices_of"]


def choices_of(options: Any) -> int:
    """Return how many choices the SDK's request options ask for."""
    sent: Any = getattr(options, "json_data", None)
    if not isinstance(sent, Mapping):
        return 1
    body = cast("Mapping[str, Any]", sent)
    return choices_asked({"n": body.get("n"), "extra_body": options.extra_json})


class _Decoding:
    """The chunks of one response's bytes, and how they end."""

    def __init__(self, response: Any, options: Any) -> None:
        self._response = response
        self._decoder = CompletionDecoder(
            response.headers.get("content-type"), choices=choices_of(options)
        )
        self._batch: list[ChatCompletionChunk] = []
        self._pos = 0
        self._accumulator = Accumulator()
        self._failure: PenstockError | None = None
        self._closed = False

    def _waiting(self) -> ChatCompletionChunk | None:
        """Return a chunk that has come already."""
        if self._closed:
            error = self._failure or self._decoder.error
            raise self._explained(error or StreamClosedError("the stream is closed"))
        if self._pos == len(self._batch):
            return None
        chunk = self._batch[self._pos]
        self._pos += 1
        return chunk

    def _ended(self) -> bool:
        """Whether the answer is complete; raises its failure."""
        error = self._failure or self._decoder.error
        if error is not None:
            raise self._explained(error)
        return self._decoder.done

    def _feed(self, data: bytes | None) -> None:
        """Take what a read brought; None is the end of the body."""
        self._accumulator.extend(self._batch)
        self._batch = list(self._decoder.end() if data is None else self._decoder.feed(data))
        self._pos = 0

    def _broken(self, error: Exception) -> bool:
        """Note a failed read; return False if it was no failure of the connection."""
        # By their names, as httpx has two generations.
        names = {kind.__name__ for kind in type(error).__mro__}
        if isinstance(error, TimeoutError) or "TimeoutException" in names:
            self._failure = ReadTimeout(str(error) or "no byte arrived in time")
        elif isinstance(error, OSError) or not names.isdisjoint(_BROKEN):
            self._failure = StreamInterruptedError(str(error) or type(error).__name__)
        else:
            return False
        return True

    def _failed(self) -> PenstockError:
        assert self._failure is not None
        return self._explained(self._failure)

    def _explained(self, error: PenstockError) -> PenstockError:
        if error.partial is None:
            self._accumulator.extend(self._batch[: self._pos])
            del self._batch[: self._pos]
            self._pos = 0
            error.partial = self._accumulator.completion()
        return error


_TRAILING: Final = 0.1
"""Seconds to wait for the end of a body whose answer is complete."""

_BROKEN: Final = {"TransportError", "RequestError", "EndOfStream", "ClosedResourceError"}


class AsyncForeignStream(_Decoding):
    """The chunks of a response that was sent by a foreign async client."""

    def __init__(self, response: Any, options: Any) -> None:
        super().__init__(response, options)
        self._bytes: Any = response.aiter_bytes()

    async def __anext__(self) -> ChatCompletionChunk:
        while (chunk := self._waiting()) is None:
            if self._ended():
                raise StopAsyncIteration
            try:
                data = await self._bytes.__anext__()
            except StopAsyncIteration:
                data = None
            except Exception as error:
                if not self._broken(error):
                    raise
                raise self._failed() from error
            self._feed(data)
        return chunk

    async def aclose(self) -> None:
        """Close the response, unless it is complete."""
        if not self._decoder.done:
            self._closed = True
        # Also in a scope that is cancelled; for a moment, as the client may be hostile to that.
        with anyio.move_on_after(1, shield=True):
            if self._decoder.done:
                await self._read_to_the_end()
            with suppress(RuntimeError):  # another task is reading
                await self._bytes.aclose()
            await self._response.aclose()

    async def _read_to_the_end(self) -> None:
        """Read what comes after the answer, so that its connection may be used again."""
        with anyio.move_on_after(_TRAILING), suppress(Exception):
            async for _ in self._bytes:
                await anyio.lowlevel.checkpoint()

    def abandon(self) -> None:
        """Leave it to the event loop: nothing of httpx can be closed without waiting."""


class ForeignStream(_Decoding):
    """The chunks of a response that was sent by a foreign client."""

    def __init__(self, response: Any, options: Any) -> None:
        super().__init__(response, options)
        self._bytes: Any = response.iter_bytes()

    def __next__(self) -> ChatCompletionChunk:
        while (chunk := self._waiting()) is None:
            if self._ended():
                raise StopIteration
            try:
                data = next(self._bytes, None)
            except Exception as error:
                if not self._broken(error):
                    raise
                raise self._failed() from error
            self._feed(data)
        return chunk

    def close(self) -> None:
        """Close the response, unless it is complete."""
        if not self._decoder.done:
            self._closed = True
        with suppress(ValueError):  # another thread is reading
            self._bytes.close()
        self._response.close()

    def abandon(self) -> None:
        """Close the response; for `__del__`."""
        self.close()
