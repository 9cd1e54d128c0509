"""Waits whose bytes a stream of asyncio gives to its reader where they arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import accumulate, takewhile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import IdleTimeout, ReadTimeout, TotalTimeout
from penstock._http.asyncio_stream import AsyncioStream
from penstock._http.network import Taken
from penstock._policy.deadlines import Deadlines
from penstock.testing.clock import Backend
from penstock.testing.plugin import REAL_BACKENDS

from .sockets import connected, run_virtual, turns
from .test_asyncio_stream import made
from .wait_contract import Tapped, limits

pytestmark = pytest.mark.anyio

TOKEN, OTHER = b"token", b"other"


@pytest.fixture(scope="module", params=REAL_BACKENDS[:2])
def anyio_backend(request: pytest.FixtureRequest) -> Backend:
    backend: Backend = request.param
    return backend


class Reader:
    """Reads a stream as a completion is read: each token is taken where it arrives."""

    def __init__(self, stream: AsyncioStream, deadlines: Deadlines) -> None:
        self.stream = stream
        self.deadlines = deadlines
        self.taken: list[bytes] = []

    def begin(self) -> asyncio.Future[None] | None:
        return self.stream.wait(self.deadlines, self.tap)

    def tap(self, data: bytes, now: float) -> Taken:
        if data.startswith(OTHER):
            return Taken.NOTHING
        self.taken.append(data)
        self.deadlines.token_taken(now)
        return Taken.ENDS

    async def next(self) -> None:
        """Return when something was taken. Raises as `receive` does."""
        waiter = self.begin()
        count = len(self.taken)
        if waiter is not None:
            try:
                await waiter
            finally:
                self.stream.stop_waiting(self.deadlines)
            if len(self.taken) > count:
                return
        data = await self.stream.receive(self.deadlines)
        self.deadlines.byte_arrived()
        self.deadlines.token_arrived()
        self.taken.append(data)


Reads = list[tuple[int, int | None]]


def outcomes(
    gaps: list[int],
    reads: Reads,
    limit: Callable[[], Deadlines],
    *,
    at_once: bool,
) -> list[object]:
    """Return what each read gave and when; None where it was cancelled."""
    log: list[object] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        stream, _ = made()
        at = 0.5
        for number, gap in enumerate(gaps):
            at += gap
            loop.call_at(
                at, stream.data_received, (OTHER if number % 3 == 1 else TOKEN) + b"%d" % number
            )
        deadlines = limit()
        reader = Reader(stream, deadlines) if at_once else None
        unread = 0

        async def read() -> bytes:
            if reader is None:
                data = await stream.receive(deadlines)
                deadlines.byte_arrived()
                deadlines.token_arrived()
                return data
            if len(reader.taken) == unread:
                await reader.next()
            return reader.taken[unread]

        for pause, patience in reads:
            await asyncio.sleep(pause)
            try:
                async with asyncio.timeout(None if patience is None else patience + 0.25):
                    log.append(await read())
                    unread += 1
            except (ReadTimeout, IdleTimeout, TotalTimeout) as error:
                log.append(str(error))
            except TimeoutError:
                log.append(None)
            log.append((loop.time(), round(deadlines.waited, 6)))
        stream.close()

    run_virtual("asyncio", main)
    return log


seconds = st.integers(0, 12)
limit = st.none() | st.integers(1, 9)


@given(
    st.lists(st.integers(1, 12), max_size=12),
    st.lists(st.tuples(seconds, st.none() | seconds), max_size=14),
    st.tuples(limit, limit, limit),
)
def test_reads_by_a_wait_end_as_others_do(
    gaps: list[int],
    reads: Reads,
    timeouts: tuple[int | None, int | None, int | None],
) -> None:
    read, idle, total = timeouts

    def limit() -> Deadlines:
        return limits(400.0 if total is None else 4.0 * total, read=read, idle=idle)

    assert outcomes(gaps, reads, limit, at_once=True) == outcomes(gaps, reads, limit, at_once=False)


silences = st.integers(1, 12).map(lambda number: number / 4 + 0.125)
some_gaps = st.lists(st.integers(1, 12).map(lambda number: number / 4), max_size=5)


@given(silence=silences, gaps=some_gaps)
def test_a_wait_that_goes_on_ends_by_a_silence(silence: float, gaps: list[float]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        stream, _ = made()
        reader = Tapped(stream, 1000, Taken.GOES_ON, limits(idle=silence))
        for at in accumulate(gaps):
            loop.call_at(at, stream.data_received, b"x")
        with pytest.raises(IdleTimeout):
            await reader.read()
        in_time = list(accumulate(takewhile(lambda gap: gap < silence, gaps)))
        assert reader.times == in_time
        assert loop.time() == (in_time[-1] if in_time else 0) + silence
        stream.close()

    run_virtual("asyncio", main)


def test_one_timer_serves_many_waits() -> None:
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
            call_at(number + 0.5, stream.data_received, TOKEN)
        reader = Reader(stream, limits(idle=10, read=20))
        for _ in range(50):
            await reader.next()
        assert 4 <= len(armed) <= 7
        # Nobody waits: the timer fires, and is armed again by the next wait.
        await asyncio.sleep(100)
        with pytest.raises(IdleTimeout):
            await reader.next()
        assert loop.time() == 49.5 + 110
        stream.close()

    run_virtual("asyncio", main)


def test_a_busy_peer_does_not_put_off_the_total_limit() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        stream, _ = made()
        reader = Reader(stream, limits(total_at=3.0))
        for number in range(40):
            loop.call_at(number / 4, stream.data_received, TOKEN)
        with pytest.raises(TotalTimeout):  # noqa: PT012 - whichever read is late
            while True:
                await reader.next()
                await asyncio.sleep(0.25)
        assert 3.0 <= loop.time() <= 3.25
        stream.close()

    run_virtual("asyncio", main)


# --- with sockets ---


@pytest.mark.parametrize("data", [TOKEN, OTHER])
@pytest.mark.parametrize("order", ["bytes first", "cancelled first"])
async def test_bytes_and_a_native_cancellation_in_the_same_tick(order: str, data: bytes) -> None:
    async with connected() as (stream, peer):
        assert isinstance(stream, AsyncioStream)
        reader = Reader(stream, limits())
        task = asyncio.create_task(reader.next())
        await turns(2)
        steps: list[Callable[[], object]] = [lambda: stream.data_received(data), task.cancel]
        for step in steps if order == "bytes first" else reversed(steps):
            step()
        with pytest.raises(asyncio.CancelledError):
            await task
        if data == OTHER:
            await reader.next()
        assert reader.taken == [data]
        peer.sendall(TOKEN)
        await reader.next()
        assert reader.taken == [data, TOKEN]
        assert stream.is_clean()


async def test_one_wait_gets_one_read() -> None:
    async with connected() as (stream, peer):
        assert isinstance(stream, AsyncioStream)
        reader = Reader(stream, limits())
        waiter = reader.begin()
        assert waiter is not None
        stream.data_received(TOKEN)
        stream.data_received(TOKEN)
        await waiter
        assert reader.taken == [TOKEN]
        assert reader.begin() is None
        await reader.next()
        assert reader.taken == [TOKEN, TOKEN]
        peer.sendall(OTHER)
        await reader.next()
        assert reader.taken == [TOKEN, TOKEN, OTHER]
