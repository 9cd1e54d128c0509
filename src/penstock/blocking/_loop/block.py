"""An async context manager, entered and left from outside the loop."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar

from .crossing import cancel_once
from .loop_thread import LoopThread

__all__ = ["Block"]

T = TypeVar("T")


class _Host(Generic[T]):
    """The task in which the manager is entered and left: task groups want one and the same."""

    def __init__(self, loop: LoopThread, manager: AbstractAsyncContextManager[T]) -> None:
        self._manager = manager
        self._entered = asyncio.Event()
        self._leaving = asyncio.Event()
        self._value: T | None = None
        self._body_error: BaseException | None = None
        self._error: BaseException | None = None
        self._task = loop.start_task(self._live())

    async def enter(self) -> Any:
        try:
            await self._entered.wait()
        except asyncio.CancelledError:
            await self.abandon()  # noqa: ASYNC102 - no shield would hold against a native cancellation
            raise
        self._raise_error()
        return self._value

    async def leave(self, body_error: BaseException | None) -> None:
        self._body_error = body_error
        self._leaving.set()
        try:
            await asyncio.wait([self._task])
        except asyncio.CancelledError:
            await self.abandon()  # noqa: ASYNC102 - no shield would hold against a native cancellation
            raise
        self._raise_error()

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is left running."""
        return self._task.done()

    async def end(self) -> None:
        """Leave it as after a body without an error, or cancel it if it is not entered yet."""
        if not self._entered.is_set():
            cancel_once(self._task)
        self._leaving.set()
        await asyncio.wait([self._task])

    async def abandon(self) -> None:
        """Cancel it, wherever it is, and wait for its end."""
        cancel_once(self._task)
        await asyncio.wait([self._task])

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                # No cycle of the error, its traceback and this frame.
                del error

    async def _live(self) -> None:
        # Errors are kept for the thread that waits; raised, SystemExit would end the loop.
        try:
            self._value = await self._manager.__aenter__()
        except BaseException as error:  # noqa: BLE001, ASYNC103 - kept for the thread that waits
            self._error = error
            return  # noqa: ASYNC104 - kept for the thread that waits
        finally:
            self._entered.set()
        try:
            await self._leaving.wait()
            caught = self._body_error
        except asyncio.CancelledError as error:  # noqa: ASYNC103 - handed to the manager
            caught = error
        try:
            kind = None if caught is None else type(caught)
            traceback = None if caught is None else caught.__traceback__
            await self._manager.__aexit__(kind, caught, traceback)
        except BaseException as error:  # noqa: BLE001, ASYNC103 - kept for the thread that waits
            self._error = error
        finally:
            self._body_error = caught = None


class Block(Generic[T]):
    """A plain context manager around an async one, with a share in the loop that ends with it.

    The clients whose shares are given take theirs when it is entered.
    """

    def __init__(
        self,
        loop: LoopThread,
        manager: AbstractAsyncContextManager[T],
        clients: Iterable[LoopThread] = (),
    ) -> None:
        self.loop = loop
        self._manager = manager
        self._clients = tuple(clients)
        self._host: _Host[T] | None = None
        self._left = False

    def enter(self) -> T:
        """Enter it. Raises what it raises; interrupted, nothing of it is left running."""
        if self._host is not None or self._left:
            raise RuntimeError("a block is entered once")
        try:
            for client in self._clients:
                client.start()
            value: T = self.loop.run(self._enter)
            return value
        except BaseException:
            self._abandon()
            raise

    def _abandon(self) -> None:
        host = self._host
        self._left = host is not None
        # An interruption may have come when it was entered already.
        self.loop.close(None if host is None else host.abandon)

    async def _enter(self) -> Any:
        self._host = _Host(self.loop, self._manager)
        return await self._host.enter()

    def leave(self, error: BaseException | None) -> None:
        """Leave it with what the body raised. Idempotent; raises what leaving raises."""
        host = self._host
        if host is None or self._left:
            return
        self._left = True
        self.loop.close(lambda: host.leave(error))

    def drop(self) -> None:
        """Have the loop end it, without waiting for that; after an interruption. Idempotent.

        A second Ctrl-C may break off whatever waits; what is handed to the loop gets done.
        """
        host, loop = self._host, self.loop
        self._left = self._left or host is not None
        if host is None or host.is_over or not loop.is_running:
            loop.abandon()
            return

        async def end() -> None:
            await host.end()
            # The worker threads are needed until now.
            loop.abandon()

        loop.post(end)

    def __del__(self) -> None:
        if globals()["warnings"] is None:  # as in AsyncClient
            return
        host = getattr(self, "_host", None)
        if host is None or host.is_over or not self.loop.is_running:
            return
        self.drop()
        warnings.warn(
            f"a {type(self._manager).__name__} was entered and never left: use `with`",
            ResourceWarning,
            source=self,
            stacklevel=2,
        )
