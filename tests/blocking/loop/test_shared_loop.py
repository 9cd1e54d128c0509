"""The one loop of a process: its shares, its end, and what it still does until then."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator

import anyio
import pytest
import sniffio

from penstock import StreamClosedError
from penstock.blocking._loop import crossing, shared_loop
from penstock.blocking._loop.crossing import Crossing
from penstock.blocking._loop.shared_loop import SharedLoop, take_share
from penstock.testing.server import becomes_true
from tests.support.blocking import in_thread, interrupted_when

from ..conftest import own_threads


@pytest.fixture
def shared() -> Iterator[SharedLoop]:
    loop = take_share()
    yield loop
    if not loop.loop.is_closed():
        loop.stop(wait=True)
    shared_loop._current = None


async def thread_name() -> str:
    return threading.current_thread().name


def test_every_share_is_of_the_same_loop_until_the_last_is_given(shared: SharedLoop) -> None:
    assert [take_share() for _ in range(3)] == [shared] * 3
    for _ in range(3):
        shared.give_share(wait=True)
        assert not shared.loop.is_closed()
        assert own_threads() == ["penstock"]
    shared.give_share(wait=True)
    assert shared.loop.is_closed()
    assert own_threads() == []
    another = take_share()
    assert another is not shared
    another.give_share(wait=True)


def test_shares_of_many_threads(shared: SharedLoop) -> None:
    barrier = threading.Barrier(8)
    found: list[SharedLoop] = []

    def use() -> None:
        barrier.wait()
        for _ in range(50):
            found.append(take_share())
            found[-1].give_share(wait=False)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert set(found) == {shared}
    assert shared.shares == 1


def test_one_that_ends_is_not_handed_out(shared: SharedLoop) -> None:
    # Between the last share's end and the loop's, a new share is of a new loop.
    shared.give_share(wait=False)
    other = take_share()
    assert other is not shared
    other.give_share(wait=True)
    assert becomes_true(shared.loop.is_closed, seconds=5)


@pytest.mark.parametrize("where", ["a thread", "the loop", "within the lock"])
def test_garbage_gives_its_share_from_anywhere(shared: SharedLoop, where: str) -> None:
    if where == "a thread":
        threading.Thread(target=shared.give_share_of_garbage).start()
    elif where == "the loop":
        shared.loop.call_soon_threadsafe(shared.give_share_of_garbage)
    else:
        with shared_loop._lock:
            shared.give_share_of_garbage()
            time.sleep(0.01)
            assert not shared.loop.is_closed()
    assert becomes_true(shared.loop.is_closed, seconds=5)
    shared.give_share_of_garbage()  # of a loop that is closed: nothing


def test_garbage_of_another_process_gives_nothing(shared: SharedLoop) -> None:
    shared.pid += 1
    shared.give_share_of_garbage()
    assert Crossing(shared, thread_name, ()).run() == "penstock"
    assert shared.shares == 1


# --- the end ---


def test_what_was_posted_is_done_before_the_end(shared: SharedLoop) -> None:
    done: list[str] = []

    async def close(name: str) -> None:
        await asyncio.sleep(0.02)
        done.append(name)

    for name in "ab":
        shared.post(lambda name=name: close(name))  # type: ignore[misc]
    gc.collect()  # a task that nobody holds could vanish
    shared.give_share(wait=True)
    assert done == ["a", "b"]
    shared.post(lambda: close("late"))
    assert done == ["a", "b"]


def test_the_end_is_not_held_up_for_ever(
    shared: SharedLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_loop, "END_SECONDS", 0.02)
    ended = threading.Event()

    async def hang() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    shared.post(hang)
    started = time.monotonic()
    shared.give_share(wait=True)
    assert ended.is_set()
    assert shared.loop.is_closed()
    assert time.monotonic() - started < shared_loop.JOIN_SECONDS


def test_async_generators_are_closed(shared: SharedLoop) -> None:
    closed: list[int] = []

    async def numbers() -> object:  # noqa: ASYNC900 - what is tested
        try:
            yield 1
        finally:
            closed.append(1)

    begun = numbers()

    async def begin() -> object:
        return await anext(begun)  # type: ignore[call-overload]

    assert Crossing(shared, begin, ()).run() == 1
    shared.give_share(wait=True)
    assert closed == [1]


def test_a_call_that_is_under_way_is_ended(shared: SharedLoop) -> None:
    begun = threading.Event()

    async def wait() -> None:
        begun.set()
        await asyncio.sleep(3600)

    with in_thread(Crossing(shared, wait, ()).run) as outcome:
        assert begun.wait(5)
        shared.stop(wait=True)
    assert isinstance(outcome[0], StreamClosedError)
    assert shared.pending == set()


class CleaningUp:
    """Waits until it is cancelled, and then has something to clean up."""

    def __init__(self, when_ending: Callable[[], object], seconds: float = 0.02) -> None:
        self.begun, self.cleaned = threading.Event(), threading.Event()
        self._when_ending = when_ending
        self._seconds = seconds

    async def __call__(self) -> None:
        self.begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            self._when_ending()
            # Against cancel scopes, which cancel again and again.
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(self._seconds)
            self.cleaned.set()


def test_a_call_that_cleans_up_does_so_to_its_end(shared: SharedLoop) -> None:
    waiting = CleaningUp(lambda: shared.stop(wait=False))
    call = Crossing(shared, waiting, ())
    with in_thread(call.run) as outcome:
        assert waiting.begun.wait(5)
        shared.loop.call_soon_threadsafe(call.cancel, "this is why")
    assert "this is why" in str(outcome[0])
    assert waiting.cleaned.is_set()


def test_the_end_is_not_broken_off_by_another(shared: SharedLoop) -> None:
    # As at the interpreter's exit, when a thread closes the last client at the same time.
    waiting = CleaningUp(lambda: shared.stop(wait=False))
    with in_thread(Crossing(shared, waiting, ()).run) as outcome:
        assert waiting.begun.wait(5)
        shared.stop(wait=True)
    assert isinstance(outcome[0], StreamClosedError)
    assert waiting.cleaned.is_set()


def test_a_task_group_of_a_call_cleans_up_to_its_end(shared: SharedLoop) -> None:
    waiting = CleaningUp(lambda: shared.stop(wait=False))

    async def call() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(waiting)
            while not waiting.begun.is_set():  # noqa: ASYNC110 - of threads
                await asyncio.sleep(0)
            group.cancel_scope.cancel()

    with in_thread(Crossing(shared, call, ()).run):
        assert waiting.begun.wait(5)
    assert waiting.cleaned.is_set()


def test_a_clean_up_that_does_not_end_is_broken_off(
    shared: SharedLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_loop, "END_SECONDS", 0.02)
    waiting = CleaningUp(lambda: None, seconds=3600)
    started = time.monotonic()
    with in_thread(Crossing(shared, waiting, ()).run) as outcome:
        assert waiting.begun.wait(5)
        shared.stop(wait=True)
    assert isinstance(outcome[0], StreamClosedError)
    assert not waiting.cleaned.is_set()
    assert time.monotonic() - started < shared_loop.JOIN_SECONDS
    assert shared.loop.is_closed()


def test_the_loop_can_end_itself(shared: SharedLoop) -> None:
    # Who waits for its own thread would wait for ever.
    shared.loop.call_soon_threadsafe(lambda: shared.give_share(wait=True))
    assert becomes_true(shared.loop.is_closed, seconds=5)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_it_goes_on_after_an_exit_of_one_task(
    shared: SharedLoop, error: type[BaseException]
) -> None:
    async def leave() -> None:
        raise error

    def start() -> None:
        tasks.append(shared.loop.create_task(leave()))

    tasks: list[asyncio.Task[None]] = []
    shared.loop.call_soon_threadsafe(start)
    assert becomes_true(lambda: bool(tasks) and tasks[0].done(), seconds=5)
    assert isinstance(tasks[0].exception(), error)
    assert Crossing(shared, thread_name, ()).run() == "penstock"


# --- without a thread, as at the interpreter's exit on Python 3.12 ---


def no_thread(*_: object) -> None:
    raise RuntimeError("can't create new thread at interpreter shutdown")


@pytest.fixture
def threadless(monkeypatch: pytest.MonkeyPatch) -> Iterator[SharedLoop]:
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        patch.setattr(threading.Thread, "is_alive", lambda _: False)
        loop = take_share()
    yield loop
    loop.stop(wait=True)
    assert loop.loop.is_closed()
    shared_loop._current = None


def test_calls_run_in_the_thread_that_waits(threadless: SharedLoop) -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    for _ in range(2):
        assert Crossing(threadless, thread_name, ()).run() == "MainThread"
        with pytest.raises(ZeroDivisionError):
            Crossing(threadless, fail, ()).run()


def test_ctrl_c_without_a_thread(threadless: SharedLoop) -> None:
    waiting = CleaningUp(lambda: None)
    with interrupted_when(waiting.begun.is_set), pytest.raises(KeyboardInterrupt):
        Crossing(threadless, waiting, ()).run()
    assert waiting.cleaned.is_set()
    assert Crossing(threadless, thread_name, ()).run() == "MainThread"


def test_a_clean_up_without_a_thread_is_not_waited_for_for_ever(
    threadless: SharedLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crossing, "GRACE", 0.02)
    monkeypatch.setattr(shared_loop, "END_SECONDS", 0.02)
    waiting = CleaningUp(lambda: None, seconds=3600)
    with interrupted_when(waiting.begun.is_set), pytest.raises(KeyboardInterrupt):
        Crossing(threadless, waiting, ()).run()


def test_without_a_thread_the_last_share_ends_the_loop(threadless: SharedLoop) -> None:
    done: list[int] = []

    async def close() -> None:
        await asyncio.sleep(0.01)
        done.append(1)

    threadless.post(close)
    threadless.give_share(wait=True)
    assert done == [1]
    with pytest.raises(StreamClosedError):
        Crossing(threadless, thread_name, ()).run()


def test_without_a_thread_garbage_ends_the_loop_in_the_next_call(threadless: SharedLoop) -> None:
    threadless.give_share_of_garbage()
    assert not threadless.loop.is_closed()
    with pytest.raises(StreamClosedError):
        Crossing(threadless, thread_name, ()).run()
    assert threadless.loop.is_closed()


def test_too_many_threads_are_another_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[asyncio.AbstractEventLoop] = []
    new = asyncio.new_event_loop

    def new_event_loop() -> asyncio.AbstractEventLoop:
        made.append(new())
        return made[-1]

    monkeypatch.setattr(asyncio, "new_event_loop", new_event_loop)
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    with pytest.raises(RuntimeError, match="create new thread"):
        take_share()
    assert made[0].is_closed()


# --- its thread ---


def test_its_thread_does_not_keep_the_interpreter(shared: SharedLoop) -> None:
    (thread,) = [each for each in threading.enumerate() if each.name == "penstock"]
    assert thread.daemon


def test_libraries_there_know_which_loop_it_is(shared: SharedLoop) -> None:
    async def library() -> str:
        return sniffio.current_async_library()

    # Whatever the context of the calling thread says.
    token = sniffio.current_async_library_cvar.set("trio")
    try:
        assert Crossing(shared, library, ()).run() == "asyncio"
    finally:
        sniffio.current_async_library_cvar.reset(token)


def test_what_a_forked_child_has(shared: SharedLoop) -> None:
    in_child: Callable[[], None] = shared_loop._in_child
    lock = shared_loop._lock
    with lock:  # another thread of the parent may hold it at that moment
        in_child()
    assert shared_loop._lock is not lock
    assert shared_loop._current is None
