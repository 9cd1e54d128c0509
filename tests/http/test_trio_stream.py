from __future__ import annotations

import gc
import socket
import threading

import anyio
import pytest
import trio

from penstock._http.trio_stream import TrioStream, _address6
from penstock.testing.sweep import open_fds

from .deadlines import NoDeadline, OutOfTime, Within
from .sockets import at_the_door, connected, listening, run, run_virtual, saw_the_end
from .stream_contract import StreamContract, sweep_a_connection

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "trio"


class TestTrioStream(StreamContract):
    pass


def test_a_sweep_of_cancellations_leaves_no_socket() -> None:
    sweep_a_connection("trio")


def test_deadlines_are_exact() -> None:
    async def main() -> None:
        async with connected() as (stream, _):
            # Longer and shorter ones after each other, and the rest of one.
            for seconds in (5.0, 1.0, 100.0, 0.0):
                before = trio.current_time()
                with pytest.raises(OutOfTime):
                    await stream.receive(Within(seconds))
                assert trio.current_time() == before + seconds

    run_virtual("trio", main)


async def test_bytes_that_come_together_with_the_deadline_go_first() -> None:
    class Late(Within):
        def end(self, now: float) -> None:
            super().end(now)
            peer.sendall(b"just in time")

    async with connected() as (stream, peer):
        assert await stream.receive(Late(0.01)) == b"just in time"


def test_the_outer_scope_wins_at_a_tie() -> None:
    async def main() -> None:
        async with connected() as (stream, _):
            with trio.move_on_after(3) as scope:
                await stream.receive(Within(3))
            assert scope.cancelled_caught

    run_virtual("trio", main)


async def test_a_pending_cancellation_is_delivered_though_bytes_wait() -> None:
    async with connected() as (stream, peer):
        peer.sendall(b"x")
        await at_the_door(stream)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await stream.receive(NoDeadline())
        assert scope.cancelled_caught
        with anyio.CancelScope() as scope:
            scope.cancel()
            await stream.send(b"x", NoDeadline())
        assert scope.cancelled_caught
        assert await stream.receive(NoDeadline()) == b"x"


def make_in_another_run(listener: socket.socket) -> tuple[TrioStream, socket.socket]:
    async def main() -> TrioStream:
        from penstock._http.trio_stream import connect_tcp

        return await connect_tcp("127.0.0.1", listener.getsockname()[1], socket.AF_INET)

    stream = run(("trio", {}), main)
    return stream, listener.accept()[0]


def test_a_stream_of_another_event_loop_is_not_clean() -> None:
    async def main() -> None:
        assert not stream.is_clean()
        stream.close()

    before = open_fds()
    with listening() as listener:
        stream, peer = make_in_another_run(listener)
        with peer:
            run(("trio", {}), main)
            peer.settimeout(5)
            assert saw_the_end(peer)
    assert open_fds() == before


@pytest.mark.parametrize("where", ["here", "thread"])
def test_close_after_the_event_loop_has_ended(where: str) -> None:
    before = open_fds()
    with listening() as listener:
        stream, peer = make_in_another_run(listener)
        with peer:
            if where == "here":
                stream.close()
            else:
                thread = threading.Thread(target=stream.close)
                thread.start()
                thread.join()
            peer.settimeout(5)
            assert saw_the_end(peer)
    assert open_fds() == before
    gc.collect()


def test_the_zone_of_an_ipv6_address_is_a_number() -> None:
    assert _address6("::1", 80) == ("::1", 80, 0, 0)
    assert _address6("fe80::1%7", 80) == ("fe80::1", 80, 0, 7)
    name = socket.if_indextoname(socket.if_nameindex()[0][0])
    index = socket.if_nametoindex(name)
    assert _address6(f"fe80::1%{name}", 80) == ("fe80::1", 80, 0, index)
