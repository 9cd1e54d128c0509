"""The event loop that all blocking clients of a process share, in a thread of its own.

One for all, so that limiters and races can span clients.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import socket
import threading
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any, TypeVar

from ..._loops import mark_asyncio_thread
from ...errors import APIConnectionError
from .crossing import CLOSED, Crossing, cancel_once

__all__ = ["SharedLoop", "registry_lock", "take_share"]

R = TypeVar("R")

# How long whoever ends the loop waits for its thread, and that for what it still does.
JOIN_SECONDS = 5.0
END_SECONDS = 1.0

# What an event loop opens: a selector, and a pair of sockets to be woken by.
DESCRIPTORS = 3


class SharedLoop:
    """The loop, its thread, and how many shares there are; it ends with the last one."""

    def __init__(self) -> None:
        self.pid: int = os.getpid()
        self.shares: int = 0
        self.stopping: bool = False
        self.exiting = False
        self.pending: set[Crossing[Any]] = set()
        self._posted: set[asyncio.Task[Any]] = set()
        self._started: set[asyncio.Task[Any]] = set()
        self._here = threading.Lock()
        _require_descriptors()
        self.loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
        self.threadless: bool = False
        # A daemon, so that a client nobody closed does not keep the interpreter from ending.
        self._thread = threading.Thread(target=self._run, name="penstock", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            # Python 3.12 starts no thread any more when the handlers of `atexit` run.
            if threading.main_thread().is_alive():
                self.loop.close()
                raise
            self.threadless = True

    def post(self, fn: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Have the loop run `fn()`; it is not waited for, but not forgotten either."""

        def start() -> None:
            if not self.stopping:
                task = self.loop.create_task(fn())
                self._posted.add(task)
                task.add_done_callback(self._posted.discard)
                # Nobody waits for its outcome.
                task.add_done_callback(lambda done: done.cancelled() or done.exception())

        self._call(start)

    def run_here(self, call: Crossing[Any], seconds: float | None = None) -> None:
        """Run the loop in this thread until the call is over, or for so many seconds."""
        with self._here:
            timer = None if seconds is None else self.loop.call_later(seconds, self.loop.stop)
            while not (call.is_over or self.stopping):
                self.loop.run_forever()
                if timer is not None:
                    timer.cancel()
                    break
            if self.stopping and not self.loop.is_closed():
                self._run()

    def start_task(self, coro: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
        """Start a task that outlives the call it is made in; on the loop. Its end cancels it."""
        task = self.loop.create_task(coro)
        self._started.add(task)
        task.add_done_callback(self._started.discard)
        return task

    def give_share(self, *, wait: bool) -> None:
        """One share less; the last one ends the loop."""
        global _current
        with _lock:
            self.shares -= 1
            if self.shares or self.stopping:
                return
            if _current is self:
                _current = None
        self.stop(wait=wait)

    def give_share_of_garbage(self) -> None:
        """The same for a finalizer: from any thread, in the midst of anything."""
        # On the loop, since the collector may run within `_lock`.
        # At the very end of the interpreter its modules are gone, and the loop with its thread.
        if globals()["os"] is not None and self.pid == os.getpid():
            self._call(lambda: self.give_share(wait=False))

    def stop(self, *, wait: bool) -> None:
        """End the loop, whatever it does. Idempotent."""
        if self.threadless:
            self._stop_here()
            return
        self._call(self._stop)
        if wait and self._thread is not threading.current_thread():
            self._thread.join(JOIN_SECONDS)

    def _stop_here(self) -> None:
        if self.loop.is_running():
            self._stop()  # and `run_here` does the rest
        elif not self.stopping:
            # What was posted begins before.
            self.loop.call_soon(self._stop)
            self.loop.run_forever()
            self._run()

    def _call(self, fn: Callable[[], None]) -> None:
        try:
            self.loop.call_soon_threadsafe(fn)
        except RuntimeError:  # the loop is closed
            pass

    def _stop(self) -> None:
        # A second time it would stop the loop in the midst of its clean-up.
        if not self.stopping:
            self.stopping = True
            self.loop.stop()

    def _run(self) -> None:
        loop = self.loop
        if not self.threadless:
            asyncio.set_event_loop(loop)
            # It overrides what the context of a calling thread says, which may be trio.
            mark_asyncio_thread()
        try:
            while not self.stopping:
                try:
                    loop.run_forever()
                except (SystemExit, KeyboardInterrupt):
                    # Of a task, whose outcome it is as well: no reason to stop for the others.
                    pass
            loop.run_until_complete(self._end())
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            if not self.threadless:
                asyncio.set_event_loop(None)
            loop.close()
            for call in list(self.pending):
                call.lost()

    async def _end(self) -> None:
        if self._posted:
            await asyncio.wait(self._posted, timeout=END_SECONDS)
        # First the calls and blocks, which end their own tasks: those may be cleaning up.
        calls = [task for call in list(self.pending) if (task := call.cancel(CLOSED)) is not None]
        for task in self._started:
            cancel_once(task)
        if first := {*calls, *self._started}:
            await asyncio.wait(first, timeout=END_SECONDS)
        # Then what is left: tasks of nobody, and clean-ups that take too long.
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(rest, timeout=END_SECONDS)


def _require_descriptors() -> None:
    """Raise APIConnectionError if an event loop would find too few.

    It would raise an OSError in the midst of its set-up, and warn that it was never closed.
    """
    try:
        with ExitStack() as opened:
            for _ in range(DESCRIPTORS):
                opened.enter_context(socket.socket())
    except OSError as error:
        raise APIConnectionError(
            f"cannot start the event loop of the blocking clients: {error}"
        ) from error


# Reentrant: a signal's handler may close a client in the midst of the rest.
_lock = threading.RLock()
_current: SharedLoop | None = None


def registry_lock() -> threading.RLock:
    """Return the lock over the process's loop; a forked process has a free one."""
    return _lock


def take_share() -> SharedLoop:
    """A share in the process's loop, which is started if there is none."""
    global _current
    with _lock:
        shared = _current
        if shared is None or shared.stopping:
            _current = shared = SharedLoop()
        shared.shares += 1
        return shared


def _at_exit() -> None:
    if _current is not None:
        _current.exiting = True
        _current.stop(wait=True)


def _in_child() -> None:
    global _current, _lock
    _current = None
    _lock = threading.RLock()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
