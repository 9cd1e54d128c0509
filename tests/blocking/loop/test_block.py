"""An async context manager entered and left by a thread: one task, one end, nothing left over."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup

from penstock import StreamClosedError
from penstock.blocking._loop import shared_loop
from penstock.blocking._loop.block import Block
from penstock.blocking._loop.loop_thread import LoopThread
from penstock.testing.server import becomes_true
from tests.support.blocking import in_thread, interrupted_when, interrupting_ends_of_waits

from ..conftest import own_threads


class Manager:
    """Records what is done with it, and may hang or fail at either end."""

    def __init__(self, *, hang: str = "", fail: BaseException | None = None) -> None:
        self.tasks: list[asyncio.Task[Any] | None] = []
        self.left_with: list[object] = []
        self.hangs = threading.Event()
        self._hang = hang
        self._fail = fail

    async def _happens(self, where: str) -> None:
        self.tasks.append(asyncio.current_task())
        await asyncio.sleep(0)
        if self._hang == where:
            self.hangs.set()
            await asyncio.sleep(3600)

    async def __aenter__(self) -> str:
        await self._happens("enter")
        if self._fail is not None and self._hang == "":
            raise self._fail
        return "value"

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        assert kind is (None if error is None else type(error))
        self.left_with.append(error)
        await self._happens("leave")  # noqa: ASYNC102 - as a manager of anybody's
        if self._fail is not None:
            raise self._fail
        return True


def test_it_is_entered_and_left_in_one_task() -> None:
    manager = Manager()
    block = Block(LoopThread(), manager)
    assert block.enter() == "value"
    assert own_threads() == ["penstock"]
    error = ValueError("of the body")
    block.leave(error)
    assert manager.left_with == [error]
    # Task groups and cancel scopes want it so.
    assert len(set(manager.tasks)) == 1
    assert None not in manager.tasks
    assert own_threads() == []


def test_a_task_group_lives_in_it() -> None:
    done: list[int] = []

    async def work() -> None:
        await anyio.sleep(0.01)
        done.append(1)

    @asynccontextmanager
    async def tasks() -> AsyncIterator[TaskGroup]:
        async with anyio.create_task_group() as group:
            yield group

    loop = LoopThread()
    block = Block(loop, tasks())
    group = block.enter()

    async def start() -> None:
        group.start_soon(work)

    loop.run(start)
    block.leave(None)
    assert done == [1]


def test_it_is_left_once() -> None:
    manager = Manager()
    block = Block(LoopThread(), manager)
    block.leave(None)  # it was not entered: nothing
    block.enter()
    for _ in range(3):
        block.leave(None)
    assert manager.left_with == [None]


def test_it_is_entered_once() -> None:
    manager = Manager()
    block = Block(LoopThread(), manager)
    block.enter()
    with pytest.raises(RuntimeError, match="entered once"):
        block.enter()
    block.leave(None)
    with pytest.raises(RuntimeError, match="entered once"):
        block.enter()
    assert len(manager.left_with) == 1


@pytest.mark.parametrize("error", [OSError("no"), SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_one_that_cannot_be_entered(error: BaseException) -> None:
    loop = LoopThread()
    block = Block(loop, Manager(fail=error))
    with pytest.raises(type(error)) as caught:
        block.enter()
    assert caught.value is error
    # Its share in the loop has gone with it.
    assert not loop.is_running
    assert own_threads() == []


@pytest.mark.parametrize("error", [OSError("no"), SystemExit(3)], ids=repr)
def test_one_that_cannot_be_left(error: BaseException) -> None:
    class Leaving(Manager):
        async def __aenter__(self) -> str:
            return "value"

    block = Block(LoopThread(), Leaving(fail=error))
    block.enter()
    with pytest.raises(type(error)) as caught:
        block.leave(None)
    assert caught.value is error
    block.leave(None)
    assert own_threads() == []


@pytest.mark.parametrize("where", ["enter", "leave"])
def test_interrupted_it_is_over(where: str) -> None:
    manager = Manager(hang=where)
    block = Block(LoopThread(), manager)
    if where == "leave":
        block.enter()
    with interrupted_when(manager.hangs.is_set), pytest.raises(KeyboardInterrupt):
        block.enter() if where == "enter" else block.leave(None)
    assert all(task is not None and task.done() for task in manager.tasks)
    block.leave(None)
    assert own_threads() == []


def test_interrupted_when_it_has_just_been_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = Manager()
    other = LoopThread()
    other.start()
    block = Block(LoopThread(), manager)
    with interrupting_ends_of_waits(monkeypatch), pytest.raises(KeyboardInterrupt):
        block.enter()
    # The loop goes on, for the other share.
    assert [type(error) for error in manager.left_with] == [asyncio.CancelledError]
    assert all(task is not None and task.done() for task in manager.tasks)
    block.leave(None)
    other.close()


def test_the_clients_of_its_calls_are_started_before() -> None:
    # A client that is used within for the first time would otherwise take its share too late.
    clients = [LoopThread(), LoopThread()]
    block = Block(LoopThread(), Manager(), clients)
    assert not any(client.is_running for client in clients)
    block.enter()
    assert all(client.is_running for client in clients)
    block.leave(None)
    assert all(client.is_running for client in clients)
    for client in clients:
        client.close()


def test_a_client_that_is_closed_is_told_before_anything_is_entered() -> None:
    closed = LoopThread()
    closed.close()
    manager = Manager()
    block = Block(LoopThread(), manager, [closed])
    with pytest.raises(StreamClosedError):
        block.enter()
    assert manager.tasks == []


def test_its_loop_ends_while_it_is_entered() -> None:
    manager = Manager(hang="enter")
    loop = LoopThread()
    block = Block(loop, manager)
    with in_thread(block.enter) as outcome:
        assert manager.hangs.wait(5)
        loop.close()
    assert isinstance(outcome[0], StreamClosedError)
    block.leave(None)


@pytest.mark.parametrize("where", ["enter", "leave"])
def test_its_clean_up_is_not_broken_off_when_the_loop_ends(where: str) -> None:
    cleaned = threading.Event()

    class Cleaning(Manager):
        async def _happens(self, here: str) -> None:
            try:
                await super()._happens(here)
            finally:
                if here == where:
                    # The block is being interrupted, and now its loop is to end as well.
                    shared.stop(wait=False)
                    await asyncio.sleep(0.01)  # noqa: ASYNC102 - what is tested
                    cleaned.set()

    loop = LoopThread()
    shared = loop.start()
    manager = Cleaning(hang=where)
    block = Block(loop, manager)

    def use() -> None:
        block.enter()
        block.leave(None)

    with in_thread(use) as outcome:
        assert manager.hangs.wait(5)
        (call,) = shared.pending
        shared_loop._current = None
        shared.loop.call_soon_threadsafe(call.cancel, "interrupted")
    assert cleaned.is_set()
    # One that is being left is left.
    assert outcome == [None] if where == "leave" else "interrupted" in str(outcome[0])
    loop.close()


def test_a_forgotten_one_warns_and_is_left() -> None:
    manager = Manager()
    holder = [Block(LoopThread(), manager)]
    holder[0].enter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        holder.clear()
        gc.collect()
    assert [each.category for each in caught] == [ResourceWarning]
    assert "a Manager was entered and never left" in str(caught[0].message)
    assert becomes_true(lambda: manager.left_with == [None], seconds=5)
    assert becomes_true(lambda: not own_threads(), seconds=5)


@pytest.mark.parametrize("state", ["new", "left", "failed"])
def test_others_go_without_a_word(state: str) -> None:
    block = Block(LoopThread(), Manager(fail=OSError("no") if state == "failed" else None))
    if state == "left":
        block.enter()
        block.leave(None)
    elif state == "failed":
        with pytest.raises(OSError, match="no"):
            block.enter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del block
        gc.collect()
