"""Virtual time does not sleep, is exact, and says so when nothing can happen any more."""

from __future__ import annotations

import asyncio
import time
import warnings

import anyio
import anyio.to_thread
import pytest

from penstock.testing import clock
from penstock.testing.clock import DeadlockError, virtual

pytestmark = pytest.mark.anyio


async def test_the_default_backends_run_in_real_time() -> None:
    before = anyio.current_time()
    await anyio.sleep(0.01)
    assert anyio.current_time() >= before + 0.009


@pytest.fixture(params=["asyncio", "trio"])
def name(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


def test_a_day_takes_no_time(name: str) -> None:
    async def main() -> float:
        for _ in range(3):
            await anyio.sleep(86400.1)  # noqa: ASYNC116
        with anyio.move_on_after(1e6):
            await anyio.sleep_forever()
        return anyio.current_time()

    start = time.monotonic()
    backend, options = virtual(name)
    for _ in range(2):  # the same options twice: a fresh clock each time
        assert anyio.run(main, backend=backend, backend_options=options) == pytest.approx(1259200.3)
    assert time.monotonic() - start < 1


def test_the_loop_waits_for_its_threads_without_a_time_limit() -> None:
    async def main() -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        loop.run_in_executor(None, time.sleep, 0.1)  # as a thread is that others have forgotten
        return loop

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with asyncio.Runner(loop_factory=clock.VirtualLoop) as runner:
            loop = runner.run(main())
    assert loop.time() == 0


def test_timers_fire_in_order(name: str) -> None:
    async def main() -> list[float]:
        fired: list[float] = []

        async def sleeper(seconds: float) -> None:
            await anyio.sleep(seconds)
            fired.append(anyio.current_time())

        async with anyio.create_task_group() as group:
            for seconds in (5, 1, 3, 2, 0):
                group.start_soon(sleeper, seconds)
        return fired

    backend, options = virtual(name)
    assert anyio.run(main, backend=backend, backend_options=options) == [0, 1, 2, 3, 5]


def test_a_deadlock_is_an_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "DEADLOCK_AFTER", 0.05)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever, name="a sleeper")
            await anyio.Event().wait()  # here it waits

    backend, options = virtual(name)
    with pytest.raises((DeadlockError, ExceptionGroup)) as caught:
        anyio.run(main, backend=backend, backend_options=options)
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, DeadlockError)
    message = str(error)
    assert "Add a timeout to a wait" in message
    assert "# here it waits" in message
    assert "- a sleeper waits at" in message


def test_a_thread_is_waited_for(name: str) -> None:
    async def main() -> str:
        await anyio.to_thread.run_sync(time.sleep, 0.03)
        return "done"

    backend, options = virtual(name)
    assert anyio.run(main, backend=backend, backend_options=options) == "done"
