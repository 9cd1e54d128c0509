"""Backends for async tests: real ones, and two whose time is virtual.

In virtual time nothing sleeps: when every task waits, the clock jumps to the next timer. A module
chooses it by overriding anyio's fixture with one import line:

    from penstock.testing.plugin import virtual_backend as anyio_backend  # noqa: F401

    pytestmark = pytest.mark.anyio

Use virtual time with `MemoryNetwork`, not with real sockets and threads: their work takes no
virtual time, so a timer may fire before they have finished.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import time
from typing import TYPE_CHECKING, Any, TypeAlias

from .stacks import Stack, describe, suspended

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Backend: TypeAlias = tuple[str, dict[str, Any]]
"""An event loop and its options, as anyio's fixture and `anyio.run` take them."""

DEADLOCK_AFTER = 1.0  # seconds of real time


class DeadlockError(RuntimeError):
    """Every task waits for something that can never happen; the message says where each waits."""

    def __init__(self, waiting: Iterable[tuple[str, Stack]] = ()) -> None:
        super().__init__(
            "deadlock in virtual time: no task can run, no timer is set, and no I/O arrived"
            f" within {DEADLOCK_AFTER:g} s of real time. Add a timeout to a wait, or an answer to"
            " the script; with real sockets or threads, use real time."
            + "".join(f"\n- {name} waits at\n{describe(stack)}" for name, stack in waiting)
        )


class _JumpingSelector:
    """A selector that moves the loop's clock to the next timer instead of waiting for it."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._real = selectors.DefaultSelector()
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return self._real.select(0)
        # anyio.sleep_forever() sets a timer too, at infinity.
        when = self._loop.next_timer()
        events = self._real.select(DEADLOCK_AFTER if when == math.inf else 0)
        if events:
            return events
        if when == math.inf:
            tasks: Any = asyncio.all_tasks(self._loop)
            raise DeadlockError((each.get_name(), suspended(each.get_coro())) for each in tasks)
        self._loop.jump_to(when)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop whose time starts at 0 and moves only from timer to timer."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_JumpingSelector(self))  # type: ignore[arg-type]

    def time(self) -> float:
        """Seconds of virtual time."""
        return self._now

    def next_timer(self) -> float:
        """Return when the next timer is due, or infinity."""
        loop: Any = self
        timers: list[asyncio.TimerHandle] = loop._scheduled
        return timers[0].when() if timers else math.inf

    def jump_to(self, when: float) -> None:
        """Set the clock to this time, but never back."""
        # The timer's own time, not now + timeout: adding up differences would make deadlines
        # inexact in the last digits.
        self._now = max(self._now, when)

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for the threads without a time limit, as the clock would jump over it."""
        await super().shutdown_default_executor()


def virtual_trio_clock() -> Any:
    """Return a trio clock that jumps at once, starts every run at 0 and reports deadlocks.

    trio's run loop accepts only its own final MockClock for jumping, so this replaces methods on an
    instance. One clock serves many runs, as pytest keeps one parameter for a whole module.
    """
    import trio
    from trio._core._run import GLOBAL_RUN_CONTEXT
    from trio.testing import MockClock

    clock: Any = MockClock(autojump_threshold=0)
    start_clock: Callable[[], None] = clock.start_clock
    jump_to_next: Callable[[], None] = clock._autojump
    idle_since: list[float] = []

    def start() -> None:
        clock._virtual_base = 0.0
        idle_since.clear()
        start_clock()

    def autojump() -> None:
        if trio.lowlevel.current_statistics().seconds_to_next_deadline < math.inf:
            idle_since.clear()
            jump_to_next()
        elif not idle_since:
            idle_since[:] = [time.monotonic(), clock.current_time()]
        elif clock.current_time() != idle_since[1]:
            idle_since.clear()
        elif time.monotonic() - idle_since[0] < DEADLOCK_AFTER:
            time.sleep(0.001)  # a thread may be working for a task
        else:
            idle_since.clear()
            _fail_main_task()

    def _fail_main_task() -> None:
        # As trio delivers a KeyboardInterrupt: the main task's wait fails.
        main: Any = GLOBAL_RUN_CONTEXT.runner.main_task
        if main is None or main._abort_func is None:
            return
        tasks = [main]
        for task in tasks:
            tasks += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
        error = DeadlockError((task.name, suspended(task.coro)) for task in tasks)

        def fail() -> Any:
            raise error

        main._attempt_abort(fail)

    clock.start_clock = start
    clock._autojump = autojump
    return clock


def virtual(name: str) -> Backend:
    """Return "asyncio" or "trio" with virtual time, as anyio's fixture and `anyio.run` take it."""
    if name == "asyncio":
        return "asyncio", {"loop_factory": VirtualLoop}
    return "trio", {"clock": virtual_trio_clock()}
