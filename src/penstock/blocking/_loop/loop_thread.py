"""What a blocking client, stream or fan-out has of the event loop: calls, until it is closed."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ..._loops import in_trio
from ...errors import StreamClosedError
from .crossing import Crossing, current_group
from .shared_loop import SharedLoop, registry_lock, take_share
from .workers import Workers

__all__ = ["LoopThread"]

R = TypeVar("R")


class LoopThread:
    """A share in the loop: runs coroutines for threads that wait for them.

    The loop starts with the first call of any share and ends with the last share: by
    `close`, with its owner, or at the interpreter's exit. Several threads may run
    coroutines at once.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._closed = False
        self._shared: SharedLoop | None = None
        self._finalizer: weakref.finalize[Any, LoopThread] | None = None
        self.workers: Workers = Workers()
        """Threads for what may not block the loop; they end with this share."""

    def run(self, fn: Callable[..., Coroutine[Any, Any, R]], *args: Any) -> R:
        """Run `fn(*args)` on the loop and wait for its result, as `Crossing.run` does.

        RuntimeError and StreamClosedError as of `start`, before `fn` is called.
        """
        call = Crossing(self.start(), fn, args)
        group = current_group.get()
        return call.run() if group is None else group.run(call)

    def finish(self, fn: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Run what closes something, also where no further call is allowed.

        Does nothing when the loop has ended, and with it what there was to close.
        RuntimeError in the loop's own thread.
        """
        shared = self._shared
        if shared is None or not self.is_running:
            return
        _check_thread(shared)
        try:
            Crossing(shared, fn, ()).run()
        except StreamClosedError:
            if not shared.stopping:
                raise

    def post(self, fn: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Have the loop run `fn()`, without waiting for it; for `__del__`."""
        if self._shared is not None and self.is_running:
            self._shared.post(fn)

    def start_task(self, coro: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
        """Start a task that outlives the call it is made in; to be called in that call."""
        assert self._shared is not None
        return self._shared.start_task(coro)

    @property
    def is_running(self) -> bool:
        """Whether this share has a loop."""
        return self._shared is not None and not self._closed and os.getpid() == self._pid

    def start(self) -> SharedLoop:
        """Take the share, if that is not done.

        RuntimeError where a call would hang for ever: in the loop's own thread, and in a
        process forked after the first call. StreamClosedError after `close`.
        """
        if not self._is_ours():
            raise RuntimeError(
                "this client was used before os.fork(), and its connections belong to the"
                " parent process: make a new one in the child"
            )
        shared = self._shared
        if shared is None or self._closed:
            shared = self._take()
        _check_thread(shared)
        return shared

    def _take(self) -> SharedLoop:
        with self._lock:
            if self._closed:
                raise StreamClosedError("the client is closed")
            if self._shared is None:
                self._shared = shared = take_share()
                # No method of this one: the finalizer must not keep its owner alive.
                self._finalizer = weakref.finalize(self, _collected, shared, self.workers)
                self._finalizer.atexit = False
            return self._shared

    def close(self, last: Callable[[], Coroutine[Any, Any, Any]] | None = None) -> None:
        """Run `last`, then give the share up. Idempotent; nothing in a forked process.

        The last share ends the loop and waits for its thread. Raises what `last` raises;
        RuntimeError in the loop's own thread, where nothing is closed.
        """
        if not self._is_ours():
            return
        if self._shared is not None and self.is_running:
            _check_thread(self._shared)
        try:
            if last is not None:
                self.finish(last)
        except BaseException as error:
            if last is not None and not isinstance(error, Exception):
                # Interrupted; so that it gets done, the loop does it in any case.
                self.post(last)
            raise
        finally:
            with self._lock:
                finalizer, self._finalizer = self._finalizer, None
                self._closed = True
            self.workers.close()
            if finalizer is not None and self._shared is not None:
                finalizer.detach()
                self._shared.give_share(wait=True)

    def _is_ours(self) -> bool:
        """Whether this process may use it; a share belongs to the process that takes it first."""
        if globals()["os"] is None:  # nobody may at the very end: see `AsyncClient.__del__`
            return False
        if self._pid != os.getpid():
            if self._shared is not None:
                return False
            with registry_lock():
                if self._pid != os.getpid():
                    # Another thread of the parent may have held the old one.
                    self._lock = threading.RLock()
                    self._pid = os.getpid()
        return True

    def abandon(self) -> None:
        """Give the share up without waiting for anything; for those who are garbage."""
        if self._finalizer is not None:
            self._finalizer()


def _check_thread(shared: SharedLoop) -> None:
    """Raise RuntimeError where the loop cannot run while this thread waits for it."""
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    if running is shared.loop:
        raise RuntimeError(
            "a blocking call in the thread of the event loop that has to serve it would never"
            " return: use penstock.AsyncClient there, or call from a worker thread"
        )
    if shared.threadless and (running is not None or in_trio()):
        raise RuntimeError(
            "this version of Python starts no thread while the interpreter exits, so that a"
            " blocking call cannot be made inside a running event loop: use"
            " penstock.AsyncClient there, or call before"
        )


def _collected(shared: SharedLoop, workers: Workers) -> None:
    workers.close()
    shared.give_share_of_garbage()
