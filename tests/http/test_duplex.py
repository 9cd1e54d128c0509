from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from penstock._http.duplex import Duplex
from penstock._http.network import ConnectionFailed, Upload
from penstock.testing.plugin import virtual_backend as anyio_backend

from .deadlines import NoDeadline, OutOfTime, Within
from .pipe import Pipe

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

DATA = bytes(range(256)) * 3000


async def later(seconds: float, act: Callable[[], object]) -> None:
    await anyio.sleep(seconds)
    act()


async def test_a_read_writes_the_rest_first() -> None:
    pipe = Pipe()
    stream = Duplex(pipe, Upload(DATA))
    pipe.on_send = lambda _: pipe.feed(b"answer") if len(pipe.sent) == len(DATA) else None
    assert await stream.receive(NoDeadline()) == b"answer"
    assert pipe.sent == DATA
    pipe.feed(b"more")
    assert await stream.receive(NoDeadline()) == b"more"
    assert not stream.is_clean()


async def test_what_comes_is_read_while_the_upload_is_stuck() -> None:
    pipe = Pipe()
    pipe.stuck = True
    stream = Duplex(pipe, Upload(DATA))
    async with anyio.create_task_group() as group:
        group.start_soon(later, 3, lambda: pipe.feed(b"one"))
        group.start_soon(later, 5, lambda: pipe.feed(b"two"))
        assert await stream.receive(NoDeadline()) == b"one"
        with anyio.move_on_after(1):
            await stream.receive(NoDeadline())
        assert await stream.receive(NoDeadline()) == b"two"
    assert not pipe.sent
    with pytest.raises(OutOfTime):
        await stream.receive(Within(1))
    pipe.stuck = False
    pipe.on_send = lambda _: pipe.feed(b"three")
    assert await stream.receive(NoDeadline()) == b"three"


async def test_a_failed_write_does_not_hide_what_has_come() -> None:
    pipe = Pipe(b"answer", b"")
    pipe.send_error = ConnectionFailed("broken pipe")
    stream = Duplex(pipe, Upload(DATA))
    assert await stream.receive(NoDeadline()) == b"answer"
    assert await stream.receive(NoDeadline()) == b""


async def test_the_rest_is_the_other_stream_s() -> None:
    pipe = Pipe(b"x")
    stream = Duplex(pipe, Upload(b""))
    assert stream.receive_nowait() == b"x"
    await stream.send(b"a", NoDeadline())
    assert await stream.upload(Upload(b"b"), NoDeadline())
    assert pipe.sent == b"ab"
    await stream.aclose(2.0)
    assert pipe.acloses == [2.0]
    stream.close()
    assert pipe.closed
