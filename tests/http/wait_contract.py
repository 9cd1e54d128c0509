"""What every stream keeps that gives bytes to a tap where they arrive."""

from __future__ import annotations

import math
import socket
import threading
from functools import partial

import anyio
import pytest

from penstock import IdleTimeout, Timeouts, TotalTimeout
from penstock._http.network import ClosedLocally, ConnectionFailed, NetworkStream, Taken
from penstock._policy.deadlines import Deadlines
from penstock.testing.sweep import open_fds

from .deadlines import NoDeadline
from .sockets import at_the_door, connected, reset, saw_the_end, turns, until

__all__ = ["Tapped", "WaitContract", "limits"]

GOES_ON, ENDS = Taken.GOES_ON, Taken.ENDS


def limits(total_at: float = math.inf, **timeouts: float | None) -> Deadlines:
    """The limits of a live stream, whose first token has come."""
    deadlines = Deadlines(Timeouts(**timeouts, total=total_at), total_at=total_at, streaming=True)
    deadlines.token_arrived()
    return deadlines


class Tapped:
    """Reads a stream as a completion is read: what is usual is taken where it arrives.

    Here that is any first `count` bytes. `then`: whether a wait ends with what is taken.
    """

    def __init__(
        self,
        stream: NetworkStream,
        count: int,
        then: Taken = GOES_ON,
        deadlines: Deadlines | None = None,
    ) -> None:
        self.stream = stream
        self.deadlines = deadlines or limits()
        self.waiting = False
        self.left = count
        self.taken = b""
        self.times: list[float] = []
        self._then = then

    def has_taken(self, count: int) -> bool:
        return len(self.taken) == count

    def tap(self, data: bytes, now: float) -> Taken:
        assert data
        self.times.append(now)
        if len(data) > self.left:
            return Taken.NOTHING
        self.left -= len(data)
        self.taken += data
        self.deadlines.token_taken(now)
        return self._then

    async def read(self) -> bytes:
        """Return what the tap has left; b"" also where it ended the wait. Raises as `receive`."""
        before = len(self.taken)
        waiter = self.stream.wait(self.deadlines, self.tap)
        if waiter is not None:
            self.waiting = True
            try:
                await waiter
            finally:
                self.waiting = False
                self.stream.stop_waiting(self.deadlines)
            if self._then is ENDS and len(self.taken) > before:
                return b""
        data = await self.stream.receive(self.deadlines)
        self.deadlines.byte_arrived()
        self.deadlines.token_arrived()
        return data


