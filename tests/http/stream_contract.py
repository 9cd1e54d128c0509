"""What every stream on a socket keeps, whatever event loop is below it.

`test_asyncio_stream` and `test_trio_stream` each run all of it on their own backends.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import warnings
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from penstock._http import asyncio_stream, trio_stream
from penstock._http.descriptors import KEEPALIVE_IDLE
from penstock._http.network import ClosedLocally, ConnectionFailed, NetworkStream, Upload
from penstock._http.trio_stream import TrioStream
from penstock._loops import in_trio
from penstock.testing.server import closed_port
from penstock.testing.sweep import BackendName, cancel_sweep, open_fds

from .deadlines import NoDeadline, OutOfTime, Within
from .sockets import (
    at_the_door,
    connect_tcp,
    connected,
    listening,
    raw_socket,
    reset,
    saw_the_end,
    turns,
    until,
)

# What the kernel is told to hold for one socket; it takes that twice.
SMALL = 32768


async def receive_all(stream: NetworkStream) -> bytes:
    pieces = []
    while data := await stream.receive(NoDeadline()):
        pieces.append(data)
    return b"".join(pieces)


def send_without_blocking(peer: socket.socket, data: bytes) -> int:
    peer.setblocking(False)
    try:
        return peer.send(data)
    except BlockingIOError:
        return 0
    finally:
        peer.settimeout(5)


async def read_slowly(peer: socket.socket, size: int, into: bytearray) -> None:
    peer.setblocking(False)
    while len(into) < size:
        try:
            into.extend(peer.recv(100_000))
        except BlockingIOError:
            await anyio.sleep(0.001)


class StreamContract:
    # --- reading ---

    async def test_what_the_peer_sent(self) -> None:
        async with connected() as (stream, peer):
            for data in (b"a", b"bc", bytes(5000), b"\r\n"):
                peer.sendall(data)
                got = b""
                while len(got) < len(data):
                    got += await stream.receive(NoDeadline())
                assert got == data

    async def test_a_reader_that_came_first(self) -> None:
        async with connected() as (stream, peer), anyio.create_task_group() as group:
            deadline = NoDeadline()

            async def read() -> None:
                assert await stream.receive(deadline) == b"hello"

            group.start_soon(read)
            await until(lambda: deadline.waiting)
            peer.sendall(b"hello")
        assert len(deadline.waits) == 1
        assert not deadline.waiting

    async def test_a_polite_end_stays_one(self) -> None:
        async with connected() as (stream, peer):
            peer.sendall(b"last")
            peer.shutdown(socket.SHUT_WR)
            assert await stream.receive(NoDeadline()) == b"last"
            for _ in range(3):
                assert await stream.receive(NoDeadline()) == b""

    @pytest.mark.parametrize("how", ["waiting", "before", "peeked"])
    async def test_a_reset_is_a_failure_and_never_an_end(self, how: str) -> None:
        async with connected() as (stream, peer):
            if how == "waiting":
                async with anyio.create_task_group() as group:

                    async def read() -> None:
                        with pytest.raises(ConnectionFailed, match="reset by peer"):
                            await stream.receive(NoDeadline())

                    group.start_soon(read)
                    await turns(3)
                    reset(peer)
            else:
                reset(peer)
                await at_the_door(stream)
                if how == "peeked":
                    assert stream.receive_nowait() == b""
            for _ in range(3):
                with pytest.raises(ConnectionFailed):
                    await stream.receive(NoDeadline())

    async def test_bytes_before_a_reset_come_first(self) -> None:
        async with connected() as (stream, peer):
            peer.sendall(b"text")
            await at_the_door(stream)
            await turns(5)
            reset(peer)
            assert await stream.receive(NoDeadline()) == b"text"
            with pytest.raises(ConnectionFailed):
                await stream.receive(NoDeadline())

    async def test_a_busy_stream_lets_its_siblings_run(self) -> None:
        async with connected() as (stream, peer), anyio.create_task_group() as group:
            count = 0

            async def sibling() -> None:
                nonlocal count
                while True:
                    await anyio.lowlevel.checkpoint()
                    count += 1

            group.start_soon(sibling)
            for _ in range(20):
                peer.sendall(b"x")
                await at_the_door(stream)
                await stream.receive(NoDeadline())
            assert count >= 10
            group.cancel_scope.cancel()

    # --- reading without waiting ---

    async def test_receive_nowait(self) -> None:
        async with connected() as (stream, peer):
            assert stream.receive_nowait() == b""
            peer.sendall(b"hello")
            await at_the_door(stream)
            await turns(5)
            assert stream.receive_nowait() == b"hello"
            assert stream.receive_nowait() == b""
            peer.sendall(b"again")
            assert await stream.receive(NoDeadline()) == b"again"
            peer.shutdown(socket.SHUT_WR)
            await at_the_door(stream)
            await turns(5)
            assert stream.receive_nowait() == b""
            assert await stream.receive(NoDeadline()) == b""
            stream.close()
            assert stream.receive_nowait() == b""

    # --- cancellation ---

    @pytest.mark.parametrize("cancelled_after", range(6))
    @pytest.mark.parametrize("sent_after", range(6))
    async def test_a_cancelled_receive_loses_nothing(
        self, cancelled_after: int, sent_after: int
    ) -> None:
        async with connected() as (stream, peer):
            got = b""
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:

                    async def cancel() -> None:
                        await turns(cancelled_after)
                        scope.cancel()

                    async def send() -> None:
                        with anyio.CancelScope(shield=True):
                            await turns(sent_after)
                            peer.sendall(b"12345")

                    group.start_soon(cancel)
                    group.start_soon(send)
                    while len(got) < 5:
                        got += await stream.receive(NoDeadline())
            while len(got) < 5:
                got += await stream.receive(NoDeadline())
            assert got == b"12345"
            assert stream.is_clean()

    async def test_many_cancelled_receives_lose_nothing(self) -> None:
        data = bytes(range(256)) * 40
        async with connected() as (stream, peer):
            got = b""
            for number in range(0, len(data), 256):
                with anyio.CancelScope() as scope:
                    if number % 512:
                        scope.cancel()
                    else:
                        scope.deadline = anyio.current_time() + 0.001
                    got += await stream.receive(NoDeadline())
                peer.sendall(data[number : number + 256])
            while len(got) < len(data):
                got += await stream.receive(NoDeadline())
            assert got == data

    # --- deadlines ---

    async def test_a_deadline_raises_the_error_of_the_deadline(self) -> None:
        async with connected() as (stream, peer):
            for seconds in (0.0, 0.01):
                deadline = Within(seconds)
                before = anyio.current_time()
                with pytest.raises(OutOfTime):
                    await stream.receive(deadline)
                assert anyio.current_time() - before >= seconds - 0.002
                assert len(deadline.waits) == 1
            peer.sendall(b"late")
            assert await stream.receive(NoDeadline()) == b"late"

    async def test_bytes_that_wait_are_checked_against_the_clock(self) -> None:
        # A peer that sends for ever must not hold up the total limit.
        async with connected(SMALL) as (stream, peer):
            deadline = Within(0.03)

            async def read_for_ever() -> None:
                while True:
                    send_without_blocking(peer, bytes(10_000))
                    await stream.receive(deadline)

            with pytest.raises(OutOfTime), anyio.fail_after(5):
                await read_for_ever()

    async def test_a_cancellation_is_not_the_deadline(self) -> None:
        async with connected() as (stream, _):
            deadline = Within(1000)
            with anyio.move_on_after(0.01) as scope:
                await stream.receive(deadline)
            assert scope.cancelled_caught
            assert not deadline.waiting

    # --- writing ---

    async def test_sending(self) -> None:
        async with connected() as (stream, peer):
            await stream.send(b"hello ", NoDeadline())
            await stream.send(b"world", NoDeadline())
            got = b""
            while len(got) < 11:
                await turns(1)
                got += peer.recv(100)
            assert got == b"hello world"

    async def test_a_large_write_goes_out_as_the_peer_reads(self) -> None:
        data = bytes(range(256)) * 8192  # 2 MiB
        async with connected(SMALL) as (stream, peer), anyio.create_task_group() as group:
            group.start_soon(read_slowly, peer, len(data), got := bytearray())
            await stream.send(data, NoDeadline())
        assert got == data

    @pytest.mark.parametrize("answered", [False, True])
    async def test_a_blocked_write_ends_at_the_deadline(self, answered: bool) -> None:
        async with connected(SMALL) as (stream, peer):
            if answered:  # a peer that talks, but does not listen
                peer.sendall(b"early")
            with pytest.raises(OutOfTime), anyio.fail_after(5):
                await stream.send(bytes(8_000_000), Within(0.02))

    # --- uploads ---

    async def test_an_upload_goes_out_as_the_peer_reads(self) -> None:
        data = bytes(range(256)) * 8192  # 2 MiB
        async with connected(SMALL) as (stream, peer), anyio.create_task_group() as group:
            group.start_soon(read_slowly, peer, len(data), got := bytearray())
            assert await stream.upload(Upload(data), NoDeadline())
        assert got == data

    @pytest.mark.parametrize("when", ["before", "while it waits"])
    @pytest.mark.parametrize("what", ["bytes", "end", "reset", "bytes and reset"])
    async def test_an_upload_stops_when_the_peer_says_something(self, what: str, when: str) -> None:
        async with connected(SMALL) as (stream, peer):
            upload = Upload(bytes(8_000_000))

            def act() -> None:
                if what.startswith("bytes"):
                    peer.sendall(b"early")
                if what == "end":
                    peer.shutdown(socket.SHUT_WR)
                if what.endswith("reset"):
                    reset(peer)

            async def act_later() -> None:
                await anyio.sleep(0.02)
                act()

            if when == "before":
                act()
                await at_the_door(stream)
                await turns(5)
            failed = False
            async with anyio.create_task_group() as group:
                if when != "before":
                    group.start_soon(act_later)
                with anyio.fail_after(5):
                    try:
                        assert not await stream.upload(upload, NoDeadline())
                    except ConnectionFailed:
                        failed = True
            assert failed <= ("reset" in what or what == "end")
            assert len(upload) > 1_000_000
            # What the peer said is not lost, whatever became of the upload.
            if what.startswith("bytes"):
                assert await stream.receive(NoDeadline()) == b"early"
            if what == "end":
                assert await stream.receive(NoDeadline()) == b""
            elif what != "bytes":
                with pytest.raises(ConnectionFailed):
                    await stream.receive(NoDeadline())

    async def test_an_interrupted_upload_goes_on_where_it_was(self) -> None:
        data = bytes(range(251)) * 10_000
        async with connected(SMALL) as (stream, peer), anyio.create_task_group() as group:
            upload = Upload(data)
            with anyio.move_on_after(0.01) as scope:
                await stream.upload(upload, NoDeadline())
            assert scope.cancelled_caught
            peer.sendall(b"early")
            with anyio.fail_after(5):
                assert not await stream.upload(upload, NoDeadline())
            assert await stream.receive(NoDeadline()) == b"early"
            group.start_soon(read_slowly, peer, len(data), got := bytearray())
            assert await stream.upload(upload, NoDeadline())
        assert got == data

    async def test_a_peer_that_does_not_read_learns_of_the_end_of_an_upload(self) -> None:
        async with connected(SMALL) as (stream, peer):
            with anyio.move_on_after(0.01):
                await stream.upload(Upload(bytes(8_000_000)), NoDeadline())
            stream.close()
            await stream.aclose(0)
            poll = select.poll()
            poll.register(peer, 0)
            assert await anyio.to_thread.run_sync(poll.poll, 5000)
            assert poll.poll(0)[0][1] & (select.POLLHUP | select.POLLERR)

    async def test_after_an_upload_the_end_is_no_reset(self) -> None:
        async with connected() as (stream, peer):
            assert await stream.upload(Upload(b"hello"), NoDeadline())
            stream.close()
            await stream.aclose(0)
            assert peer.recv(10) == b"hello"
            assert peer.recv(10) == b""

    async def test_a_blocked_upload_ends_at_the_deadline(self) -> None:
        async with connected(SMALL) as (stream, _):
            deadline = Within(0.02)
            with pytest.raises(OutOfTime), anyio.fail_after(5):
                await stream.upload(Upload(bytes(8_000_000)), deadline)
            assert not deadline.waiting

    async def test_an_upload_counts_what_the_network_takes(self) -> None:
        class Counting(NoDeadline):
            count = 0

            def byte_arrived(self) -> None:
                self.count += 1

        data = bytes(2_000_000)
        async with connected(SMALL) as (stream, peer), anyio.create_task_group() as group:
            deadline = Counting()
            group.start_soon(read_slowly, peer, len(data), bytearray())
            assert await stream.upload(Upload(data), deadline)
            assert deadline.count >= 4

    async def test_close_wakes_a_blocked_upload(self) -> None:
        async with connected(SMALL) as (stream, _), anyio.create_task_group() as group:
            deadline = NoDeadline()

            async def write() -> None:
                with pytest.raises(ClosedLocally):
                    await stream.upload(Upload(bytes(8_000_000)), deadline)

            group.start_soon(write)
            await until(lambda: deadline.waiting)
            stream.close()
            await until(lambda: not deadline.waiting)
            with pytest.raises(ClosedLocally):
                await stream.upload(Upload(b"x"), NoDeadline())

    async def test_a_cancelled_write_can_be_left(self) -> None:
        async with connected(SMALL) as (stream, _):
            deadline = Within(1000)
            with anyio.move_on_after(0.01) as scope:
                await stream.send(bytes(8_000_000), deadline)
            assert scope.cancelled_caught
            assert not deadline.waiting

    async def test_a_write_to_a_peer_that_has_gone_fails(self) -> None:
        async with connected() as (stream, peer):
            reset(peer)
            await at_the_door(stream)

            async def write_for_ever() -> None:
                while True:
                    await stream.send(b"hello", NoDeadline())
                    await turns(2)

            with pytest.raises(ConnectionFailed), anyio.fail_after(5):
                await write_for_ever()

    async def test_a_peer_that_goes_while_a_write_waits(self) -> None:
        async with connected(SMALL) as (stream, peer), anyio.create_task_group() as group:

            async def write_and_read() -> None:
                await stream.send(bytes(8_000_000), NoDeadline())
                await stream.receive(NoDeadline())

            async def fail() -> None:
                # Whether the write says so or the next read: somebody does, at once.
                with pytest.raises(ConnectionFailed), anyio.fail_after(5):
                    await write_and_read()

            group.start_soon(fail)
            await turns(5)
            reset(peer)

    # --- backpressure ---

    async def test_a_peer_that_sends_for_ever_is_stopped(self) -> None:
        async with connected(SMALL) as (stream, peer):
            data = bytes(range(251)) * 400
            sent = idle = 0
            while idle < 20:
                done = send_without_blocking(peer, data[sent % 251 :])
                sent += done
                idle = 0 if done else idle + 1
                assert sent < 1024 * 1024, "nobody stops the peer"
                await anyio.sleep(0 if done else 0.001)
            # Of that, this much was ours to hold: 64 KiB and one read of the event loop.
            held = len(stream.receive_nowait())
            assert held <= 65536 + 262144
            # And it goes on when there is room.
            peer.shutdown(socket.SHUT_WR)
            assert held + len(await receive_all(stream)) == sent

    # --- is_clean ---

    async def test_an_idle_stream_is_clean(self) -> None:
        async with connected() as (stream, peer):
            assert stream.is_clean()
            peer.sendall(b"x")
            assert await stream.receive(NoDeadline()) == b"x"
            assert stream.is_clean()

    @pytest.mark.parametrize("seen", [False, True])
    @pytest.mark.parametrize("what", ["bytes", "end", "reset"])
    async def test_whatever_has_come_makes_it_unclean(self, what: str, seen: bool) -> None:
        async with connected() as (stream, peer):
            if what == "bytes":
                peer.sendall(b"x")
            elif what == "end":
                peer.shutdown(socket.SHUT_WR)
            else:
                reset(peer)
            await at_the_door(stream)
            if seen:
                await turns(5)
            assert not stream.is_clean()

    async def test_a_closed_stream_is_not_clean(self) -> None:
        async with connected() as (stream, _):
            stream.close()
            assert not stream.is_clean()

    # --- other processes ---

    async def test_a_forked_process_leaves_the_connection_alone(self) -> None:
        async with connected() as (stream, peer):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # pytest has other threads
                pid = os.fork()
            if not pid:  # the child: nothing of pytest may run here
                try:
                    clean = stream.is_clean()
                    stream.close()
                    os._exit(clean)
                finally:
                    os._exit(1)
            _, status = os.waitpid(pid, 0)
            assert status == 0, "an inherited connection must not be used again"
            await stream.send(b"hello", NoDeadline())
            assert peer.recv(10) == b"hello"
            peer.sendall(b"x")
            assert await stream.receive(NoDeadline()) == b"x"

    async def test_closing_in_a_forked_process_does_not_wait(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with connected() as (stream, peer):
            # As seen by the child: a copy that is not closed for the parent.
            monkeypatch.setattr(os, "getpid", lambda: -1)
            with anyio.fail_after(5):
                await stream.aclose(1.0)
            monkeypatch.undo()
            if not isinstance(stream, TrioStream):
                peer.setblocking(False)
                with pytest.raises(BlockingIOError):
                    peer.recv(1)
                stream._closed = False  # type: ignore[attr-defined]

    # --- closing ---

    async def test_close_wakes_a_blocked_reader(self) -> None:
        async with connected() as (stream, peer), anyio.create_task_group() as group:
            deadline = NoDeadline()

            async def read() -> None:
                with pytest.raises(ClosedLocally):
                    await stream.receive(deadline)

            group.start_soon(read)
            await until(lambda: deadline.waiting)
            stream.close()
            stream.close()
            await until(lambda: not deadline.waiting)
            assert saw_the_end(peer)

    async def test_close_wakes_a_blocked_writer(self) -> None:
        async with connected(SMALL) as (stream, _), anyio.create_task_group() as group:
            deadline = NoDeadline()

            async def write() -> None:
                with pytest.raises(ClosedLocally):
                    await stream.send(bytes(8_000_000), deadline)

            group.start_soon(write)
            await until(lambda: deadline.waiting)
            stream.close()
            await until(lambda: not deadline.waiting)

    async def test_a_closed_stream_says_so(self) -> None:
        async with connected() as (stream, peer):
            peer.sendall(b"never read")
            await at_the_door(stream)
            await turns(5)
            stream.close()
            for _ in range(2):
                with pytest.raises(ClosedLocally):
                    await stream.receive(NoDeadline())
                with pytest.raises(ClosedLocally):
                    await stream.send(b"x", NoDeadline())

    async def test_aclose_returns_when_the_descriptor_is_closed(self) -> None:
        async with connected() as (stream, peer):
            fd = raw_socket(stream).fileno()
            before = open_fds()
            await stream.aclose(1.0)
            assert open_fds() == before - 1
            await stream.aclose(1.0)
            assert saw_the_end(peer)
        assert fd >= 0

    @pytest.mark.parametrize("end", ["close", "eof", "reset"])
    async def test_aclose_after_another_end(self, end: str) -> None:
        async with connected() as (stream, peer):
            before = open_fds()
            if end == "close":
                stream.close()
            elif end == "eof":
                peer.shutdown(socket.SHUT_WR)
                assert await stream.receive(NoDeadline()) == b""
            else:
                reset(peer)
                before -= 1
                with pytest.raises(ConnectionFailed):
                    await stream.receive(NoDeadline())
            await stream.aclose(1.0)
            assert open_fds() == before - 1

    async def test_close_from_another_thread(self) -> None:
        async with connected() as (stream, peer), anyio.create_task_group() as group:
            deadline = NoDeadline()

            async def read() -> None:
                with pytest.raises(ClosedLocally):
                    await stream.receive(deadline)

            group.start_soon(read)
            await until(lambda: deadline.waiting)
            thread = threading.Thread(target=stream.close)
            thread.start()
            thread.join()
            # The event loop has not run yet, and the peer knows.
            assert saw_the_end(peer)
            await until(lambda: not deadline.waiting)
            await stream.aclose(1.0)
            assert not stream.is_clean()

    async def test_close_from_another_thread_closes_the_descriptor(self) -> None:
        async with connected() as (stream, _):
            before = open_fds()
            thread = threading.Thread(target=stream.close)
            thread.start()
            thread.join()
            await until(lambda: open_fds() == before - 1)

    # --- connecting ---

    async def test_options_of_the_socket(self) -> None:
        async with connected() as (stream, _):
            sock = raw_socket(stream)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            if hasattr(socket, "TCP_KEEPIDLE"):
                idle = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
                assert idle == KEEPALIVE_IDLE

    async def test_ipv6(self) -> None:
        async with connected(host="::1") as (stream, peer):
            await stream.send(b"six", NoDeadline())
            await turns(2)
            assert peer.recv(10) == b"six"

    async def test_a_unix_socket(self, tmp_path: Path) -> None:
        path = str(tmp_path / "s")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            module = trio_stream if in_trio() else asyncio_stream
            stream = await module.connect_unix(path)
            peer, _ = listener.accept()
            with peer:
                peer.sendall(b"local")
                assert await stream.receive(NoDeadline()) == b"local"
                assert stream.is_clean()
                await stream.aclose(1.0)
                assert peer.recv(10) == b""

    @pytest.mark.parametrize("kind", ["tcp", "unix"])
    async def test_nobody_there(self, kind: str, tmp_path: Path) -> None:
        before = open_fds()
        module = trio_stream if in_trio() else asyncio_stream
        if kind == "tcp":
            connecting: Any = connect_tcp("127.0.0.1", closed_port())
        else:
            connecting = module.connect_unix(str(tmp_path / "none"))
        with pytest.raises(OSError) as caught:  # noqa: PT011 - which one, is asserted
            await connecting
        expected = errno.ECONNREFUSED if kind == "tcp" else errno.ENOENT
        assert caught.value.errno == expected
        await turns(2)
        assert open_fds() == before


def sweep_a_connection(backend: BackendName) -> None:
    """Connect, read, write and close, cancelled at each suspension: no socket is left open."""
    before = open_fds()

    async def body() -> None:
        with listening() as listener:
            stream = await connect_tcp("127.0.0.1", listener.getsockname()[1])
            try:
                with listener.accept()[0] as peer:
                    await stream.send(b"hello", NoDeadline())
                    for data in (b"w", b"or", b"ld!"):
                        peer.sendall(data)
                        assert await stream.receive(NoDeadline()) == data
                    with pytest.raises(OutOfTime):
                        await stream.receive(Within(0.005))
            finally:
                stream.close()
                with anyio.CancelScope(shield=True):
                    await stream.aclose(1.0)

    def check(point: int, mode: str) -> None:
        assert open_fds() == before

    points = cancel_sweep(backend, body, check=check, real=True)
    assert min(points.values()) >= 3
