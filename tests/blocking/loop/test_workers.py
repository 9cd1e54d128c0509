"""Worker threads: as many as functions at once, and what a cancellation leaves of a function."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from penstock import StreamClosedError
from penstock.blocking._loop.crossing import current_group
from penstock.blocking._loop.loop_thread import LoopThread
from penstock.blocking._loop.workers import Workers
from penstock.testing.server import becomes_true

from ..conftest import own_threads


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers()
    yield made
    made.close()


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - of another thread
        await asyncio.sleep(0.001)


def divide(a: int, *, by: int) -> tuple[float, str]:
    return a / by, threading.current_thread().name


def test_results_arguments_and_errors_come_back(workers: Workers) -> None:
    async def main() -> None:
        assert await workers.run(divide, 6, by=3) == (2, "penstock worker")
        with pytest.raises(ZeroDivisionError):
            await workers.run(divide, 1, by=0)
        with pytest.raises(SystemExit):
            await workers.run(raising, SystemExit())

    asyncio.run(main())


def raising(error: BaseException) -> None:
    raise error


def test_a_stop_iteration_is_an_error_like_others(workers: Workers) -> None:
    async def main() -> None:
        # A future takes none, and a coroutine that lets one out raises RuntimeError.
        with pytest.raises(RuntimeError, match="StopIteration"):
            await workers.run(raising, StopIteration())
        assert (await workers.run(divide, 4, by=2))[0] == 2

    asyncio.run(main())


def test_one_thread_for_one_function_at_a_time(workers: Workers) -> None:
    async def main() -> None:
        names = {await workers.run(threading.get_ident) for _ in range(20)}
        assert len(names) == 1
        assert len(own_threads()) == 1

    asyncio.run(main())


@pytest.mark.parametrize("exiting", [False, True])
def test_a_thread_that_cannot_be_started(
    workers: Workers, exiting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[int] = []

    def fail(_: object) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", fail)
            if exiting:
                patch.setattr(threading.Thread, "is_alive", lambda _: False)
            why = "starts none while the interpreter exits" if exiting else "can't start"
            with pytest.raises(RuntimeError, match=why):
                await workers.run(called.append, 1)
        # Nothing of it is left over.
        assert called == []
        assert (await workers.run(divide, 6, by=3))[0] == 2
        assert len(own_threads()) == 1
        assert called == []

    asyncio.run(main())


@pytest.mark.parametrize("count", [2, 7, 40])
def test_as_many_threads_as_functions_run_at_once(workers: Workers, count: int) -> None:
    barrier = threading.Barrier(count)

    async def main() -> None:
        for _ in range(3):
            # None goes on before all have come.
            await asyncio.gather(*(workers.run(barrier.wait, 10) for _ in range(count)))
            assert len(own_threads()) == count

    asyncio.run(main())


def test_closing_ends_idle_threads_and_waits_for_none(workers: Workers) -> None:
    go_on = threading.Event()

    async def main() -> None:
        busy = asyncio.ensure_future(workers.run(go_on.wait, 10))
        await asyncio.sleep(0)
        await workers.run(divide, 1, by=1)
        assert len(own_threads()) == 2
        started = time.monotonic()
        for _ in range(2):
            workers.close()
        assert time.monotonic() - started < 1
        await until(lambda: len(own_threads()) == 1)
        with pytest.raises(StreamClosedError, match="the client is closed"):
            await workers.run(divide, 1, by=1)
        go_on.set()
        assert await busy is True

    asyncio.run(main())
    assert becomes_true(lambda: not own_threads(), seconds=5)


def test_the_context_of_the_task_goes_with_it_and_changes_do_not_come_back(
    workers: Workers,
) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="unset")

    def use() -> str:
        found = variable.get()
        variable.set("of the thread")
        return found

    async def main() -> None:
        variable.set("of the task")
        assert await workers.run(use) == "of the task"
        assert variable.get() == "of the task"
        assert await workers.run(use) == "of the task"

    asyncio.run(main())


def test_every_function_has_a_group_of_its_own(workers: Workers) -> None:
    async def main() -> None:
        groups = [await workers.run(current_group.get) for _ in range(3)]
        assert None not in groups
        assert len(set(map(id, groups))) == 3
        assert current_group.get() is None

    asyncio.run(main())


# --- cancelled ---


def test_a_cancelled_function_is_left_behind(workers: Workers) -> None:
    begun, go_on, over = threading.Event(), threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        go_on.wait(10)
        over.set()

    async def main() -> None:
        task = asyncio.ensure_future(workers.run(slow))
        await until(begun.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not over.is_set()
        # Its thread is busy still, so the next function gets another.
        assert (await workers.run(divide, 4, by=2))[0] == 2
        go_on.set()
        await until(over.is_set)
        # Now there are two that are idle.
        await asyncio.gather(*(workers.run(time.sleep, 0.01) for _ in range(2)))
        assert len(own_threads()) == 2

    asyncio.run(main())


def test_the_calls_that_a_cancelled_function_is_in_are_ended_first(workers: Workers) -> None:
    begun, ended = threading.Event(), threading.Event()
    outcomes: list[object] = []

    async def waiting() -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    def function(loop: LoopThread) -> None:
        for call in (waiting, waiting):
            try:
                loop.run(call)
            except StreamClosedError as error:
                outcomes.append(error)

    async def main(loop: LoopThread) -> None:
        task = asyncio.ensure_future(workers.run(function, loop))
        await until(begun.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set()
        await until(lambda: len(outcomes) == 2)

    loop = LoopThread()
    loop.run(main, loop)
    loop.close()
    assert all("has been left" in str(outcome) for outcome in outcomes)


def test_a_function_may_outlive_the_loop(workers: Workers) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        go_on.wait(10)

    async def leave() -> None:
        task = asyncio.ensure_future(workers.run(slow))
        await until(begun.is_set)
        task.cancel()

    asyncio.run(leave())
    go_on.set()
    workers.close()
    assert becomes_true(lambda: not own_threads(), seconds=5)


def test_it_can_be_closed_while_a_function_is_handed_over(workers: Workers) -> None:
    # By another thread, at the very moment: the new thread ends as well.
    put = workers._jobs.put

    class Jobs:
        get = staticmethod(workers._jobs.get)
        get_nowait = staticmethod(workers._jobs.get_nowait)

        @staticmethod
        def put(job: Any) -> None:
            put(job)
            if job is not None:
                workers.close()

    workers._jobs = Jobs()  # type: ignore[assignment]

    async def main() -> None:
        call: Awaitable[tuple[float, str]] = workers.run(divide, 4, by=2)
        assert (await call)[0] == 2

    asyncio.run(main())
    assert becomes_true(lambda: not own_threads(), seconds=5)
