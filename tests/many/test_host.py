"""A task of its own for a block."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import anyio
import anyio.lowlevel
import pytest

from penstock._many.host import Host
from penstock.testing.plugin import virtual_backend as anyio_backend

from ..invariants.alive import in_a_task, tasks

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

where: ContextVar[str] = ContextVar("where", default="outside")


class Seen:
    """What a hosted function does, and what came of it."""

    def __init__(self, *, seconds: float = 1000, error: BaseException | None = None) -> None:
        self.seconds = seconds
        self.error = error
        self.where = ""
        self.deadline = 0.0
        self.ended_at: float | None = None
        self.told = 0

    async def __call__(self) -> None:
        self.where = where.get()
        self.deadline = anyio.current_effective_deadline()
        try:
            await anyio.sleep(self.seconds)
            if self.error is not None:
                raise self.error
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(2)
            self.ended_at = anyio.current_time()

    def on_end(self) -> None:
        self.told += 1


async def test_it_has_the_callers_variables_and_none_of_its_scopes() -> None:
    alive = tasks()
    seen = Seen(seconds=10)
    host = Host(seen, seen.on_end)
    where.set("inside")
    with anyio.move_on_after(3):
        host.start()
        await anyio.sleep_forever()
    assert not host.ended
    await anyio.sleep(20)
    assert (seen.where, seen.deadline, seen.ended_at) == ("inside", float("inf"), 12)
    assert (host.ended, host.broken_off, host.ending, seen.told) == (True, False, False, 1)
    await host.end()
    assert tasks() == alive


@pytest.mark.parametrize("from_another_task", [True, False])
async def test_ended_by_any_task_it_is_waited_for(from_another_task: bool) -> None:
    seen = Seen()
    host = Host(seen, seen.on_end)
    host.start()
    await anyio.sleep(1)
    await (in_a_task(host.end) if from_another_task else host.end())
    assert seen.ended_at == anyio.current_time() == pytest.approx(3)
    assert (host.ended, host.broken_off, host.ending, seen.told) == (True, True, True, 1)
    assert host.error is None


async def test_ended_before_it_began() -> None:
    seen = Seen()
    host = Host(seen, seen.on_end)
    host.start()
    await host.end()
    assert (host.ended, host.broken_off, seen.told) == (True, True, 1)


async def test_a_cancelled_scope_does_not_break_off_the_wait_for_its_end() -> None:
    seen = Seen()
    host = Host(seen, seen.on_end)
    host.start()
    await anyio.sleep(1)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await host.end()
        assert host.ended
    assert not scope.cancelled_caught


async def test_asyncios_own_cancellation_is_raised_after_its_end(anyio_backend_name: str) -> None:
    if anyio_backend_name != "asyncio":
        return
    seen = Seen()
    host = Host(seen, seen.on_end)
    host.start()
    await anyio.sleep(1)
    task = asyncio.create_task(host.end())
    for _ in range(2):
        await anyio.sleep(0.5)
        task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert seen.ended_at == anyio.current_time() == pytest.approx(3)


class Stop(BaseException):
    pass


@pytest.mark.parametrize("error", [LookupError(), Stop(), BaseExceptionGroup("", [Stop()])])
async def test_what_it_raises_is_kept(error: BaseException) -> None:
    seen = Seen(seconds=1, error=error)
    host = Host(seen, seen.on_end)
    host.start()
    await anyio.sleep(5)
    assert host.ended
    assert type(host.error) is (Stop if isinstance(error, BaseExceptionGroup) else type(error))
    await host.end()


async def test_the_loop_goes_on_when_it_is_cancelled_natively(anyio_backend_name: str) -> None:
    if anyio_backend_name != "asyncio":
        return
    alive = asyncio.all_tasks()
    seen = Seen()
    host = Host(seen, seen.on_end)
    host.start()
    await anyio.sleep(1)
    (task,) = asyncio.all_tasks() - alive
    task.cancel()
    await asyncio.wait([task])
    assert (host.ended, host.broken_off, host.error, seen.told) == (True, True, None, 1)
    await host.end()
