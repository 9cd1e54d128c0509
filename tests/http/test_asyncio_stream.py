from __future__ import annotations

import asyncio
import functools
import gc
import math
import random
import socket
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import ReadTimeout, Timeouts, TotalTimeout
from penstock._http.asyncio_stream import FEW, HIGH_WATER, AsyncioStream, connect_tcp
from penstock._http.network import READ_SIZE, ClosedLocally, ConnectionFailed, Upload
from penstock._policy.deadlines import Deadlines
from penstock.testing.clock import Backend
from penstock.testing.plugin import REAL_BACKENDS
from penstock.testing.sweep import BackendName, open_fds

from .deadlines import NoDeadline, OutOfTime, Within
from .sockets import (
    at_the_door,
    connected,
    listening,
    raw_socket,
    run,
    run_virtual,
    saw_the_end,
    turns,
    until,
)
from .stream_contract import StreamContract, sweep_a_connection
from .wait_contract import WaitContract

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=REAL_BACKENDS[:2])
def anyio_backend(request: pytest.FixtureRequest) -> Backend:
    backend: Backend = request.param
    return backend


class TestAsyncioStream(StreamContract):
    pass


class TestWaits(WaitContract):
    pass


@pytest.mark.parametrize("backend", ["asyncio", "uvloop"])
def test_a_sweep_of_cancellations_leaves_no_socket(backend: BackendName) -> None:
    sweep_a_connection(backend)


async def test_much_is_read_at_once_only_while_somebody_waits() -> None:
    data = random.Random(3).randbytes(20 * READ_SIZE)
    async with connected() as (stream, peer):
        peer.settimeout(None)
        thread = threading.Thread(target=peer.sendall, args=(data,))
        thread.start()
        got = await stream.receive(NoDeadline())
        sizes = [len(got)]
        while len(got) < len(data):
            idle = sizes[-1] >= FEW and len(sizes) % 3 == 0
            if idle:
                await turns(20)
            piece = await stream.receive(NoDeadline())
            assert not idle or len(piece) <= HIGH_WATER + FEW
            got += piece
            sizes.append(len(piece))
        thread.join(5)
        assert got == data
        # uvloop reads on at once.
        assert READ_SIZE <= max(sizes) <= READ_SIZE + HIGH_WATER + FEW


# --- native cancellation ---


@pytest.mark.parametrize("cancelled_after", range(5))
@pytest.mark.parametrize("sent_after", range(5))
async def test_a_natively_cancelled_receive_loses_nothing(
    cancelled_after: int, sent_after: int
) -> None:
    async with connected() as (stream, peer):
        got = b""

        async def read() -> None:
            nonlocal got
            while True:
                got += await stream.receive(NoDeadline())

        task = asyncio.create_task(read())
        for turn in range(5):
            if turn == sent_after:
                peer.sendall(b"12345")
            if turn == cancelled_after:
                task.cancel()
            await turns(1)
        with pytest.raises(asyncio.CancelledError):
            await task
        while len(got) < 5:
            got += await stream.receive(NoDeadline())
        assert got == b"12345"


@pytest.mark.parametrize("order", ["data first", "cancelled first"])
async def test_data_and_a_native_cancellation_in_the_same_tick(order: str) -> None:
    async with connected() as (stream, _):
        assert isinstance(stream, AsyncioStream)
        task = asyncio.create_task(stream.receive(NoDeadline()))
        await turns(2)
        steps: list[Callable[[], object]] = [
            lambda: stream.data_received(b"12345"),
            task.cancel,
        ]
        for step in steps if order == "data first" else reversed(steps):
            step()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await stream.receive(NoDeadline()) == b"12345"


async def test_a_deadline_and_a_native_cancellation_in_the_same_tick() -> None:
    async with connected() as (stream, peer):
        assert isinstance(stream, AsyncioStream)
        deadline = Within(1000)
        task = asyncio.create_task(stream.receive(deadline))
        await turns(2)
        stream._on_timer()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not deadline.waiting
        peer.sendall(b"x")
        assert await stream.receive(NoDeadline()) == b"x"


async def test_seeded_native_cancellations_lose_nothing() -> None:
    dice = random.Random(7)
    data = bytes(dice.randrange(256) for _ in range(3000))
    async with connected() as (stream, peer):
        got = bytearray()
        sent = 0
        while len(got) < len(data):

            async def read() -> None:
                got.extend(await stream.receive(Within(1000)))

            task = asyncio.create_task(read())
            for _ in range(dice.randrange(4)):
                if dice.random() < 0.5 and sent < len(data):
                    size = dice.randrange(1, 20)
                    peer.sendall(data[sent : sent + size])
                    sent += size
                await turns(dice.randrange(3))
            task.cancel()
            await asyncio.wait([task])
        assert got == data


