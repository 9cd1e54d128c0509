"""Worker threads for functions that block.

Daemons, unlike anyio's and those of `concurrent.futures`: a function that never returns
must not keep a program from ending that was told to by Ctrl-C.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from queue import Empty, SimpleQueue
from typing import Any, Generic, ParamSpec, TypeVar

from ...errors import StreamClosedError
from .crossing import CallGroup, current_group

__all__ = ["Workers"]

R = TypeVar("R")
P = ParamSpec("P")


class Workers:
    """As many threads as functions run at once, kept until `close`."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._idle = 0
        self._closed = False

    async def run(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `fn` in a thread and give its result, or raise what it raises.

        A function cannot be cancelled: cancelled, this leaves it behind, to end when it
        likes. The calls of blocking clients that it is in are ended, with their connections
        closed when this returns, and further ones refused: StreamClosedError there.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        group = CallGroup()
        job = _Job(lambda: fn(*args, **kwargs), group, lambda: self._done(future))
        self._submit(job)
        try:
            await future
        except asyncio.CancelledError:
            await group.end()  # noqa: ASYNC102 - shielded inside
            raise
        value: R = job.outcome()
        return value

    def close(self) -> None:
        """End the threads, each when its function has returned. Idempotent; never waits."""
        self._closed = True
        # One for all, in one step that nothing interrupts: each thread hands it on.
        self._jobs.put(None)

    def _submit(self, job: _Job[Any]) -> None:
        # On the loop, as `_done`, so that the counts need no lock.
        if self._closed:
            raise StreamClosedError("the client is closed")
        self._jobs.put(job)
        if self._idle:
            self._idle -= 1
        else:
            try:
                self._start_thread()
            except BaseException:
                job.withdraw()
                raise

    def _start_thread(self) -> None:
        thread = threading.Thread(
            target=_work, args=(self._jobs,), name="penstock worker", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:
            if threading.main_thread().is_alive():
                raise
            raise RuntimeError(
                "a function that blocks needs a thread, and this version of Python starts none"
                " while the interpreter exits: run it before, or give methods of a client, such"
                " as client.complete"
            ) from error

    def _done(self, future: asyncio.Future[None]) -> None:
        self._idle += 1
        if not future.done():
            future.set_result(None)


def _work(jobs: SimpleQueue[_Job[Any] | None]) -> None:
    while True:
        job = jobs.get()
        if job is None:
            # A job that was submitted while another thread called `close` stands behind it.
            with contextlib.suppress(Empty):
                while job is None:
                    job = jobs.get_nowait()
            jobs.put(None)
            if job is None:
                return
        job.run()
        # Not kept while waiting for the next one.
        del job


class _Job(Generic[R]):
    """One call of a function, and what came of it."""

    def __init__(self, fn: Callable[[], R], group: CallGroup, on_done: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        # Of the task that asked: with the slot of a limiter that it stands in.
        self._context: Context = copy_context()
        self._context.run(current_group.set, group)
        self._fn: Callable[[], R] | None = fn
        self._on_done = on_done
        self._value: R | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Do it, in the worker thread."""
        fn = self._fn
        if fn is None:
            return
        try:
            self._value = self._context.run(fn)
        except BaseException as error:  # noqa: BLE001, ASYNC103 - raised in the task that waits
            self._error = error
        try:
            self._loop.call_soon_threadsafe(self._on_done)
        except RuntimeError:  # the loop is closed; nobody waits
            pass

    def withdraw(self) -> None:
        """Let it do nothing, whichever thread takes it."""
        self._fn = None

    def outcome(self) -> Any:
        """The result; raises what the function raised."""
        error, self._error = self._error, None
        if error is None:
            return self._value
        try:
            raise error
        finally:
            del error
