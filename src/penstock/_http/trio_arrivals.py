"""Bytes given to taps where they arrive, under trio: no task of a stream is woken for them.

asyncio calls a protocol with what it has read. trio only wakes tasks, one for each socket. So here
one task waits for all the sockets whose taps let their tasks sleep on (`Taken.GOES_ON`), by an
epoll object that holds them, and calls each that can be read. On systems without epoll the stream's
own task calls the tap.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

import trio

__all__ = ["Arrivals"]


class _Wait:
    """A task that waits for a socket."""

    __slots__ = ("arrived", "error", "task")

    def __init__(self, arrived: Callable[[], bool]) -> None:
        self.task = trio.lowlevel.current_task()
        self.arrived = arrived
        self.error: Exception | None = None


class Arrivals:
    """The sockets of one trio run that are read with a tap. Begins with the first of them."""

    __slots__ = ("_epoll", "_waits")

    def __init__(self) -> None:
        self._epoll: Any = None
        # By descriptor; the epoll object has the same ones.
        self._waits: dict[int, _Wait] = {}

    @property
    def is_open(self) -> bool:
        """True if sockets can be waited for."""
        return self._epoll is not None

    def open(self) -> bool:
        """Begin; return False if the system cannot."""
        try:
            self._epoll = select.epoll()
        except (AttributeError, OSError):  # not Linux, or no descriptor is free
            return False
        return True

    def close(self) -> None:
        """End; nothing waits any more."""
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None

    async def run(self) -> None:
        """Call each wait whose socket can be read, until cancelled."""
        if self._epoll is None:
            await trio.sleep_forever()
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            for fd, _ in self._epoll.poll(0):
                if fd in self._waits and self._has_arrived(self._waits[fd]):
                    self.wake(fd)

    def _has_arrived(self, wait: _Wait) -> bool:
        try:
            return wait.arrived()
        except Exception as error:  # noqa: BLE001 - raised by the wait: here it would end the run
            wait.error = error
            return True

    # Ctrl-C between two steps would leave a socket without its task, or a task asleep.
    @trio.lowlevel.enable_ki_protection
    async def wait(self, fd: int, arrived: Callable[[], bool]) -> None:
        """Wait until `arrived`, called whenever the socket can be read, returns True.

        Or until `wake`. Raises what `arrived` raises.
        """
        self._epoll.register(fd, select.EPOLLIN)
        self._waits[fd] = wait = _Wait(arrived)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._remove(fd)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        if wait.error is not None:
            raise wait.error

    @trio.lowlevel.enable_ki_protection
    def wake(self, fd: int) -> None:
        """End the wait for this socket, if there is one."""
        wait = self._remove(fd)
        if wait is not None:
            trio.lowlevel.reschedule(wait.task)

    def _remove(self, fd: int) -> _Wait | None:
        wait = self._waits.pop(fd, None)
        if wait is not None:
            self._epoll.unregister(fd)
        return wait