# --- a transport of our own, and virtual time ---


class Transport(asyncio.Transport):
    """Records what a stream asks of it; `blocked` makes every write one too much."""

    def __init__(self, stream: AsyncioStream) -> None:
        super().__init__()
        self.stream = stream
        self.reading = True
        self.blocked = False
        self.closing = False
        self.written = b""
        self.buffered = 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)
        if self.blocked:
            self.buffered += len(data)
            self.stream.pause_writing()

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.closing = True
        asyncio.get_running_loop().call_soon(self.stream.connection_lost, None)


def made() -> tuple[AsyncioStream, Transport]:
    stream = AsyncioStream(asyncio.get_running_loop())
    transport = Transport(stream)
    stream.connection_made(transport)
    return stream, transport


ticks = st.integers(0, 20)
sizes = st.sampled_from([1, 10, 1000, HIGH_WATER - 1, HIGH_WATER, HIGH_WATER + 1])


@given(
    st.lists(st.tuples(ticks, sizes), max_size=8),
    st.lists(st.tuples(ticks, st.none() | ticks, st.none() | ticks), max_size=12),
)
def test_any_arrivals_against_any_deadlines(
    arrivals: list[tuple[int, int]], reads: list[tuple[int, int | None, int | None]]
) -> None:
    """Reads of random deadlines and cancellations get all that came, each at its time."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        stream, transport = made()
        came: list[tuple[float, int]] = []
        at = 0.0
        for wait, size in arrivals:
            at += wait

            def arrive(at: float = at, size: int = size) -> None:
                if transport.reading:
                    came.append((at, size))
                    stream.data_received(bytes(size))
                else:  # what a real transport leaves in the kernel
                    loop.call_later(0.5, arrive, at, size)

            loop.call_at(at, arrive)
        got = 0
        for pause, seconds, patience in reads:
            await asyncio.sleep(pause)
            began = loop.time()
            waiting = sum(size for _, size in came) - got
            assert (waiting > HIGH_WATER) == (not transport.reading)
            deadline: NoDeadline = NoDeadline() if seconds is None else Within(seconds)
            try:
                async with asyncio.timeout(30 if patience is None else patience):
                    got += len(await stream.receive(deadline))
            except OutOfTime:
                assert seconds is not None
                assert loop.time() == began + seconds
                # Nothing had come before the deadline.
                in_time = sum(size for when, size in came if when < loop.time()) - got
                assert not in_time or seconds == 0
            except TimeoutError:
                assert loop.time() == began + (30 if patience is None else patience)
            else:
                assert transport.reading
                if waiting:
                    assert loop.time() == began
            assert not deadline.waiting
        await asyncio.sleep(1000)
        assert transport.reading == (sum(size for _, size in came) - got <= HIGH_WATER)
        while got < sum(size for _, size in arrivals):
            got += len(await stream.receive(NoDeadline()))
            await asyncio.sleep(1)
        assert got == sum(size for _, size in came)
        stream.close()

    run_virtual("asyncio", main)


def test_one_timer_serves_many_reads() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        stream, _ = made()
        armed: list[float] = []
        call_at = loop.call_at

        def counting(when: float, callback: Any, *args: Any, **more: Any) -> asyncio.TimerHandle:
            if callback == stream._on_timer:
                armed.append(when)
            return call_at(when, callback, *args, **more)

        loop.call_at = counting  # type: ignore[method-assign,assignment]
        for number in range(50):
            call_at(number + 0.5, stream.data_received, b"x")
        for _ in range(50):
            assert await stream.receive(Within(10)) == b"x"
        # 50 reads in 50 seconds with a deadline of 10 s each: it is looked at about each 10 s.
        assert 4 <= len(armed) <= 7
        # A shorter one is armed at once, a longer one later does not fire early.
        for seconds in (1.0, 0.0, 30.0, 2.0, 8.0):
            began = loop.time()
            with pytest.raises(OutOfTime):
                await stream.receive(Within(seconds))
            assert loop.time() == began + seconds
        # Nobody waits: the timer fires, and is not armed again.
        call_at(loop.time() + 1, stream.data_received, b"x")
        assert await stream.receive(Within(5)) == b"x"
        count = len(armed)
        await asyncio.sleep(100)
        assert len(armed) == count
        # A wait without a deadline, while the timer of an earlier one is still armed.
        call_at(loop.time() + 1, stream.data_received, b"x")
        assert await stream.receive(Within(5)) == b"x"
        call_at(loop.time() + 100, stream.data_received, b"x")
        assert await stream.receive(NoDeadline()) == b"x"
        stream.close()

    run_virtual("asyncio", main)


def test_the_deadline_of_a_write_is_exact() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        stream, transport = made()
        transport.blocked = True
        with pytest.raises(OutOfTime):
            await stream.send(b"a", Within(7))
        assert loop.time() == 7
        stream.resume_writing()
        # Room comes in time, is used up again, and comes once more.
        loop.call_later(3, stream.resume_writing)
        deadline = Within(5)
        await stream.send(b"b", deadline)
        assert loop.time() == 10
        assert transport.written == b"ab"
        assert len(deadline.waits) == 1
        stream.close()

    run_virtual("asyncio", main)


@pytest.mark.parametrize("how", ["send", "upload"])
def test_a_slow_write_is_not_silence(how: str) -> None:
    """Silence counts from the last byte that the network took."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        stream, transport = made()
        transport.blocked = True

        def take() -> None:
            transport.buffered -= 1
            if not transport.buffered:
                stream.resume_writing()

        for n in range(1, 11):
            loop.call_later(2 * n, take)
        deadline = Deadlines(Timeouts(read=3), total_at=math.inf, streaming=False)
        if how == "send":
            await stream.send(bytes(10), deadline)
        else:
            assert await stream.upload(Upload(bytes(10)), deadline)
        assert loop.time() == 20
        loop.call_later(2, take)
        transport.buffered = 0
        with pytest.raises(ReadTimeout):
            await stream.send(bytes(10), deadline)
        # The timer that saw progress gave three seconds more.
        assert 25 <= loop.time() <= 26
        stream.close()

    run_virtual("asyncio", main)


