"""Taps under trio: what every stream keeps, and that one task reads for all of them."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from collections import Counter
from contextlib import nullcontext
from functools import partial
from itertools import accumulate, takewhile
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from penstock import IdleTimeout
from penstock._http import trio_arrivals, trio_stream, trio_watchdog
from penstock._http.network import ClosedLocally, Taken
from penstock.testing.sweep import cancel_sweep

from .deadlines import OutOfTime, Within
from .sockets import connected, raw_socket, run_virtual, turns, until
from .test_trio_watchdog import pair, tasks, until_tasks
from .wait_contract import Tapped, WaitContract, limits

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "trio"


class TestWaits(WaitContract):
    pass


async def in_arrivals(reader: Tapped, peer: socket.socket) -> None:
    """Begin a wait of a tap that needs no task, as it is from the second read on."""
    await until(lambda: reader.waiting)
    peer.sendall(b"0")
    await until(lambda: reader.taken)


gaps = st.integers(1, 12).map(lambda number: number / 4)
silences = gaps.map(lambda seconds: seconds + 0.125)  # never at the same moment as a byte


@given(st.lists(st.tuples(silences, st.lists(gaps, max_size=5)), max_size=6))
def test_each_wait_ends_by_its_silence(reads: list[tuple[float, list[float]]]) -> None:
    """Each gets a byte after each of these times, and ends by a silence."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for each in reads:
                nursery.start_soon(read, *each)

    async def read(silence: float, gaps: list[float]) -> None:
        with pair() as (stream, peer):
            reader = Tapped(stream, 1000, deadlines=limits(idle=silence))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send, peer, gaps)
                with pytest.raises(IdleTimeout):
                    await reader.read()
                ended = trio.current_time()
                nursery.cancel_scope.cancel()
        in_time = list(accumulate(takewhile(lambda gap: gap < silence, gaps)))
        assert reader.times == in_time
        assert ended == (in_time[-1] if in_time else 0) + silence

    async def send(peer: socket.socket, gaps: list[float]) -> None:
        for gap in gaps:
            await trio.sleep(gap)
            peer.send(b"x")

    run_virtual("trio", main)


