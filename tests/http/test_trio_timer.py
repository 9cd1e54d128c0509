"""Timers for trio: in the right run and thread, in order, and nothing is left of them."""

from __future__ import annotations

import gc
import os
import threading
import weakref

import anyio
import pytest
import trio

from penstock._http.connections import Connections
from penstock._http.trio_timer import Timer
from penstock.testing.server import becomes_true

from .pipe import Pipe, PipeDialer


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "timers of penstock"]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> object:
    yield
    assert becomes_true(lambda: threads() == [])


def test_they_call_in_order_in_trios_own_thread() -> None:
    called: list[tuple[str, int]] = []

    async def main() -> None:
        def note(what: str) -> None:
            called.append((what, threading.get_ident()))
            if what == "last":
                over.set()

        over = trio.Event()
        tasks = trio.lowlevel.current_statistics().tasks_living
        Timer(0.2, lambda: note("last"))
        Timer(0.01, lambda: note("first"))
        never = Timer(0.05, lambda: note("never"))
        Timer(0.1, lambda: note("second"))
        assert trio.lowlevel.current_statistics().tasks_living == tasks
        assert len(threads()) == 1
        never.cancel()
        with trio.fail_after(10):
            await over.wait()

    trio.run(main)
    assert called == [(what, threading.get_ident()) for what in ("first", "second", "last")]


def test_the_thread_ends_when_the_last_one_is_cancelled() -> None:
    async def main() -> None:
        timers = [Timer(1000 * n, gc.collect) for n in (1, 2)]
        assert len(threads()) == 1
        for timer in timers:
            timer.cancel()

    trio.run(main)


def test_cancelled_when_it_is_due() -> None:
    called: list[str] = []

    async def main() -> None:
        timer = Timer(0, lambda: called.append("due"))
        # It asks trio for the call; trio's loop has not come to it yet.
        assert becomes_true(lambda: threads() == [])
        timer.cancel()
        await trio.sleep(0.01)

    trio.run(main)
    assert called == []


def test_a_run_that_is_over_is_not_called() -> None:
    called: list[str] = []
    made: list[Timer] = []

    async def main() -> None:
        made.append(Timer(0.05, lambda: called.append("late")))

    trio.run(main)
    assert becomes_true(lambda: threads() == [])
    assert called == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_timers_of_its_own() -> None:
    async def main() -> None:
        timer = Timer(1000, gc.collect)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                worker = threading.Thread(target=trio.run, args=(in_the_child,))
                worker.start()
                worker.join(10)
                code = 0 if called else 2
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        timer.cancel()

    async def in_the_child() -> None:
        over = trio.Event()
        Timer(0.01, over.set)
        await over.wait()
        called.append("in the child")

    called: list[str] = []
    trio.run(main)


def test_expired_connections_are_closed_while_nothing_happens() -> None:
    async def main() -> None:
        connections = Connections(PipeDialer(), keepalive=0.1)
        pipes = [Pipe(), Pipe()]
        for pipe in pipes:
            connections.release(pipe)
            await trio.sleep(0.05)
        with trio.fail_after(10):
            while not all(pipe.closed for pipe in pipes):  # noqa: ASYNC110 - of a timer
                await trio.sleep(0.01)
        assert connections._timer is None

    trio.run(main)


def test_a_forgotten_client_is_not_kept() -> None:
    async def main() -> None:
        connections = Connections(PipeDialer(), keepalive=0.1)
        connections.release(Pipe())
        gone = weakref.ref(connections)
        del connections
        gc.collect()
        assert gone() is None
        await anyio.sleep(0.2)

    trio.run(main)
