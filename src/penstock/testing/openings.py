"""Remembers where sockets are opened and tasks are started, for as long as a block lasts."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Literal, TypeAlias
from weakref import WeakKeyDictionary

from .._loops import in_trio
from .stacks import Stack, capture

OpenSocket: TypeAlias = tuple[int, int]
"""Descriptor and inode: a number may be used again."""

_watching: ContextVar[tuple[Openings, ...]] = ContextVar("penstock_openings", default=())
_active: list[Openings] = []  # told of sockets, in any thread
_real_init = socket.socket.__init__


class Openings:
    """What was opened since `start`, with the stack that opened it. `stop` ends it.

    `tasks`: those that have not ended, of the task that called `start` and of all that came from
    it. `sockets`: by descriptor and inode. uvloop opens its sockets itself; of these only outgoing
    connections are known.
    """

    def __init__(self) -> None:
        self.tasks: WeakKeyDictionary[Any, Stack] = WeakKeyDictionary()
        self.sockets: dict[OpenSocket, Stack] = {}
        self._undo: list[Any] = []

    def start(self) -> None:
        """Begin. In an event loop, its tasks are watched too."""
        _active.append(self)
        socket.socket.__init__ = _init_and_remember  # type: ignore[method-assign]
        loop = running_loop()
        if loop is None:
            return
        _watching.set((*_watching.get(), self))
        if loop == "trio":
            import trio

            watcher: Any = _TrioWatcher(self)  # trio's own type asks for all the methods
            trio.lowlevel.add_instrument(watcher)
            self._undo.append(lambda: trio.lowlevel.remove_instrument(watcher))
        else:
            self._watch_loop(loop)

    def stop(self) -> None:
        """End. The findings are kept."""
        _active.remove(self)
        if not _active:
            socket.socket.__init__ = _real_init  # type: ignore[method-assign]
        _watching.set(tuple(each for each in _watching.get() if each is not self))
        while self._undo:
            self._undo.pop()()

    def task_started(self, task: Any, watching: tuple[Openings, ...]) -> None:
        """Remember the task, if it descends from the block."""
        if self in watching:
            self.tasks[task] = capture()

    def socket_opened(self, descriptor: int) -> None:
        """Remember the socket, and where the task that opens it was started."""
        loop = running_loop()
        if loop == "trio":
            import trio

            task: Any = trio.lowlevel.current_task()
        else:
            task = None if loop is None else asyncio.current_task()
        opener = () if task is None else self.tasks.get(task, ())
        try:
            inode = os.fstat(descriptor).st_ino
        except OSError:  # on Windows a socket is not a file
            return
        self.sockets[descriptor, inode] = capture() + opener

    def _watch_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        before: Any = loop.get_task_factory()

        def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
            if before is None:
                task: Any = asyncio.Task(coro, loop=loop, **options)
            else:
                task = before(loop, coro, **options)
            self.task_started(task, _watching.get())
            return task

        def restore() -> None:
            # Otherwise an inner block has wrapped it.
            if loop.get_task_factory() is factory:
                loop.set_task_factory(before)

        loop.set_task_factory(factory)
        self._undo.append(restore)
        if type(loop).__module__.startswith("uvloop"):
            for name in ("create_connection", "create_unix_connection"):
                if name not in vars(loop):  # it stays there, and does nothing outside a block
                    setattr(loop, name, _connect_and_remember(getattr(loop, name)))


class _TrioWatcher:
    """A trio instrument, which trio calls in the task that starts another."""

    def __init__(self, openings: Openings) -> None:
        self._openings = openings

    def task_spawned(self, task: Any) -> None:
        self._openings.task_started(task, task.context.get(_watching, ()))


def _init_and_remember(self: socket.socket, *args: Any, **options: Any) -> None:
    _real_init(self, *args, **options)
    _remember(self)


def _connect_and_remember(connect: Callable[..., Any]) -> Callable[..., Any]:
    async def connect_and_remember(*args: Any, **options: Any) -> Any:
        transport, protocol = await connect(*args, **options)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            _remember(sock)
        return transport, protocol

    return connect_and_remember


def _remember(sock: socket.socket) -> None:
    for openings in _active:
        openings.socket_opened(sock.fileno())


def running_loop() -> asyncio.AbstractEventLoop | Literal["trio"] | None:
    """Return the event loop that runs in this thread, if any."""
    if in_trio():
        return "trio"
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def open_sockets() -> set[OpenSocket]:
    """Return the open sockets of this process; on Windows, which cannot list them, none."""
    folder = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"  # noqa: PTH112
    if not os.path.isdir(folder):  # noqa: PTH112
        return set()
    found: set[OpenSocket] = set()
    for name in os.listdir(folder):  # noqa: PTH208
        try:
            status = os.fstat(int(name))
        except OSError:  # the one that listdir itself had open
            continue
        if stat.S_ISSOCK(status.st_mode):
            found.add((int(name), status.st_ino))
    return found