async def test_one_task_reads_and_no_other_is_woken() -> None:
    stepped = Counter[str]()

    class Steps(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            stepped[task.name] += 1

    async def read() -> None:
        assert await reader.read() == b"the rest"

    async with connected() as (stream, peer), anyio.create_task_group() as group:
        reader = Tapped(stream, 21)
        group.start_soon(read, name="reader")
        await in_arrivals(reader, peer)
        steps = Steps()
        trio.lowlevel.add_instrument(steps)
        for number in range(2, 22):
            peer.sendall(b"x")
            await until(partial(reader.has_taken, number))
        trio.lowlevel.remove_instrument(steps)
        assert stepped["reader"] == 0
        peer.sendall(b"the rest")


async def test_an_error_of_a_tap_is_the_reads() -> None:
    class Failing(Tapped):
        def tap(self, data: bytes, now: float) -> Taken:
            if data == b"x":
                raise RecursionError
            return super().tap(data, now)

    async def send() -> None:
        await in_arrivals(reader, peer)
        peer.sendall(b"x")

    async with connected() as (stream, peer), anyio.create_task_group() as group:
        reader = Failing(stream, 2)
        group.start_soon(send)
        with pytest.raises(RecursionError):
            await reader.read()
        assert not reader.waiting


@pytest.mark.parametrize("why", ["another system", "no descriptor"])
async def test_without_epoll_the_task_gives_it_the_bytes(
    why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise OSError("too many open files")

    async with connected() as (stream, peer):
        if why == "another system":
            monkeypatch.delattr(select, "epoll")
        else:
            monkeypatch.setattr(select, "epoll", refuse)
        reader = Tapped(stream, 2, deadlines=limits(idle=0.05))
        async with anyio.create_task_group() as group:
            group.start_soon(in_arrivals, reader, peer)
            with pytest.raises(IdleTimeout):
                await reader.read()
        peer.sendall(b"xx")
        assert await reader.read() == b"xx"
        assert reader.taken == b"0"


def test_nothing_is_left_of_it() -> None:
    def files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def main() -> None:
        before, running = files(), tasks()
        for _ in range(2):
            with pair() as (stream, peer):
                peer.send(b"x")
                with trio.move_on_after(1) as scope:
                    await Tapped(stream, 1).read()
                assert scope.cancelled_caught
                assert tasks() == running + 1
            await until_tasks(running)
            assert files() == before

    run_virtual("trio", main)


@pytest.mark.parametrize("begins", [0.5, 1.5])
def test_a_read_under_a_shield_outlives_the_main_task(begins: float) -> None:
    """Every system task is cancelled at the time of 1, the one that reads as well."""
    got: list[object] = []

    async def main() -> None:
        trio.lowlevel.spawn_system_task(read)
        await trio.sleep(1)

    async def read() -> None:
        with trio.CancelScope(shield=True), pair() as (stream, peer):
            reader = Tapped(stream, 1, deadlines=limits(idle=2))
            await trio.sleep(begins)
            peer.send(b"0")
            with pytest.raises(IdleTimeout):
                await reader.read()
            got.append(trio.current_time())
            peer.send(b"x")
            got.append(await reader.read())

    run_virtual("trio", main)
    assert got == [begins + 2, b"x"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
async def test_a_forked_process_that_closes_its_copy_changes_nothing() -> None:
    async with connected() as (stream, peer), anyio.create_task_group() as group:
        reader = Tapped(stream, 2)
        got: list[bytes] = []

        async def read() -> None:
            got.append(await reader.read())

        group.start_soon(read)
        await in_arrivals(reader, peer)
        child = os.fork()
        if not child:  # nothing of pytest may run here
            try:
                stream.close()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        peer.sendall(b"x")
        await until(partial(reader.has_taken, 2))
        peer.sendall(b"y")
        await until(lambda: got)
        assert got == [b"y"]


async def test_a_descriptor_closed_here_and_held_elsewhere_is_not_read_for_another() -> None:
    """The kernel drops a socket from an epoll object when its last copy is closed."""

    async def read() -> None:
        with pytest.raises(ClosedLocally):
            await reader.read()

    async with connected() as (stream, peer), anyio.create_task_group() as group:
        reader = Tapped(stream, 1)
        group.start_soon(read)
        await in_arrivals(reader, peer)
        copy = os.dup(raw_socket(stream).fileno())
        try:
            await stream.aclose(0)
            async with connected() as (other, other_peer):
                peer.sendall(b"for nobody")
                another = Tapped(other, 1, deadlines=limits(idle=0.02))
                other_peer.sendall(b"0")
                with pytest.raises(IdleTimeout):
                    await another.read()
                assert another.taken == b"0"
        finally:
            os.close(copy)


def test_a_sweep_of_cancellations_leaves_nothing_open() -> None:
    def files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def body() -> None:
        async with connected() as (stream, peer), anyio.create_task_group() as group:
            reader, got = Tapped(stream, 3), b""
            group.start_soon(send, peer)
            while not got.endswith(b"the rest"):
                got += await reader.read()
            assert reader.taken + got == b"xxxxthe rest"
            with pytest.raises(OutOfTime):
                await stream.receive(Within(0.01))

    async def send(peer: socket.socket) -> None:
        for data in (b"x", b"x", b"x", b"x", b"the rest"):
            peer.send(data)
            await turns(1)

    def check(point: int, mode: str) -> None:
        assert files() == before

    before = files()
    points = cancel_sweep("trio", body, check=check, real=True)
    assert points["scope"] >= 3


@pytest.mark.parametrize("another", [False, True], ids=["alone", "beside another connection"])
def test_ctrl_c_at_any_line_leaves_later_reads_as_they_are(another: bool) -> None:
    """Also where it strikes while the task of all reads is started, or starts anew."""
    ours = {trio_stream.__file__, trio_arrivals.__file__, trio_watchdog.__file__}
    # Whoever opens and closes connections protects that: see `interrupts`.
    others = {"__init__", "watchdog", "connected", "disconnected"}
    others |= {"close", "_close_socket", "_running_token", "break_off"}
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        if frame.f_code.co_filename not in ours or frame.f_code.co_name in others:
            return None
        if event == "line":
            count += 1
            if count == strikes_at:
                signal.raise_signal(signal.SIGINT)
        return trace

    async def main() -> bool:
        with pair() if another else nullcontext():
            return await read_often()

    async def read_often() -> bool:
        nonlocal count
        count, interrupted = 0, False
        for use in (read, read_with_a_tap, read_with_a_tap, read):
            sys.settrace(trace)
            try:
                await use()
                await trio.lowlevel.checkpoint()
            except* KeyboardInterrupt:
                interrupted = True
            finally:
                sys.settrace(None)
        await read_with_a_tap()
        await read()
        return interrupted

    async def read() -> None:
        with pair() as (stream, _):
            began = trio.current_time()
            with pytest.raises(OutOfTime):
                await stream.receive(Within(1))
            assert trio.current_time() == began + 1

    async def read_with_a_tap() -> None:
        with pair() as (stream, peer):
            reader = Tapped(stream, 2)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send, peer)
                assert await reader.read() == b"y"
            assert reader.taken == b"xx"

    async def send(peer: socket.socket) -> None:
        for data in (b"x", b"x", b"y"):
            await trio.sleep(1)
            peer.send(data)

    strikes_at = 1
    while run_virtual("trio", main):
        strikes_at += 1
    assert strikes_at > 100
