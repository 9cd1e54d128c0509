"""The loop that blocking clients share: whom it runs for, how long, and what ends with it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.to_thread
import pytest
import sniffio

from penstock import StreamClosedError
from penstock.blocking._loop.loop_thread import LoopThread
from penstock.testing.server import becomes_true
from tests.support.blocking import in_thread, interrupted_when

from ..conftest import own_threads


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    thread = LoopThread()
    yield thread
    thread.close()


async def name_of_thread() -> str:
    return threading.current_thread().name


class Waiting:
    """A coroutine that waits for ever, and says what became of it."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.ended = threading.Event()

    async def __call__(self) -> None:
        self.begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            self.ended.set()


def test_nothing_is_started_before_the_first_call(loop: LoopThread) -> None:
    assert own_threads() == []
    running = [loop.is_running]
    assert loop.run(name_of_thread) == "penstock"
    running.append(loop.is_running)
    assert running == [False, True]
    assert own_threads() == ["penstock"]


def test_results_arguments_and_errors_come_back(loop: LoopThread) -> None:
    async def divide(a: int, b: int) -> float:
        await asyncio.sleep(0)
        return a / b

    assert loop.run(divide, 6, 3) == 2
    with pytest.raises(ZeroDivisionError):
        loop.run(divide, 1, 0)


def test_all_shares_have_one_loop_which_ends_with_the_last(loop: LoopThread) -> None:
    other = LoopThread()

    async def running() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    first = loop.run(running)
    assert other.run(running) is first
    loop.close()
    assert not loop.is_running
    assert other.run(running) is first
    other.close()
    assert first.is_closed()
    assert own_threads() == []
    third = LoopThread()
    assert third.run(running) is not first
    third.close()


def test_closing_is_idempotent_and_final(loop: LoopThread) -> None:
    loop.run(name_of_thread)
    for _ in range(3):
        loop.close()
    with pytest.raises(StreamClosedError):
        loop.run(name_of_thread)
    unused = LoopThread()
    unused.close()
    with pytest.raises(StreamClosedError):
        unused.run(name_of_thread)


def test_closing_ends_calls_that_are_under_way(loop: LoopThread) -> None:
    waiting = Waiting()
    with in_thread(lambda: loop.run(waiting)) as outcome:
        assert waiting.begun.wait(5)
        loop.close()
        assert waiting.ended.is_set()
    assert isinstance(outcome[0], StreamClosedError)
    assert "closed while it was in use" in str(outcome[0])


def test_what_closes_something_runs_until_the_end(loop: LoopThread) -> None:
    done: list[str] = []

    async def closing() -> None:
        await asyncio.sleep(0.01)
        done.append("closed")

    loop.finish(closing)
    assert done == []  # there was nothing to close
    loop.run(name_of_thread)
    loop.post(closing)
    loop.close(closing)
    assert done == ["closed", "closed"]
    loop.finish(closing)
    loop.post(closing)
    assert len(done) == 2


def test_calls_of_many_threads_run_at_once(loop: LoopThread) -> None:
    async def meet(barrier: list[asyncio.Event]) -> None:
        # All of them have to be there for any of them to go on.
        if not barrier:
            barrier.append(asyncio.Event())
        arrived.append(1)
        if len(arrived) == 16:
            barrier[0].set()
        await barrier[0].wait()

    arrived: list[int] = []
    barrier: list[asyncio.Event] = []
    with ThreadPoolExecutor(16) as pool:
        for call in [pool.submit(loop.run, meet, barrier) for _ in range(16)]:
            call.result(10)


def test_closing_amid_calls_of_many_threads_never_hangs() -> None:
    for _ in range(30):
        loop = LoopThread()

        def call(loop: LoopThread = loop) -> int:
            count = 0
            try:
                while True:
                    loop.run(name_of_thread)
                    count += 1
            except StreamClosedError:
                return count

        with ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(call) for _ in range(4)]
            while not loop.is_running:
                pass
            loop.close()
            assert all(call.result(10) >= 0 for call in calls)


