"""One call from a waiting thread to a loop and back, on a loop of the test's own."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from penstock import StreamClosedError
from penstock.blocking._loop.crossing import CallGroup, Crossing, current_group
from penstock.testing.server import becomes_true
from tests.support.blocking import in_thread, interrupted_when


class Loop:
    """A shore: a loop in a thread, which ends what is pending as it ends itself."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
        self.stopping = False
        self.exiting = False
        self.threadless = False
        self.pending: set[Crossing[Any]] = set()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def run_here(self, call: Crossing[Any], seconds: float | None = None) -> None:
        raise AssertionError("it has a thread")

    def end(self) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
            self.loop.close()


@pytest.fixture
def shore() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    assert loop.pending == set()
    loop.end()


class Waiting:
    """Waits until it is cancelled, and takes a moment to end then."""

    def __init__(self, when_ending: Callable[[], object] = lambda: None) -> None:
        self.when_ending = when_ending
        self.begun = threading.Event()
        self.ended = threading.Event()

    async def __call__(self) -> None:
        self.begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            self.when_ending()
            await asyncio.sleep(0.005)  # noqa: ASYNC102 - what is tested
            self.ended.set()


async def add(a: int, b: int) -> int:
    return a + b


def test_the_outcome_comes_back(shore: Loop) -> None:
    assert Crossing(shore, add, (1, 2)).run() == 3

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError("here")

    with pytest.raises(ZeroDivisionError, match="here") as caught:
        Crossing(shore, fail, ()).run()
    # Where it was raised is in its traceback, as if there were no threads.
    assert "fail" in [entry.name for entry in caught.traceback]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_whatever_is_raised_is_for_the_waiting_thread_alone(
    shore: Loop, error: type[BaseException]
) -> None:
    async def fail() -> None:
        raise error

    with pytest.raises(error):
        Crossing(shore, fail, ()).run()
    assert Crossing(shore, add, (1, 2)).run() == 3


def test_a_cancellation_that_nobody_asked_for_is_an_error_of_the_call(shore: Loop) -> None:
    async def fail() -> None:
        raise asyncio.CancelledError

    with pytest.raises(RuntimeError, match="nobody had asked for"):
        Crossing(shore, fail, ()).run()


def test_cancelled_from_elsewhere_it_says_why(shore: Loop) -> None:
    waiting = Waiting()
    call = Crossing(shore, waiting, ())
    with in_thread(call.run) as outcome:
        assert waiting.begun.wait(5)
        shore.loop.call_soon_threadsafe(call.cancel, "this is why")
        # The first reason stays.
        shore.loop.call_soon_threadsafe(call.cancel, "and not this")
    assert isinstance(outcome[0], StreamClosedError)
    assert "this is why" in str(outcome[0])
    assert waiting.ended.is_set()


def test_cancelled_twice_it_is_cleaned_up_undisturbed(shore: Loop) -> None:
    waiting = Waiting()
    call = Crossing(shore, waiting, ())
    tasks: list[object] = []
    waiting.when_ending = lambda: tasks.append(call.cancel("again"))
    with in_thread(call.run) as outcome:
        assert waiting.begun.wait(5)
        shore.loop.call_soon_threadsafe(call.cancel, "this is why")
    assert "this is why" in str(outcome[0])
    assert waiting.ended.is_set()
    # Who cancels it again has its task to wait for as well.
    assert tasks == [call._task]


@pytest.mark.parametrize("begun", [False, True])
def test_cancelled_before_its_first_step_it_ends_as_well(shore: Loop, begun: bool) -> None:
    class Late(Crossing[None]):
        """Its cancellation comes in the turn of the loop in which it starts."""

        def _start(self) -> None:
            if not begun:
                self.cancel("too late")
            super()._start()
            self.cancel("too late")

    stepped: list[int] = []

    async def step() -> None:
        stepped.append(1)

    with pytest.raises(StreamClosedError, match="too late"):
        Late(shore, step, ()).run()
    assert stepped == []


def test_a_call_for_a_loop_that_is_stopping_is_not_begun(shore: Loop) -> None:
    shore.stopping = True
    with pytest.raises(StreamClosedError, match="closed while it was in use"):
        Crossing(shore, add, (1, 2)).run()


