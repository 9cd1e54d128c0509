"""What the generated streams stand on: opening, reading and closing from threads that wait."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import anyio

from ..._call.lifecycle import StreamState
from ...errors import StreamBusyError
from .loop_thread import LoopThread

__all__ = ["Reading"]

T_co = TypeVar("T_co", covariant=True)
R = TypeVar("R")
_UNDER_WAY = (StreamState.SENDING, StreamState.WAITING, StreamState.OPEN, StreamState.FLOWING)


class Reading(Generic[T_co]):
    """A blocking stream of T but for what it knows of its answer; it reads an async stream.

    One thread reads at a time. Any thread may close it, or look into it.
    """

    __slots__ = ("__weakref__", "_async", "_loop", "_mutex", "_reader")

    def __init__(self, loop: LoopThread, stream: Any) -> None:
        self._loop = loop
        self._async = stream
        # Held while looking into the stream from outside the loop, or closing it; never while
        # a read waits. Reentrant for signal handlers.
        self._mutex = threading.RLock()
        # Set by the read that waits. An object of its own: whatever exception ends a read, and
        # wherever, the read withdraws its own claim only.
        self._reader: object | None = None

    def __enter__(self) -> Self:
        """Send the request; returns when the head of a success response is in.

        Raises the errors of `PenstockError` that a request can meet, StreamClosedError
        when the stream or its client is closed.
        Whatever it raises, nothing stays open.
        """
        try:
            self._wait_for(self._async.__aenter__)
            return self
        except BaseException as error:
            # The interruption may have come when it was open already.
            self._close_if_interrupted(error)
            raise

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except BaseException as error:
            self._close_if_interrupted(error)
            raise

    def close(self) -> None:
        """Close the connection at once, unless the answer was complete. Idempotent.

        From any thread: a read that waits in another one raises StreamClosedError there.
        """
        with self._mutex:
            if self._loop.is_running:
                if self._async.state is not StreamState.CLOSED:
                    self._loop.finish(self._async.aclose)
            elif self._async.state is StreamState.NEW:
                # Nothing was sent, so there is nothing to wait for.
                _result_of(self._async.aclose())

    def abandon(self) -> None:
        """Close the connection soon, without waiting; for the `__del__` of an owner. Idempotent."""
        if self._async.state in _UNDER_WAY and self._loop.is_running:
            # On the loop, to which its slot and its connection belong.
            self._loop.post(self._async.aclose)

    def __del__(self) -> None:
        if globals()["warnings"] is None:  # as in AsyncClient
            return
        stream = getattr(self, "_async", None)
        if stream is None or stream.state not in _UNDER_WAY or not self._loop.is_running:
            return
        quiet = stream._reader.sender.call.quiet
        message = "" if quiet else f"unclosed {self!r}: use `with`, or call close()"
        # On the loop, to which its slot and its connection belong.
        self._loop.post(stream.aclose)
        if message:
            warnings.warn(message, ResourceWarning, source=self, stacklevel=2)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T_co:
        """The next item; StopIteration means completed.

        Raises the failure of the stream, with `partial`, after the last item that came.
        StreamBusyError when another thread is reading, StreamClosedError when the stream is
        closed, also by another thread while this one waits.
        """
        while True:
            claim = None
            try:
                with self._mutex:
                    self._check_free()
                    # A read brings many items over from the loop's thread in one crossing.
                    try:
                        item: T_co = self._async.receive_nowait()
                        return item
                    except (anyio.WouldBlock, IndexError):
                        pass  # IndexError: a signal handler closed the stream just now
                    if self._async.state is StreamState.COMPLETED:  # the loop may be gone
                        raise StopIteration
                    claim = self._reader = object()
                self._loop.run(self._closing, self._async.fill)
            except BaseException as error:
                self._close_if_interrupted(error)
                raise
            finally:
                if claim is not None and self._reader is claim:
                    self._reader = None

    def _collect(self) -> Any:
        if self._async.state is not StreamState.COMPLETED:
            self._wait_for(self._skip_all)
        with self._mutex:
            return _result_of(self._async.collect())

    def __repr__(self) -> str:
        return repr(self._async).replace(type(self._async).__name__, type(self).__name__, 1)

    async def _closing(self, step: Callable[[], Coroutine[Any, Any, R]]) -> R:
        try:
            return await step()
        except asyncio.CancelledError as error:
            # The waiting thread was interrupted: the server must stop now, not when the block
            # is left.
            await self._async.__aexit__(type(error), error, None)  # noqa: ASYNC102 - closing shields what it must
            raise

    async def _skip_all(self) -> None:
        more = True
        while more:
            try:
                while True:
                    self._async.receive_nowait()
            except anyio.WouldBlock:
                more = await self._async.fill()

    def _close_if_interrupted(self, error: BaseException) -> None:
        """Close it without waiting if this is Ctrl-C or the like, and no error of a read."""
        # The call that was interrupted has been cancelled, and has closed the stream, unless it
        # was over by then.
        if not isinstance(error, Exception) and self._async.state in _UNDER_WAY:
            self._loop.post(self._async.aclose)

    def _check_free(self) -> None:
        if self._reader is not None:
            raise StreamBusyError("another thread is reading this stream: one at a time")

    def _wait_for(self, step: Callable[[], Coroutine[Any, Any, R]]) -> R:
        claim = object()
        try:
            with self._mutex:
                self._check_free()
                self._reader = claim
            return self._loop.run(lambda: self._closing(step))
        except BaseException as error:
            self._close_if_interrupted(error)
            raise
        finally:
            if self._reader is claim:
                self._reader = None

    def _look(self, look: Callable[[], R]) -> R:
        """Return what `look` sees; between two steps of the loop while a read is under way."""
        with self._mutex:
            if self._reader is None or not self._loop.is_running:
                return look()

            async def looked() -> R:
                return look()

            return self._loop.run(looked)


def _result_of(coroutine: Coroutine[Any, Any, R]) -> R:
    """Return the result of a coroutine that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: R = done.value
        return result
    raise AssertionError("it waits")
