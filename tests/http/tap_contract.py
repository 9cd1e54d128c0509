"""What every stream keeps that gives bytes to a tap where they arrive."""

from __future__ import annotations

import math
import socket
import threading
from functools import partial

import anyio
import pytest

from penstock._http.network import ClosedLocally, ConnectionFailed
from penstock.testing.sweep import open_fds

from .deadlines import NoDeadline, OutOfTime, Within
from .sockets import at_the_door, connected, reset, saw_the_end, turns, until


class Taking:
    """A tap that takes the first so many bytes, and leaves all that follow to `receive`."""

    def __init__(self, count: int, *, until: float = math.inf) -> None:
        self.left = count
        self.until = until
        self.taken = b""
        self.times: list[float] = []

    def has_taken(self, count: int) -> bool:
        return len(self.taken) == count

    def __call__(self, data: bytes, now: float) -> float | bytes:
        assert data
        self.times.append(now)
        if len(data) > self.left:
            return data
        self.left -= len(data)
        self.taken += data
        return self.until


class TapContract:
    async def test_it_takes_what_a_read_waits_for(self) -> None:
        async with connected() as (stream, peer), anyio.create_task_group() as group:
            tap, deadline = Taking(3), NoDeadline()
            stream.listen(tap)
            got: list[bytes] = []

            async def read() -> None:
                got.append(await stream.receive(deadline))

            group.start_soon(read)
            await until(lambda: deadline.waiting)
            for number in range(1, 4):
                before = anyio.current_time()
                peer.sendall(b"x")
                await until(partial(tap.has_taken, number))
                assert before <= tap.times[-1] <= anyio.current_time()
            assert got == []
            assert deadline.waiting
            peer.sendall(b"the rest")
            await until(lambda: got)
            assert (tap.taken, got) == (b"xxx", [b"the rest"])
            assert len(deadline.waits) == 1

    async def test_it_is_not_called_where_nothing_waits(self) -> None:
        async with connected() as (stream, peer):
            tap = Taking(1000)
            stream.listen(tap)
            peer.sendall(b"early")
            await at_the_door(stream)
            await turns(5)
            assert tap.times == []

    async def test_without_it_reads_are_as_before(self) -> None:
        async with connected() as (stream, peer):
            tap = Taking(1000)
            stream.listen(tap)
            with anyio.move_on_after(0.01):
                await stream.receive(NoDeadline())
            stream.listen(None)
            peer.sendall(b"x")
            assert await stream.receive(NoDeadline()) == b"x"
            assert tap.times == []

    async def test_what_it_leaves_is_returned_even_if_that_is_nothing(self) -> None:
        """TLS above returns b"" where it keeps the text itself."""
        async with connected() as (stream, peer), anyio.create_task_group() as group:
            deadline = NoDeadline()
            stream.listen(lambda data, now: b"")

            async def send() -> None:
                await until(lambda: deadline.waiting)
                peer.sendall(b"x")

            group.start_soon(send)
            assert await stream.receive(deadline) == b""
            stream.listen(None)
            peer.sendall(b"y")
            assert await stream.receive(NoDeadline()) == b"y"

    @pytest.mark.parametrize("cancelled_after", range(6))
    @pytest.mark.parametrize("sent_after", range(6))
    @pytest.mark.parametrize("taking", [0, 2, 5])
    async def test_cancelled_reads_lose_nothing(
        self, cancelled_after: int, sent_after: int, taking: int
    ) -> None:
        async with connected() as (stream, peer):
            tap, got = Taking(taking), b""
            stream.listen(tap)

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
                    while len(got) + len(tap.taken) < 5:
                        got += await stream.receive(NoDeadline())
            peer.sendall(b"the rest")
            with anyio.fail_after(5):
                while len(got) + len(tap.taken) < 13:
                    got += await stream.receive(NoDeadline())
            assert tap.taken + got == b"xxxxxthe rest"

    async def test_what_a_cancelled_read_leaves_makes_it_unclean(self) -> None:
        async with connected() as (stream, peer):
            deadline, scope = NoDeadline(), anyio.CancelScope()

            def leave(data: bytes, now: float) -> bytes:
                scope.cancel()
                return data

            async def send() -> None:
                await until(lambda: deadline.waiting)
                peer.sendall(b"x")

            stream.listen(leave)
            async with anyio.create_task_group() as group:
                group.start_soon(send)
                with scope:
                    await stream.receive(deadline)
            assert scope.cancelled_caught
            assert not stream.is_clean()
            peer.sendall(b"y")
            await at_the_door(stream)
            await turns(5)
            assert stream.receive_nowait() == b"xy"
            assert stream.is_clean()

    async def test_the_deadline_that_it_names_counts(self) -> None:
        async with connected() as (stream, peer), anyio.create_task_group() as group:

            class Sooner(NoDeadline):
                def error(self) -> Exception:
                    return OutOfTime()

            deadline = Sooner()

            async def send() -> None:
                await until(lambda: deadline.waiting)
                peer.sendall(b"x")

            stream.listen(lambda data, now: now + 0.02)
            group.start_soon(send)
            before = anyio.current_time()
            with pytest.raises(OutOfTime), anyio.fail_after(5):
                await stream.receive(deadline)
            assert anyio.current_time() - before >= 0.018

    async def test_a_deadline_that_has_passed_ends_the_wait(self) -> None:
        async with connected() as (stream, peer), anyio.create_task_group() as group:

            class Passed(NoDeadline):
                until = math.inf

                def begin(self, now: float) -> float:
                    super().begin(now)
                    return self.until

                def error(self) -> Exception:
                    return OutOfTime()

            deadline = Passed()

            def tap(data: bytes, now: float) -> float:
                deadline.until = now
                return now

            async def send() -> None:
                await until(lambda: deadline.waiting)
                peer.sendall(b"x")

            stream.listen(tap)
            group.start_soon(send)
            with pytest.raises(OutOfTime), anyio.fail_after(5):
                await stream.receive(deadline)

    async def test_a_later_deadline_replaces_the_first(self) -> None:
        async with connected() as (stream, peer), anyio.create_task_group() as group:
            tap = Taking(1)
            stream.listen(tap)
            deadline = Within(0.3)

            async def send() -> None:
                await until(lambda: deadline.waiting)
                peer.sendall(b"x")
                await anyio.sleep(0.4)
                peer.sendall(b"y")

            group.start_soon(send)
            assert await stream.receive(deadline) == b"y"

    @pytest.mark.parametrize("how", ["end", "reset"])
    async def test_the_end_is_not_its_own(self, how: str) -> None:
        async with connected() as (stream, peer), anyio.create_task_group() as group:
            tap, deadline = Taking(1), NoDeadline()
            stream.listen(tap)

            async def end() -> None:
                await until(lambda: deadline.waiting)
                peer.sendall(b"x")
                await until(lambda: tap.taken)
                if how == "end":
                    peer.shutdown(socket.SHUT_WR)
                else:
                    reset(peer)

            group.start_soon(end)
            if how == "end":
                assert await stream.receive(deadline) == b""
                assert await stream.receive(NoDeadline()) == b""
            else:
                for _ in range(2):
                    with pytest.raises(ConnectionFailed):
                        await stream.receive(NoDeadline() if deadline.waits else deadline)
            assert tap.taken == b"x"

    @pytest.mark.parametrize("where", ["here", "thread", "in the tap"])
    async def test_close_wakes_the_reader(self, where: str) -> None:
        async with connected() as (stream, peer), anyio.create_task_group() as group:
            before, deadline = open_fds(), NoDeadline()

            def tap(data: bytes, now: float) -> float:
                stream.close()
                return math.inf

            async def read() -> None:
                with pytest.raises(ClosedLocally):
                    await stream.receive(deadline)

            stream.listen(tap)
            group.start_soon(read)
            await until(lambda: deadline.waiting)
            if where == "here":
                stream.close()
            elif where == "thread":
                thread = threading.Thread(target=stream.close)
                thread.start()
                thread.join()
            else:
                peer.sendall(b"x")
            await until(lambda: not deadline.waiting)
            assert saw_the_end(peer)
            await until(lambda: open_fds() == before - 1)

    async def test_many_at_once(self) -> None:
        taps: list[Taking] = []

        async def one(number: int) -> None:
            async with connected() as (stream, peer), anyio.create_task_group() as group:
                tap, deadline = Taking(50), NoDeadline()
                taps.append(tap)
                stream.listen(tap)
                group.start_soon(send, peer, deadline, number)
                assert await stream.receive(deadline) == b"the rest"
                assert tap.taken == bytes([number]) * 50

        async def send(peer: socket.socket, deadline: NoDeadline, number: int) -> None:
            await until(lambda: deadline.waiting)
            for _ in range(50):
                peer.sendall(bytes([number]))
                await turns(number % 3)
            await until(lambda: not any(tap.left for tap in taps))
            peer.sendall(b"the rest")

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(one, number)