def test_a_call_for_a_closed_loop_is_refused(shore: Loop) -> None:
    shore.end()
    with pytest.raises(StreamClosedError, match="the client is closed"):
        Crossing(shore, add, (1, 2)).run()


def test_what_a_loop_leaves_behind_is_lost(shore: Loop) -> None:
    waiting = Waiting()
    call = Crossing(shore, waiting, ())
    with in_thread(call.run) as outcome:
        assert waiting.begun.wait(5)
        shore.stopping = True
        assert shore.pending == {call}
        shore.loop.call_soon_threadsafe(call.lost)
        shore.loop.call_soon_threadsafe(call.lost)  # and not twice
    assert isinstance(outcome[0], StreamClosedError)
    call.cancel("its task is still there")
    shore.stopping = False
    task = call._task
    assert task is not None
    shore.loop.call_soon_threadsafe(task.cancel)
    assert waiting.ended.wait(5)


def test_an_interrupted_wait_waits_for_the_end_of_the_call(shore: Loop) -> None:
    waiting = Waiting()
    with interrupted_when(waiting.begun.is_set), pytest.raises(KeyboardInterrupt):
        Crossing(shore, waiting, ()).run()
    assert waiting.ended.is_set()


def test_nothing_keeps_the_result_or_the_error(shore: Loop) -> None:
    class Value:
        pass

    class Failure(Exception):
        pass

    async def give() -> Value:
        return Value()

    async def fail() -> None:
        raise Failure

    gc.disable()
    try:
        value = weakref.ref(Crossing(shore, give, ()).run())
        try:
            Crossing(shore, fail, ()).run()
        except Failure as failure:
            error = weakref.ref(failure)
        # Its task goes away in the next turn of the loop.
        assert becomes_true(lambda: value() is None and error() is None, seconds=5)
    finally:
        gc.enable()


# --- groups ---


def end(shore: Loop, group: CallGroup) -> None:
    asyncio.run_coroutine_threadsafe(group.end(), shore.loop).result(5)


def test_a_group_ends_its_calls_and_no_others(shore: Loop) -> None:
    group, mine, others = CallGroup(), Waiting(), Waiting()
    theirs = Crossing(shore, others, ())
    with in_thread(theirs.run):
        with in_thread(lambda: group.run(Crossing(shore, mine, ()))) as outcome:
            assert mine.begun.wait(5)
            assert others.begun.wait(5)
            end(shore, group)
            # Over, with its connection closed, when the end has come.
            assert mine.ended.is_set()
        assert isinstance(outcome[0], StreamClosedError)
        assert "has been left" in str(outcome[0])
        assert not others.ended.is_set()
        shore.loop.call_soon_threadsafe(theirs.cancel, "done")


def test_a_group_may_end_while_a_call_of_it_is_being_interrupted(shore: Loop) -> None:
    group, waiting = CallGroup(), Waiting()
    call = Crossing(shore, waiting, ())
    ends: list[asyncio.Task[None]] = []
    waiting.when_ending = lambda: ends.append(shore.loop.create_task(group.end()))
    with in_thread(lambda: group.run(call)) as outcome:
        assert waiting.begun.wait(5)
        shore.loop.call_soon_threadsafe(call.cancel, "interrupted")
    assert "interrupted" in str(outcome[0])
    assert waiting.ended.is_set()
    assert becomes_true(ends[0].done)
    assert ends[0].exception() is None


def test_a_group_that_has_ended_refuses_further_calls(shore: Loop) -> None:
    group = CallGroup()
    assert group.run(Crossing(shore, add, (1, 2))) == 3
    for _ in range(2):
        end(shore, group)
        with pytest.raises(StreamClosedError, match="has been left"):
            group.run(Crossing(shore, add, (1, 2)))


def test_a_group_waits_for_its_calls_also_when_it_is_cancelled(shore: Loop) -> None:
    group, waiting = CallGroup(), Waiting()

    async def cancelled() -> bool:
        task = asyncio.ensure_future(group.end())
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(task), 0.0001)
        await task
        return waiting.ended.is_set()

    with in_thread(lambda: group.run(Crossing(shore, waiting, ()))):
        assert waiting.begun.wait(5)
        assert asyncio.run_coroutine_threadsafe(cancelled(), shore.loop).result(5)


def test_a_thread_has_no_group_unless_it_is_given_one() -> None:
    assert current_group.get() is None