def test_a_slow_write_does_not_put_off_the_total_limit() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        stream, transport = made()
        transport.blocked = True

        def take() -> None:
            transport.buffered -= 1
            loop.call_later(0.5, take)

        take()
        deadline = Deadlines(Timeouts(read=3, total=7), total_at=7, streaming=False)
        with pytest.raises(TotalTimeout):
            await stream.upload(Upload(bytes(1000)), deadline)
        assert loop.time() == 7
        stream.close()
        transport.buffered = 10**9

    run_virtual("asyncio", main)


@pytest.mark.parametrize("what", ["lost", "failed", "ended"])
def test_a_write_does_not_wait_for_a_peer_that_has_gone(what: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        stream, transport = made()
        transport.blocked = True
        if what == "ended":
            loop.call_later(3, stream.eof_received)
            loop.call_later(3, stream.connection_lost, None)
        elif what == "failed":
            loop.call_later(3, stream.connection_lost, OSError("no route"))
        else:
            loop.call_later(3, stream.connection_lost, None)
        await stream.send(b"a", Within(100))
        assert loop.time() == 3
        for _ in range(2):
            if what == "failed":
                with pytest.raises(ConnectionFailed, match="no route"):
                    await stream.receive(Within(1))
                with pytest.raises(ConnectionFailed, match="no route"):
                    await stream.send(b"b", Within(1))
            else:
                assert await stream.receive(Within(1)) == b""
                with pytest.raises(ConnectionFailed, match="the server closed the connection"):
                    await stream.send(b"b", Within(1))
        assert loop.time() == 3
        assert not stream.is_clean()

    run_virtual("asyncio", main)


def test_an_error_without_words() -> None:
    async def main() -> None:
        stream, _ = made()
        stream.connection_lost(OSError())
        with pytest.raises(ConnectionFailed) as caught:
            await stream.receive(NoDeadline())
        assert str(caught.value) == "the connection failed"

    run_virtual("asyncio", main)


def test_bytes_taken_while_a_reader_yields_are_no_end() -> None:
    async def main() -> None:
        stream, _ = made()
        stream.data_received(b"first")
        task = asyncio.create_task(stream.receive(NoDeadline()))
        await asyncio.sleep(0)
        assert stream.receive_nowait() == b"first"
        asyncio.get_running_loop().call_later(5, stream.data_received, b"second")
        assert await task == b"second"
        stream.close()

    run_virtual("asyncio", main)


def test_without_a_socket_nothing_is_clean() -> None:
    async def main() -> None:
        stream, transport = made()
        assert not stream.is_clean()
        transport.closing = True
        assert not stream.is_clean()
        stream.close()

    run_virtual("asyncio", main)


def test_after_close_no_timer_is_left() -> None:
    async def main() -> None:
        stream, _ = made()
        with pytest.raises(OutOfTime):
            await stream.receive(Within(1))
        asyncio.get_running_loop().call_later(1, stream.data_received, b"x")
        await stream.receive(Within(100))
        stream.close()
        await stream.aclose(None)
        timers: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
        assert not [timer for timer in timers if not timer.cancelled()]

    run_virtual("asyncio", main)


# --- other loops, other threads, garbage ---


async def connect_to(listener: socket.socket) -> AsyncioStream:
    return await connect_tcp("127.0.0.1", listener.getsockname()[1], socket.AF_INET)


def test_a_stream_of_another_event_loop(anyio_backend: Backend) -> None:
    async def elsewhere() -> None:
        assert not stream.is_clean()
        assert stream._transport is not None
        await stream.aclose(1.0)  # does not wait for a loop that is not running

    _, options = anyio_backend
    before = open_fds()
    if options["use_uvloop"]:
        import uvloop

        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    else:
        loop = asyncio.new_event_loop()
    with listening() as listener:
        stream = loop.run_until_complete(connect_to(listener))
        with listener.accept()[0] as peer:
            peer.settimeout(5)
            run(anyio_backend, elsewhere)
            assert saw_the_end(peer)
            loop.run_until_complete(stream.aclose(1.0))
        loop.close()
    assert open_fds() == before


@pytest.mark.parametrize("where", ["here", "thread"])
def test_close_after_the_event_loop_is_closed(anyio_backend: Backend, where: str) -> None:
    with listening() as listener:

        async def main() -> AsyncioStream:
            stream = await connect_to(listener)
            with pytest.raises(OutOfTime):
                await stream.receive(Within(0.001))
            task = asyncio.create_task(stream.receive(Within(1000)))
            await turns(2)
            task.cancel()
            await asyncio.wait([task])
            return stream

        before = open_fds()
        with warnings.catch_warnings():
            # uvloop has a warning of its own when it ends before a transport.
            warnings.simplefilter("ignore", ResourceWarning)
            stream: AsyncioStream | None = run(anyio_backend, main)
        assert stream is not None
        with listener.accept()[0] as peer:
            peer.settimeout(5)
            if where == "here":
                stream.close()
            else:
                thread = threading.Thread(target=stream.close)
                thread.start()
                thread.join()
            assert saw_the_end(peer)
            assert open_fds() == before + 1
            with pytest.raises(ClosedLocally):
                run(anyio_backend, functools.partial(stream.receive, NoDeadline()))
        # It has no warning left for the garbage collector.
        stream = None
        gc.collect()


async def test_close_from_the_garbage_collector() -> None:
    class Owner:
        def __init__(self, stream: AsyncioStream) -> None:
            self.stream = stream
            self.me = self

        def __del__(self) -> None:
            self.stream.close()

    before = open_fds()
    with listening() as listener:
        owner = Owner(await connect_to(listener))
        with listener.accept()[0] as peer:
            peer.settimeout(5)
            del owner
            collector = threading.Thread(target=gc.collect)
            collector.start()
            collector.join()
            assert saw_the_end(peer)
        await until(lambda: open_fds() == before + 1)
    assert open_fds() == before


async def test_a_timer_is_not_touched_from_another_thread() -> None:
    # An event loop's timers are no business of another thread's (uvloop's least of all).
    async with connected() as (stream, peer):
        assert isinstance(stream, AsyncioStream)
        task = asyncio.create_task(stream.receive(Within(1000)))
        await turns(2)
        task.cancel()
        await asyncio.wait([task])
        timer = stream._timer
        assert timer is not None
        thread = threading.Thread(target=stream.close)
        thread.start()
        thread.join()
        assert not timer.cancelled()
        assert saw_the_end(peer)
        await until(timer.cancelled)


async def test_a_cancelled_aclose_has_closed() -> None:
    async with connected() as (stream, peer):
        before = open_fds()
        task = asyncio.create_task(stream.aclose(None))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert saw_the_end(peer)
        await until(lambda: open_fds() == before - 1)


async def test_what_waits_is_read_before_the_failure_of_a_paused_stream() -> None:
    async with connected() as (stream, peer):
        assert isinstance(stream, AsyncioStream)
        data = bytes(range(256)) * 2000
        received = bytearray()
        sender = threading.Thread(target=peer.sendall, args=(data,))
        sender.start()
        await until(lambda: stream._paused)
        assert not stream.is_clean()
        while len(received) < len(data):
            received += await stream.receive(NoDeadline())
        sender.join()
        assert received == data
        await at_the_door_is_empty(stream)
        assert stream.is_clean()
        assert math.isinf(stream._timer_at)


async def at_the_door_is_empty(stream: AsyncioStream) -> None:
    await turns(2)
    with pytest.raises(AssertionError):
        await at_the_door(stream)
    assert raw_socket(stream).fileno() >= 0