# --- interruptions ---


def test_an_interrupted_call_is_over_when_the_exception_goes_on(loop: LoopThread) -> None:
    waiting = Waiting()
    with interrupted_when(waiting.begun.is_set), pytest.raises(KeyboardInterrupt):
        loop.run(waiting)
    assert waiting.ended.is_set()
    assert loop.run(name_of_thread) == "penstock"


def test_a_call_that_does_not_end_does_not_hold_an_interrupted_thread(
    loop: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.blocking._loop.crossing.GRACE", 0.02)
    begun, go_on = threading.Event(), threading.Event()

    async def stubborn() -> None:
        begun.set()
        while not go_on.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:  # noqa: ASYNC103 - what is tested
                pass

    with interrupted_when(begun.is_set), pytest.raises(KeyboardInterrupt):
        loop.run(stubborn)
    go_on.set()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_an_error_that_would_end_the_loop_is_the_callers_alone(
    loop: LoopThread, error: type[BaseException]
) -> None:
    async def fail() -> None:
        raise error

    kind = RuntimeError if error is asyncio.CancelledError else error
    with pytest.raises(kind):
        loop.run(fail)

    async def fail_in_a_task() -> None:
        await asyncio.create_task(fail())

    with pytest.raises(kind):
        loop.run(fail_in_a_task)
    assert loop.run(name_of_thread) == "penstock"


def test_an_error_leaves_no_cycle(loop: LoopThread) -> None:
    class Marked(Exception):
        pass

    async def fail() -> None:
        raise Marked

    def call() -> None:
        try:
            loop.run(fail)
        except Marked:
            pass

    call()
    gc.collect()
    gc.disable()
    try:
        call()
        assert becomes_true(
            lambda: not any(isinstance(each, Marked) for each in gc.get_objects()), seconds=1
        )
    finally:
        gc.enable()


# --- the wrong places ---


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("started", [False, True])
def test_inside_an_event_loop_it_works(loop: LoopThread, backend: str, started: bool) -> None:
    if started:
        loop.run(name_of_thread)
    names: list[str] = []

    async def name_it() -> None:
        names.append(f"{await name_of_thread()}, {sniffio.current_async_library()}")
        # A timer of the right loop, whatever context the call was made in.
        await anyio.sleep(0.001)

    async def main() -> None:
        loop.run(name_it)
        loop.finish(name_it)
        loop.close(name_it)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        anyio.run(main, backend=backend)
        gc.collect()
    assert names == 3 * ["penstock, asyncio"]
    assert own_threads() == []


def test_a_call_inside_an_event_loop_can_be_interrupted(loop: LoopThread) -> None:
    waiting = Waiting()

    async def main() -> None:
        with interrupted_when(waiting.begun.is_set), pytest.raises(KeyboardInterrupt):
            loop.run(waiting)

    # Without the handler of `asyncio.run`, which would cancel the task in place of the call.
    with contextlib.closing(asyncio.new_event_loop()) as own:
        own.run_until_complete(main())
    assert waiting.ended.is_set()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("bare", [False, True])
def test_from_a_worker_thread_of_an_event_loop_it_works(
    loop: LoopThread, backend: str, bare: bool
) -> None:
    async def on_the_loop() -> str:
        await anyio.sleep(0)  # noqa: ASYNC115 - what is tested
        with anyio.move_on_after(5):
            await anyio.lowlevel.checkpoint()
        return await name_of_thread()

    async def main() -> str:
        if not bare:
            return await anyio.to_thread.run_sync(loop.run, on_the_loop)
        # A thread made by hand, with the context of the task: it says which loop runs there.
        context, names = contextvars.copy_context(), list[str]()
        thread = threading.Thread(target=lambda: names.append(context.run(loop.run, on_the_loop)))
        thread.start()
        while thread.is_alive():  # noqa: ASYNC110 - of another thread
            await anyio.sleep(0.001)
        return names[0]

    assert anyio.run(main, backend=backend) == "penstock"


@pytest.mark.parametrize("how", ["run", "finish", "close"])
@pytest.mark.parametrize("share", ["the same", "another"])
def test_on_the_loop_itself_it_is_an_error(loop: LoopThread, share: str, how: str) -> None:
    other = loop if share == "the same" else LoopThread()
    if how != "run":
        other.run(name_of_thread)

    async def nested() -> None:
        getattr(other, how)(name_of_thread)

    with pytest.raises(RuntimeError, match=r"never return: use penstock\.AsyncClient there"):
        loop.run(nested)
    # Nothing was broken by it.
    assert other.run(name_of_thread) == "penstock"
    other.close()


# --- garbage ---


def forget(make: Callable[[], Any]) -> None:
    make()
    gc.collect()


def test_the_loop_ends_with_its_last_owner() -> None:
    def use() -> None:
        LoopThread().run(name_of_thread)

    forget(use)
    assert becomes_true(lambda: not own_threads(), seconds=5)


def test_collected_on_the_loop_itself_it_ends_as_well() -> None:
    holder = [LoopThread()]

    async def drop() -> None:
        holder.clear()

    holder[0].run(drop)
    assert becomes_true(lambda: not own_threads(), seconds=5)


# --- worker threads ---


def test_functions_run_in_worker_threads(loop: LoopThread) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="")

    def work(number: int, *, factor: int) -> tuple[str, str, int]:
        return threading.current_thread().name, variable.get(), number * factor

    async def ask() -> tuple[str, str, int]:
        variable.set("of the task")
        return await loop.workers.run(work, 3, factor=2)

    assert loop.run(ask) == ("penstock worker", "of the task", 6)
    for _ in range(10):
        loop.run(ask)
    assert own_threads().count("penstock worker") == 1
    loop.close()
    assert becomes_true(lambda: not own_threads(), seconds=5)


