"""A request's body that comes in pieces, from an iterable: framed as it is sent, and kept nowhere.

    iterable ──next──> piece ──framing──> Upload.peek() ──> the network
                                             the next piece is asked for when this one is written

Time in the iterable is its owner's: no deadline counts it. What it raises ends the request. A
body that an iterator gives can be sent once; other iterables are begun anew by each attempt.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import Any, TypeAlias, cast

from .network import Deadline, NetworkStream, Upload

__all__ = [
    "BodyMismatch",
    "Content",
    "Pieces",
    "PiecewiseUpload",
    "Run",
    "UnsendableRequest",
]

Content: TypeAlias = bytes | bytearray | memoryview | Iterable[bytes] | AsyncIterable[bytes]
"""What a body may be given as."""

Run: TypeAlias = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs a function that may block."""

# Read from a file at once.
_BLOCK = 65536
_END = object()


class UnsendableRequest(ValueError):
    """The request breaks the rules of HTTP."""


class BodyMismatch(UnsendableRequest):
    """The body is longer or shorter than the request's Content-Length says."""


class Pieces:
    """The body of one call, in pieces.

    `length`: what its Content-Length says; None for the chunked coding. `once`: whether it can
    be iterated once only, as iterators and files can. `run` runs the steps of an iterable that
    is not async; without it they run in the event loop.
    """

    __slots__ = ("_iterator", "_left", "_length", "_run", "_source", "_taking", "begun", "once")

    def __init__(
        self,
        source: Any,
        *,
        length: int | None = None,
        once: bool = False,
        run: Run | None = None,
    ) -> None:
        self._source = source
        self._length = length
        self._run = run
        self.once: bool = once or any(
            hasattr(source, name) for name in ("__next__", "__anext__", "read")
        )
        """True if it can be iterated once only."""
        self._iterator: Any = None
        self._left = length
        # A task waits for a piece: a generator cannot be closed while it runs.
        self._taking = False
        self.begun: bool = False
        """True once anything has been taken from the iterable."""

    @property
    def spent(self) -> bool:
        """True if it has been begun and cannot be begun anew."""
        return self.begun and self.once

    async def start(self) -> None:
        """Begin, for one attempt. RuntimeError if the iterable was used by an earlier one."""
        if self.spent:
            raise RuntimeError(
                "the request's body was an iterator, which an earlier attempt has used up: give"
                " bytes, or an iterable that can be iterated again"
            )
        await self.aclose()
        self._left = self._length
        source: Any = self._source
        if hasattr(source, "read"):
            self._iterator = iter(lambda: source.read(_BLOCK), b"")
        elif _is_async(source):
            self._iterator = aiter(source)
        else:
            self._iterator = iter(source)

    async def next(self) -> bytes | None:
        """Return the next bytes for the wire, framed; None when there are none.

        Raises what the iterable raises, TypeError for a piece that is not bytes, BodyMismatch.
        """
        if self._iterator is None:
            return None
        self.begun = True
        while (piece := await self._take()) is not _END:
            data = _checked(piece)
            if data:  # an empty chunk would be the end
                return self._framed(data)
        self._iterator = None
        if self._left:
            raise BodyMismatch(f"the body ends {self._left} bytes before its Content-Length")
        return b"0\r\n\r\n" if self._length is None else None

    async def _take(self) -> Any:
        iterator = self._iterator
        self._taking = True
        try:
            return await self._step(iterator)
        finally:
            self._taking = False
            if self._iterator is None:  # ended by another task, which had to leave this to us
                await self._close(iterator)  # noqa: ASYNC102 - its owner's

    async def _step(self, iterator: Any) -> Any:
        if _is_async(iterator):
            return await anext(iterator, _END)
        if self._run is None:
            return next(iterator, _END)
        return await self._run(lambda: next(iterator, _END))

    def _framed(self, data: bytes) -> bytes:
        if self._left is None:
            return b"%x\r\n%b\r\n" % (len(data), data)
        self._left -= len(data)
        if self._left < 0:
            raise BodyMismatch(f"the body is {-self._left} bytes longer than its Content-Length")
        return data

    async def aclose(self) -> None:
        """End the iterable, if it is under way. Idempotent.

        A task that waits for a piece ends it instead, once it has waited.
        """
        iterator, self._iterator = self._iterator, None
        if iterator is not None and not self._taking:
            await self._close(iterator)

    async def _close(self, iterator: Any) -> None:
        if _is_async(iterator):
            if (close := getattr(iterator, "aclose", None)) is not None:
                await close()
        elif (close := getattr(iterator, "close", None)) is not None:
            if self._run is None:
                close()
            else:
                await self._run(close)


def _is_async(iterable: object) -> bool:
    return isinstance(iterable, AsyncIterable)


def _checked(piece: Any) -> bytes:
    if not isinstance(piece, (bytes, bytearray, memoryview)):
        raise TypeError(f"the body's pieces must be bytes, not {type(piece).__name__}")
    return bytes(cast("bytes", piece))


class PiecewiseUpload(Upload):
    """The head of a request, then the pieces of its body."""

    __slots__ = ("_pieces",)

    def __init__(self, head: bytes, pieces: Pieces) -> None:
        super().__init__(head)
        self._pieces = pieces

    @property
    def begun(self) -> bool:
        return self._pieces.begun or super().begun

    async def write(self, stream: NetworkStream, deadline: Deadline) -> bool:
        while await stream.upload(self, deadline):
            # Small pieces never wait for the network, so an early answer is looked for here.
            if self._pieces.begun and not stream.is_clean():
                return False
            piece = await self._pieces.next()
            if piece is None:
                return True
            self._left = memoryview(piece)
        return False
