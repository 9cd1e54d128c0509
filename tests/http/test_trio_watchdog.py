"""Deadlines of reads under trio: exact without a scope for each, and nothing is left of them."""

from __future__ import annotations

import os
import queue
import socket
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from penstock._http.trio_stream import TrioStream
from penstock.testing import no_leaks
from penstock.testing.clock import DeadlockError

from .deadlines import NoDeadline, OutOfTime, Within
from .sockets import run_virtual

TASK = "deadlines of penstock"


@contextmanager
def pair() -> Generator[tuple[TrioStream, socket.socket]]:
    """A stream, and the other end of its socket."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stream = TrioStream(ours)
    with theirs:
        try:
            yield stream, theirs
        finally:
            stream.close()


def tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def until_tasks(count: int) -> None:
    with trio.fail_after(5):
        while tasks() != count:  # noqa: ASYNC110 - of tasks that end
            await trio.lowlevel.checkpoint()


moments = st.integers(0, 12).map(lambda number: number / 4)


@given(st.lists(st.tuples(moments, moments, moments), max_size=8))
def test_each_read_ends_with_its_bytes_or_at_its_deadline(
    reads: list[tuple[float, float, float]],
) -> None:
    async def main() -> None:
        with trio.fail_after(1000):
            async with trio.open_nursery() as nursery:
                for each in reads:
                    nursery.start_soon(read, *each)

    async def read(begins: float, within: float, sent_after: float) -> None:
        with pair() as (stream, peer):
            await trio.sleep(begins)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send, peer, sent_after)
                began = trio.current_time()
                try:
                    data = await stream.receive(Within(within))
                except OutOfTime:
                    assert trio.current_time() == began + within
                    assert within <= sent_after
                else:
                    assert data == b"x"
                    assert trio.current_time() == began + sent_after
                    assert sent_after <= within

    async def send(peer: socket.socket, after: float) -> None:
        await trio.sleep(after)
        peer.send(b"x")

    run_virtual("trio", main)


def test_one_task_watches_over_all_and_ends_with_the_last_connection() -> None:
    async def main() -> None:
        before = tasks()
        for _ in range(2):  # it begins again
            with pair() as (one, _), pair() as (other, _):
                with trio.move_on_after(1):
                    await one.receive(NoDeadline())
                assert tasks() == before
                for stream in (one, other, one):
                    with pytest.raises(OutOfTime):
                        await stream.receive(Within(1))
                assert tasks() == before + 1
                one.close()
                await trio.sleep(1)
                assert tasks() == before + 1
            await until_tasks(before)

    run_virtual("trio", main)


def test_a_connection_that_follows_at_once_is_watched_over() -> None:
    async def main() -> None:
        for turns in range(5):
            with pair() as (stream, _), pytest.raises(OutOfTime):
                await stream.receive(Within(1))
            for _ in range(turns):
                await trio.lowlevel.checkpoint()
            with pair() as (stream, _):
                began = trio.current_time()
                with pytest.raises(OutOfTime):
                    await stream.receive(Within(2))
                assert trio.current_time() == began + 2

    run_virtual("trio", main)


def test_a_stream_between_two_reads_is_not_kept() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            stream = TrioStream(ours)
            theirs.send(b"x")
            assert await stream.receive(Within(1000)) == b"x"
            gone = weakref.ref(stream)
            del stream
            assert gone() is None
        ours.close()

    run_virtual("trio", main)


def test_a_cancellation_of_the_same_moment_goes_first() -> None:
    async def main() -> None:
        for _ in range(20):  # trio runs tasks of one moment in any order
            with pair() as (stream, _), trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(cancel, scope)
                    await stream.receive(Within(1))
            assert scope.cancelled_caught

    async def cancel(scope: trio.CancelScope) -> None:
        await trio.sleep(1)
        scope.cancel()

    run_virtual("trio", main)


def test_it_is_no_leak() -> None:
    async def main() -> None:
        with pair() as (stream, peer):
            async with no_leaks():
                peer.send(b"x")
                await stream.receive(Within(1000))
            assert trio.current_time() == 0

    run_virtual("trio", main)


def test_it_does_not_hide_a_deadlock() -> None:
    async def main() -> None:
        with pair() as (stream, peer):
            peer.send(b"x")
            await stream.receive(Within(1000))
            await trio.sleep_forever()

    with pytest.raises(DeadlockError) as caught:
        run_virtual("trio", main)
    assert "in main" in str(caught.value)
    assert TASK not in str(caught.value)


# --- the end of a run ---


@pytest.mark.parametrize("begins", [0.5, 1.5])
def test_a_read_under_a_shield_outlives_the_main_task(begins: float) -> None:
    """Every system task is cancelled at the time of 1, the watchdog as well."""
    ended: list[float] = []

    async def main() -> None:
        trio.lowlevel.spawn_system_task(read)
        await trio.sleep(1)

    async def read() -> None:
        with trio.CancelScope(shield=True), pair() as (stream, _):
            await trio.sleep(begins)
            with pytest.raises(OutOfTime):
                await stream.receive(Within(2))
            ended.append(trio.current_time())

    run_virtual("trio", main)
    assert ended == [begins + 2]


def test_a_generator_that_trio_closes_at_the_very_end() -> None:
    ended: list[float] = []
    kept: list[AsyncGenerator[None, None]] = []

    async def main() -> None:
        kept.append(generator())
        await anext(kept[0])
        await trio.sleep(1)

    async def generator() -> AsyncGenerator[None, None]:  # noqa: ASYNC900 - left open on purpose
        try:
            yield
        finally:
            with trio.CancelScope(shield=True), pair() as (stream, _):
                with pytest.raises(OutOfTime):
                    await stream.receive(Within(2))
                ended.append(trio.current_time())

    run_virtual("trio", main)
    assert ended == [3]


# --- several runs, and other ones ---


async def read_too_late() -> None:
    with pair() as (stream, peer):
        peer.send(b"x")
        assert await stream.receive(Within(1000)) == b"x"
        began = trio.current_time()
        with pytest.raises(OutOfTime):
            await stream.receive(Within(0.02))
        assert trio.current_time() >= began + 0.02


def test_runs_after_and_beside_each_other() -> None:
    def run_twice() -> None:
        for _ in range(2):
            trio.run(read_too_late)
        done.append(None)

    done: list[None] = []
    threads = [threading.Thread(target=run_twice) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(done) == 4


def run_as_guest(function: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it by another event loop, as simple as can be."""
    calls: queue.Queue[Callable[[], object]] = queue.Queue()
    outcomes: list[Any] = []
    trio.lowlevel.start_guest_run(
        function, run_sync_soon_threadsafe=calls.put, done_callback=outcomes.append
    )
    while not outcomes:
        calls.get(timeout=10)()
    outcomes[0].unwrap()


def test_guest_mode() -> None:
    run_as_guest(read_too_late)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_run_in_a_forked_process() -> None:
    async def main() -> None:
        with pair() as (stream, peer):
            with pytest.raises(OutOfTime):
                await stream.receive(Within(0.01))
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    worker = threading.Thread(target=trio.run, args=(in_the_child,))
                    worker.start()
                    worker.join(10)
                    code = 0 if done else 2
                finally:
                    os._exit(code)
            assert os.waitpid(child, 0)[1] == 0
            with pytest.raises(OutOfTime):
                await stream.receive(Within(0.01))
            peer.send(b"x")
            assert await stream.receive(Within(1000)) == b"x"

    async def in_the_child() -> None:
        await read_too_late()
        done.append(None)

    done: list[None] = []
    trio.run(main)
