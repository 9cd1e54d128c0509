from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from penstock import ConnectTimeout, Timeouts
from penstock._http.dial import Dialer
from penstock._http.unix import connect_unix_socket
from penstock._policy.deadlines import ConnectDeadline
from penstock._wire.url import Origin
from penstock.testing.sweep import BackendName, cancel_sweep, open_fds

from .deadlines import NoDeadline

pytestmark = pytest.mark.anyio

ORIGIN = Origin("http", "example.com", 80)


@contextmanager
def full_backlog(path: Path) -> Iterator[tuple[socket.socket, list[socket.socket]]]:
    """A listener that has no room, and the sockets that take it up."""
    waiting: list[socket.socket] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        try:
            while True:
                sock = socket.socket(socket.AF_UNIX)
                waiting.append(sock)
                sock.setblocking(False)
                sock.connect(str(path))
        except BlockingIOError:
            waiting.pop().close()
        try:
            yield listener, waiting
        finally:
            for sock in waiting:
                sock.close()


async def test_it_waits_for_room(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with full_backlog(path) as (listener, waiting):
        async with anyio.create_task_group() as group:

            async def make_room() -> None:
                await anyio.sleep(0.05)
                for _ in waiting:
                    listener.accept()[0].close()

            group.start_soon(make_room)
            with anyio.fail_after(5):
                stream = await Dialer(ORIGIN, uds=str(path)).dial(NoDeadline())
        listener.settimeout(5)
        peer, _ = listener.accept()
        with peer:
            peer.sendall(b"hello")
            assert await stream.receive(NoDeadline()) == b"hello"
            await stream.aclose(1.0)


async def test_it_waits_no_longer_than_connect(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with full_backlog(path):
        before = anyio.current_time()
        timeouts = Timeouts(connect=0.1)
        deadline = ConnectDeadline(timeouts, now=before, total_at=float("inf"))
        with pytest.raises(ConnectTimeout), anyio.fail_after(5):
            await Dialer(ORIGIN, uds=str(path)).dial(deadline)
        assert anyio.current_time() - before >= 0.09


@pytest.mark.parametrize("kind", ["missing", "file", "nobody"])
async def test_what_cannot_be_connected_to(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "s"
    if kind == "file":
        path.touch()
    elif kind == "nobody":
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
    before = open_fds()
    with pytest.raises(OSError, match=r"No such file|refused"):
        await connect_unix_socket(str(path))
    assert open_fds() == before


@pytest.mark.sampled(0.34)
@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
@pytest.mark.parametrize("full", [False, True])
def test_a_sweep_of_cancellations_leaves_no_socket(
    tmp_path: Path, backend: BackendName, full: bool
) -> None:
    path = tmp_path / "s"
    before = 0

    async def body() -> None:
        timeouts = Timeouts(connect=0.02)
        deadline = ConnectDeadline(timeouts, now=anyio.current_time(), total_at=float("inf"))
        try:
            stream = await Dialer(ORIGIN, uds=str(path)).dial(deadline)
        except ConnectTimeout:
            assert full
        else:
            try:
                await anyio.lowlevel.checkpoint()
            finally:
                stream.close()
                with anyio.CancelScope(shield=True):
                    await stream.aclose(1.0)

    def check(point: int, mode: str) -> None:
        assert open_fds() == before

    with full_backlog(path) as (listener, waiting):
        if not full:
            for sock in waiting:
                listener.accept()[0].close()
                sock.close()
            listener.listen(100)
        before = open_fds()
        cancel_sweep(backend, body, check=check, real=True)
