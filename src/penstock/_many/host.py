"""A task of its own for a block, outside the cancel scopes of the task that enters it.

A task group that is entered in the caller's task must be left in the same task, and in the order
of a stack. A user's async generator around a fan-out cannot promise that: abandoned by `break`, it
is closed by another task, or by the event loop. asyncio's caller would then be cancelled by the
group's scope, and trio would stop with an internal error. So the group lives in a task of its own,
which any task may end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import TYPE_CHECKING

import anyio

from .._loops import in_trio
from .cancellation import sole

if TYPE_CHECKING:
    import asyncio

__all__ = ["Host"]

# asyncio keeps only weak references to its tasks.
_running: set[asyncio.Task[None]] = set()


class Host:
    """Runs an async function in a task of its own until it returns, or `end` is called.

    The task has the caller's context variables and none of its cancel scopes.
    """

    def __init__(self, fn: Callable[[], Awaitable[None]], on_end: Callable[[], None]) -> None:
        self._fn = fn
        self._on_end = on_end
        self._scope = anyio.CancelScope()
        self._ended = anyio.Event()
        self.error: BaseException | None = None
        """What the function raised, other than a cancellation; never a group."""
        self.broken_off = False
        """True if the function was cancelled before it returned."""

    def start(self) -> None:
        """Start the task; `on_end` is called when it has ended."""
        if in_trio():
            import trio

            trio.lowlevel.spawn_system_task(self._run, context=copy_context())
        else:
            import asyncio

            task = asyncio.get_running_loop().create_task(self._run())
            _running.add(task)
            task.add_done_callback(_running.discard)

    @property
    def ended(self) -> bool:
        """True if the task has ended."""
        return self._ended.is_set()

    @property
    def returned(self) -> bool:
        """True if the function has returned by itself."""
        return self.ended and not self.broken_off and self.error is None

    @property
    def ending(self) -> bool:
        """True if `end` was called, or the function has raised."""
        return self._scope.cancel_called

    def cancel(self) -> None:
        """Cancel the function, without waiting for it."""
        self._scope.cancel()

    async def end(self) -> None:
        """Cancel the function and wait until its task has ended; callable from any task.

        Only asyncio's own cancellation, or Ctrl-C, is raised, after the task has ended: a
        cancelled scope cannot break off this wait.
        """
        self.cancel()
        interruption: BaseException | None = None
        with anyio.CancelScope(shield=True):
            while not self.ended:
                try:
                    await self._ended.wait()
                except (anyio.get_cancelled_exc_class(), KeyboardInterrupt) as error:  # noqa: ASYNC103 - raised at the end
                    interruption = error
        if interruption is not None:
            try:
                raise interruption
            finally:
                # No cycle of the error, its traceback and this frame.
                del interruption

    async def _run(self) -> None:
        # Nothing but a cancellation of the event loop's own may leave it: trio stops the program
        # for an exception in a task like this one.
        self.broken_off = True
        try:
            with self._scope:
                await self._fn()
                self.broken_off = False
        except BaseExceptionGroup as errors:
            error = sole(errors)
            if not isinstance(error, anyio.get_cancelled_exc_class()):
                self.error = error
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # noqa: BLE001 - raised by the block
            self.error = error
        finally:
            self._ended.set()
            self._on_end()
