"""Deadlines of reads under trio, without a cancel scope for each.

A scope for each read was a third of what an event costs. Here a wait only notes its deadline. One
task for the whole trio run sleeps until the earliest of them, then looks at the waits of that
moment and breaks off those that are late. So a stream that keeps receiving hardly ever touches
trio's timers.
"""

from __future__ import annotations

import math
from typing import Protocol

import trio

from .trio_arrivals import Arrivals

__all__ = ["Wait", "Watchdog", "watchdog"]


class Wait(Protocol):
    """A wait for the network."""

    until: float
    """The time at which it must end."""

    def break_off(self) -> None:
        """Wake the task that waits."""


class Watchdog:
    """Breaks off the waits of one trio run at their deadlines.

    Its task is a system task, in nobody's cancel scope. It begins with the first deadline or tap,
    and ends with the last connection.
    """

    __slots__ = ("_connections", "_is_over", "_looks_at", "_runs", "_scope", "_waits", "arrivals")

    def __init__(self) -> None:
        self.arrivals: Arrivals = Arrivals()
        """What the task serves meanwhile."""
        # Nothing else: a stream between two reads may be dropped.
        self._waits: set[Wait] = set()
        self._connections = 0
        self._looks_at = math.inf
        self._scope: trio.CancelScope | None = None
        self._runs = False
        # The trio run is ending, and cancels all system tasks.
        self._is_over = False

    def connected(self) -> None:
        """Note another connection, whose waits may have deadlines."""
        self._connections += 1

    def disconnected(self) -> None:
        """Note the end of one."""
        self._connections -= 1
        if not self._connections and self._scope is not None:
            self._scope.cancel()

    def add(self, wait: Wait) -> bool:
        """Watch over it until it is removed; return False if that is not possible any more."""
        self._waits.add(wait)
        return wait.until >= self._looks_at or self._look_at(wait.until)

    def remove(self, wait: Wait) -> None:
        """Forget a wait that is over."""
        self._waits.discard(wait)

    # Ctrl-C between two steps would leave the task asleep, or believed to run.
    @trio.lowlevel.enable_ki_protection
    def takes_arrivals(self) -> bool:
        """Have the task serve `arrivals` as well; return False if that is not possible."""
        if self.arrivals.is_open:
            return True
        if not self._look_at(self._looks_at) or not self.arrivals.open():
            return False
        if self._scope is not None:
            self._scope.cancel()  # it begins anew
        return True

    @trio.lowlevel.enable_ki_protection
    def _look_at(self, when: float) -> bool:
        if self._is_over:
            return False
        self._looks_at = when
        if self._scope is not None:
            self._scope.deadline = when
        elif not self._runs:
            try:
                trio.lowlevel.spawn_system_task(self._run, name="deadlines of penstock")
            except RuntimeError:  # the run is closed to new tasks
                self._is_over = True
                return False
            self._runs = True
        return True

    async def _run(self) -> None:
        try:
            while self._connections:
                with trio.CancelScope(deadline=self._looks_at) as self._scope:
                    await self.arrivals.run()
                self._look()
        except trio.Cancelled:
            self._is_over = True
            # Those that go on, under a shield, see to their deadlines themselves.
            self._look()
            raise
        finally:
            self._scope = None
            self._runs = False
            self._looks_at = math.inf
            self.arrivals.close()

    def _look(self) -> None:
        now = trio.current_time()
        next_one = math.inf
        for wait in self._waits:
            if self._is_over or wait.until <= now:
                wait.break_off()
            elif wait.until < next_one:
                next_one = wait.until
        self._looks_at = next_one


_of_this_run: trio.lowlevel.RunVar[Watchdog] = trio.lowlevel.RunVar("penstock watches deadlines")


def watchdog() -> Watchdog:
    """Return that of the running trio run."""
    try:
        return _of_this_run.get()
    except LookupError:
        made = Watchdog()
        _of_this_run.set(made)
        return made
