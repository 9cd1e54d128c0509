"""Check that a block leaves nothing open: connections, sockets, tasks, a limiter's slots."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from .memory import MemoryConnection, networks
from .openings import Openings, OpenSocket, open_sockets, running_loop
from .stacks import Stack, capture, describe

if TYPE_CHECKING:
    from .._limiter.limiter import Limiter

GRACE = 1.0  # seconds


class LeakError(AssertionError):
    """Something was left open; the message says what, and where the code opened it."""


class no_leaks:  # noqa: N801 - read as a statement
    """A block that must close everything that it opens: `async with no_leaks(): ...`.

    Put it around the client, not inside, as a client keeps idle connections. When the block is
    left, it waits for things that are closing (at most `grace` seconds of the event loop's
    clock), then raises LeakError for

    - connections to a `MemoryNetwork`, with where they were last used;
    - sockets of this process, except the unnamed pairs with which event loops wake themselves
      (not on Windows, which cannot list them);
    - tasks that the block started, directly or not, on asyncio and trio;
    - slots of the limiters that it was given: `no_leaks(limiter)`.

    A block that raises is not checked, so that its own error is seen. Plain `with` is for code
    without an event loop, and does not check tasks; in an event loop it raises RuntimeError.
    During the block `socket.socket` is patched, and asyncio's task factory replaced.
    """

    def __init__(self, *limiters: Limiter, grace: float = GRACE) -> None:
        self._limiters = limiters
        self._grace = grace
        self._openings = Openings()
        self._sockets: set[OpenSocket] = set()
        self._connections: dict[int, MemoryConnection] = {}
        self._slots: list[_Places] = []

    def __enter__(self) -> no_leaks:
        if running_loop() is not None:
            raise RuntimeError("in an event loop, write `async with no_leaks()`")
        self._begin()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if exc_type is None:
                end = time.monotonic() + self._grace
                while self._found() and time.monotonic() < end:
                    time.sleep(0.01)
                self._check()
        finally:
            self._end()

    async def __aenter__(self) -> no_leaks:
        await anyio.lowlevel.checkpoint()
        self._begin()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if exc_type is None:
                for _ in range(10):  # some things close in the loop's next iterations
                    await anyio.lowlevel.checkpoint()  # noqa: ASYNC102 - the block is over
                end = anyio.current_time() + self._grace
                while self._found() and anyio.current_time() < end:  # noqa: ASYNC110
                    await anyio.sleep(0.01)  # noqa: ASYNC102
                self._check()
        finally:
            self._end()

    def _begin(self) -> None:
        self._connections = {id(each): each for each in _open_connections()}
        self._sockets = open_sockets()
        self._slots = [_Places(limiter) for limiter in self._limiters]
        self._openings.start()

    def _end(self) -> None:
        self._openings.stop()
        for places in self._slots:
            places.stop()

    def _check(self) -> None:
        if found := self._found():
            raise LeakError("left open:\n" + "\n".join(found))

    def _found(self) -> list[str]:
        found = [
            describe_connection(each)
            for each in _open_connections()
            if id(each) not in self._connections
        ]
        for each in sorted(open_sockets() - self._sockets):
            name = _ends(each[0])
            if name is not None:
                found.append(_item(f"a socket, {name}", "opened", self._openings.sockets.get(each)))
        for task, stack in list(self._openings.tasks.items()):
            if _runs(task):
                found.append(_item(f"a task, {_name(task)}", "started", stack))
        return found + [text for places in self._slots for text in places.found()]


class _Places:
    """Where slots of a limiter were taken. A released slot is not matched with its taker."""

    def __init__(self, limiter: Limiter) -> None:
        line: Any = limiter.line
        self._line: Any = line
        self._before = limiter.line.in_flight
        self._taken: list[Stack] = []
        self._own: dict[str, Any] = vars(limiter.line)
        self._outer: Any = self._own.get("enter")  # of an enclosing block
        enter = line.enter

        async def enter_and_remember(*args: Any, **options: Any) -> None:
            await enter(*args, **options)
            self._taken.append(capture())

        line.enter = enter_and_remember

    def stop(self) -> None:
        self._own.pop("enter", None)
        if self._outer is not None:
            self._own["enter"] = self._outer

    def found(self) -> list[str]:
        left = self._line.in_flight - self._before
        if left <= 0:
            return []
        what = "a limiter's slot" if left == 1 else f"{left} slots of a limiter"
        places = Counter(describe(stack) for stack in self._taken).most_common(3)
        return ["\n".join([f"- {what}; slots were taken at", *(text for text, _ in places)])]


def _open_connections() -> list[MemoryConnection]:
    return [each for network in list(networks) for each in network.connections if each.open]


def describe_connection(connection: MemoryConnection) -> str:
    """Return a line about the connection, and the lines of code that last used it."""
    to = f"{connection.host}:{connection.port}" if connection.port else connection.host
    answers = f", {len(connection.in_flight)} in flight" if connection.in_flight else ""
    sent = len(connection.requests)
    what = f"a connection to {to}, {sent} request{'s' * (sent != 1)} sent{answers}"
    return _item(what, "last used", connection.used_at)


def _item(what: str, done: str, stack: Stack | None) -> str:
    return f"- {what}, {done} at\n{describe(stack)}" if stack else f"- {what}"


def _ends(descriptor: int) -> str | None:
    """Return both ends of a socket; None if it is closed by now, or one of an unnamed pair."""
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as twin:
        if twin.family == getattr(socket, "AF_UNIX", None) and not twin.getsockname():
            peer = ""
            with suppress(OSError):
                peer = twin.getpeername()
            return f"to {peer}" if peer else None
        try:
            return f"{_address(twin.getsockname())} to {_address(twin.getpeername())}"
        except OSError:
            return f"{_address(twin.getsockname())}, not connected"
    return None


def _address(name: Any) -> str:
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name)


def _runs(task: Any) -> bool:
    """Whether the task has not ended; trio's have no method for it, but leave their nursery."""
    done = getattr(task, "done", None)
    return not done() if done is not None else task in task.parent_nursery.child_tasks


def _name(task: Any) -> str:
    return str(task.get_name() if hasattr(task, "get_name") else task.name)