class WaitContract:
    async def test_a_tap_takes_what_is_waited_for(self) -> None:
        async with connected() as (stream, peer), anyio.create_task_group() as group:
            reader = Tapped(stream, 3)
            got: list[bytes] = []

            async def read() -> None:
                got.append(await reader.read())

            group.start_soon(read)
            await until(lambda: reader.waiting)
            for number in range(1, 4):
                before = anyio.current_time()
                peer.sendall(b"x")
                await until(partial(reader.has_taken, number))
                assert before <= reader.times[-1] <= anyio.current_time()
            assert got == []
            assert reader.waiting
            peer.sendall(b"the rest")
            await until(lambda: got)
            assert (reader.taken, got) == (b"xxx", [b"the rest"])

    async def test_a_tap_ends_a_wait(self) -> None:
        async with connected() as (stream, peer), anyio.create_task_group() as group:
            reader = Tapped(stream, 3, ENDS)

            async def send() -> None:
                for number in range(1, 4):
                    await until(lambda: reader.waiting)
                    peer.sendall(b"x")
                    await until(partial(reader.has_taken, number))
                await until(lambda: reader.waiting)
                peer.sendall(b"the rest")

            group.start_soon(send)
            assert [await reader.read() for _ in range(4)] == [b"", b"", b"", b"the rest"]
            assert reader.taken == b"xxx"

    @pytest.mark.parametrize("then", [GOES_ON, ENDS])
    async def test_it_is_not_called_where_nothing_waits(self, then: Taken) -> None:
        async with connected() as (stream, peer):
            reader = Tapped(stream, 1000, then)
            with anyio.move_on_after(0.01):
                await reader.read()
            peer.sendall(b"early")
            await at_the_door(stream)
            await turns(5)
            assert reader.times == []
            assert await stream.receive(NoDeadline()) == b"early"
            with anyio.move_on_after(0.01):
                await stream.receive(NoDeadline())
            assert reader.times == []

    @pytest.mark.parametrize("cancelled_after", range(6))
    @pytest.mark.parametrize("sent_after", range(6))
    @pytest.mark.parametrize("taking", [0, 2, 5])
    @pytest.mark.parametrize("then", [GOES_ON, ENDS])
    async def test_cancelled_reads_lose_nothing(
        self, cancelled_after: int, sent_after: int, taking: int, then: Taken
    ) -> None:
        async with connected() as (stream, peer):
            reader, got = Tapped(stream, taking, then), b""

            async def cancel() -> None:
                await turns(cancelled_after)
                scope.cancel()

            async def send() -> None:
                with anyio.CancelScope(shield=True):
                    await turns(sent_after)
                    for _ in range(5):
                        peer.sendall(b"x")
                        await turns(1)

            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(cancel)
                    group.start_soon(send)
                    while len(got) + len(reader.taken) < 5:
                        got += await reader.read()
            peer.sendall(b"the rest")
            with anyio.fail_after(5):
                while len(got) + len(reader.taken) < 13:
                    got += await reader.read()
            assert reader.taken + got == b"xxxxxthe rest"

    async def test_what_a_cancelled_read_leaves_makes_it_unclean(self) -> None:
        async with connected() as (stream, peer):
            scope = anyio.CancelScope()

            class Leaving(Tapped):
                def tap(self, data: bytes, now: float) -> Taken:
                    scope.cancel()
                    return Taken.NOTHING

            async def send() -> None:
                await until(lambda: reader.waiting)
                peer.sendall(b"x")

            reader = Leaving(stream, 0)
            async with anyio.create_task_group() as group:
                group.start_soon(send)
                with scope:
                    await reader.read()
            assert scope.cancelled_caught
            assert not stream.is_clean()
            peer.sendall(b"y")
            await at_the_door(stream)
            await turns(5)
            assert stream.receive_nowait() + stream.receive_nowait() == b"xy"
            assert stream.is_clean()

    @pytest.mark.parametrize("then", [GOES_ON, ENDS])
    async def test_a_silence_counts_from_what_was_taken_last(self, then: Taken) -> None:
        async with connected() as (stream, peer), anyio.create_task_group() as group:
            reader = Tapped(stream, 1, then, limits(idle=0.05))

            async def send() -> None:
                await until(lambda: reader.waiting)
                await anyio.sleep(0.02)
                peer.sendall(b"x")

            group.start_soon(send)
            with pytest.raises(IdleTimeout), anyio.fail_after(5):  # noqa: PT012 - whichever is late
                while True:
                    await reader.read()
            # Of the timer, which may be a little early.
            assert anyio.current_time() - reader.times[0] >= 0.048

    async def test_a_limit_that_has_passed_ends_the_wait(self) -> None:
        """Also while a busy peer puts off every timer."""
        async with connected() as (stream, peer), anyio.create_task_group() as group:
            total_at = anyio.current_time() + 0.03
            reader = Tapped(stream, 10**6, GOES_ON, limits(total_at))

            async def send() -> None:
                while True:
                    peer.sendall(b"x")
                    await turns(1)

            group.start_soon(send)
            with pytest.raises(TotalTimeout), anyio.fail_after(5):  # noqa: PT012 - as above
                while True:
                    await reader.read()
            group.cancel_scope.cancel()
            assert all(at < total_at for at in reader.times)

    async def test_no_wait_begins_after_a_limit_has_passed(self) -> None:
        """Who is woken takes what has come: a busy peer would never be late."""
        async with connected() as (stream, peer):
            reader = Tapped(stream, 1, ENDS, limits(anyio.current_time()))
            peer.sendall(b"x")
            await at_the_door(stream)
            assert stream.wait(reader.deadlines, reader.tap) is None
            with pytest.raises(TotalTimeout):
                await stream.receive(reader.deadlines)
            assert reader.times == []

    @pytest.mark.parametrize("how", ["end", "reset"])
    @pytest.mark.parametrize("then", [GOES_ON, ENDS])
    async def test_the_end_is_not_its_own(self, how: str, then: Taken) -> None:
        async with connected() as (stream, peer), anyio.create_task_group() as group:
            reader = Tapped(stream, 1, then)

            async def end() -> None:
                await until(lambda: reader.waiting)
                peer.sendall(b"x")
                await until(lambda: reader.taken)
                if how == "end":
                    peer.shutdown(socket.SHUT_WR)
                else:
                    reset(peer)

            group.start_soon(end)
            if then is ENDS:
                assert await reader.read() == b""
                assert reader.taken == b"x"
            for _ in range(2):
                if how == "end":
                    assert await reader.read() == b""
                else:
                    with pytest.raises(ConnectionFailed):
                        await reader.read()
            assert reader.taken == b"x"

    @pytest.mark.parametrize("where", ["here", "thread", "in the tap"])
    @pytest.mark.parametrize("then", [GOES_ON, ENDS])
    async def test_close_wakes_the_reader(self, where: str, then: Taken) -> None:
        async with connected() as (stream, peer), anyio.create_task_group() as group:
            before = open_fds()

            class Closing(Tapped):
                def tap(self, data: bytes, now: float) -> Taken:
                    stream.close()
                    return then

            async def read() -> None:
                with pytest.raises(ClosedLocally):
                    await reader.read()

            reader = Closing(stream, 0)
            group.start_soon(read)
            await until(lambda: reader.waiting)
            if where == "here":
                stream.close()
            elif where == "thread":
                thread = threading.Thread(target=stream.close)
                thread.start()
                thread.join()
            else:
                peer.sendall(b"x")
            await until(lambda: not reader.waiting)
            assert saw_the_end(peer)
            await until(lambda: open_fds() == before - 1)

    @pytest.mark.parametrize("then", [GOES_ON, ENDS])
    async def test_many_at_once(self, then: Taken) -> None:
        readers: list[Tapped] = []

        async def one(number: int) -> None:
            async with connected() as (stream, peer), anyio.create_task_group() as group:
                reader, got = Tapped(stream, 50, then), b""
                readers.append(reader)
                group.start_soon(send, peer, reader, number)
                while not got:
                    got = await reader.read()
                assert got == b"the rest"
                assert reader.taken == bytes([number]) * 50

        async def send(peer: socket.socket, reader: Tapped, number: int) -> None:
            for count in range(1, 51):
                await until(lambda: reader.waiting)
                peer.sendall(bytes([number]))
                await until(partial(reader.has_taken, count))
                await turns(number % 3)
            await until(lambda: not any(reader.left for reader in readers))
            peer.sendall(b"the rest")

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(one, number)