@pytest.mark.parametrize("error", [ValueError("no"), StopIteration(), SystemExit(3)])
def test_what_a_function_raises_comes_out(loop: LoopThread, error: BaseException) -> None:
    def work() -> None:
        raise error

    async def ask() -> None:
        await loop.workers.run(work)

    kind = RuntimeError if isinstance(error, StopIteration) else type(error)
    with pytest.raises(kind):
        loop.run(ask)
    assert loop.run(name_of_thread) == "penstock"


def test_a_function_left_behind_may_make_no_more_calls(loop: LoopThread) -> None:
    waiting = Waiting()
    caught: list[BaseException] = []
    over = threading.Event()

    def work() -> None:
        for call in (waiting, name_of_thread):
            try:
                loop.run(call)
            except StreamClosedError as error:
                caught.append(error)
        over.set()

    async def ask() -> None:
        with anyio.move_on_after(5) as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(loop.workers.run, work)
                while not waiting.begun.is_set():  # noqa: ASYNC110 - of another thread
                    await anyio.sleep(0.001)
                scope.cancel()
        # Not when the thread comes round: the call is over now.
        assert waiting.ended.is_set()

    loop.run(ask)
    assert over.wait(5)
    assert ["block" in str(error) for error in caught] == [True, True]


def test_the_worker_threads_end_when_their_functions_return(loop: LoopThread) -> None:
    go_on = threading.Event()
    begun = threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(10)

    def ask() -> None:
        async def asked() -> None:
            await loop.workers.run(work)

        loop.run(asked)

    with in_thread(ask) as outcome:
        assert begun.wait(5)
        loop.close()
        assert becomes_true(lambda: outcome, seconds=5)
        assert own_threads() == ["penstock worker"]
        go_on.set()
    assert isinstance(outcome[0], StreamClosedError)
