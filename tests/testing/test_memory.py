"""The memory network against raw httpcore connections, in virtual time."""

from __future__ import annotations

import json

import anyio
import anyio.lowlevel
import pytest

from penstock.testing.cuts import cut_at, every_byte
from penstock.testing.memory import MemoryNetwork, MemoryStream
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import json_reply, sse_reply, tokens
from penstock.testing.script import End, Pause, Repeat, Reset, Send, Stall, reply
from tests.support.httpcore_compat import httpcore

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

ORIGIN = httpcore.Origin(b"http", b"test", 80)
REQUEST = b"POST /v1/x HTTP/1.1\r\nhost: test\r\ncontent-length: 7\r\n\r\n" + b'{"a":1}'


async def connect(network: MemoryNetwork) -> httpcore.AsyncHTTP11Connection:
    return httpcore.AsyncHTTP11Connection(ORIGIN, await network.connect_tcp("test", 80))


async def opened(network: MemoryNetwork) -> MemoryStream:
    stream = await network.connect_tcp("test", 80)
    await stream.write(REQUEST)
    return stream


async def test_httpcore_reads_a_whole_reply_and_keeps_the_connection() -> None:
    network = MemoryNetwork([json_reply({"n": 1}), sse_reply(tokens("Hel", "lo"))])
    connection = await connect(network)
    first = await connection.request("POST", "http://test/v1/a", content=b'{"q": 1}')
    assert json.loads(first.content) == {"n": 1}
    assert connection.is_idle()
    second = await connection.request("GET", "http://test/v1/b")
    assert second.content.endswith(b"data: [DONE]\n\n")
    assert [(r.method, r.target) for r in network.requests] == [("POST", "/v1/a"), ("GET", "/v1/b")]
    assert network.requests[0].json == {"q": 1}
    assert network.requests[0].headers["host"] == "test"
    assert len(network.connections[0].requests) == 2
    assert network.open_connections == 1
    await connection.aclose()
    assert network.open_connections == 0


async def test_every_byte_in_a_read_of_its_own() -> None:
    whole = sse_reply(tokens("é", "lo"))
    network = MemoryNetwork([every_byte(whole), whole])
    connection = await connect(network)
    one = await connection.request("GET", "http://test/")
    network.max_read = 1
    two = await connection.request("GET", "http://test/")
    assert one.content == two.content
    assert network.connections[0].bytes_sent == 2 * len(whole.data)
    await connection.aclose()


async def test_pauses_take_exactly_their_virtual_time() -> None:
    network = MemoryNetwork(reply(Pause(100), b"a", Pause(0.1), b"b", Pause(1000), End()), delay=7)
    stream = await opened(network)
    assert anyio.current_time() == 7
    assert await stream.read(10) == b"a"
    assert anyio.current_time() == pytest.approx(107, abs=1e-9)
    # What the server sent while nobody was reading is there at once.
    await anyio.sleep(50)
    assert stream.get_extra_info("is_readable")
    assert await stream.read(10) == b"b"
    assert anyio.current_time() == pytest.approx(157, abs=1e-9)
    assert not stream.get_extra_info("is_readable")
    assert await stream.read(10) == b""
    assert await stream.read(10) == b""
    assert anyio.current_time() == pytest.approx(1107.1, abs=1e-9)


async def test_time_starts_at_zero_in_every_run() -> None:
    assert anyio.current_time() == 0


async def test_a_cancelled_read_loses_nothing() -> None:
    network = MemoryNetwork(reply(Repeat(b"x", 5, every=1.0), b"end", Stall()))
    stream = await opened(network)
    data = b""
    timeouts = 0
    while not data.endswith(b"end"):
        with anyio.move_on_after(0.3) as scope:
            data += await stream.read(100)
        timeouts += scope.cancelled_caught
    assert data == b"xxxxxend"
    assert timeouts > 5


async def test_read_timeout() -> None:
    network = MemoryNetwork(reply(Pause(3), b"late", Stall()))
    stream = await opened(network)
    with pytest.raises(httpcore.ReadTimeout):
        await stream.read(10, timeout=2)
    assert anyio.current_time() == 2
    assert await stream.read(10, timeout=1) == b"late"
    with pytest.raises(httpcore.ReadTimeout):
        await stream.read(10, timeout=5)
    assert anyio.current_time() == 8


@pytest.mark.parametrize("n", [0, 1, 30, 40])
async def test_faults(n: int) -> None:
    whole = sse_reply(tokens("Hello"))
    network = MemoryNetwork([cut_at(whole, n, Reset()), cut_at(whole, n, End())])
    reset, end = await opened(network), await opened(network)
    assert (await reset.read(1000) if n else b"") == whole.data[:n]
    with pytest.raises(httpcore.ReadError):
        await reset.read(1000)
    with pytest.raises(httpcore.WriteError):
        await reset.write(b"more")
    assert (await end.read(1000) if n else b"") == whole.data[:n]
    assert await end.read(1000) == b""


async def test_close_from_another_task_wakes_the_reader() -> None:
    network = MemoryNetwork(reply(Stall()))
    stream = await opened(network)

    async def close() -> None:
        await anyio.sleep(4)
        await stream.aclose()

    async with anyio.create_task_group() as group:
        group.start_soon(close)
        with pytest.raises(httpcore.ReadError):
            await stream.read(10)
    assert network.connections[0].closed_at == 4
    with pytest.raises(httpcore.WriteError):
        await stream.write(b"x")


async def test_a_request_in_many_writes_wakes_a_reader() -> None:
    network = MemoryNetwork(lambda request: reply(request.body, b"!"))
    stream = await network.connect_tcp("test", 80)

    async def write() -> None:
        for n in range(len(REQUEST)):
            await stream.write(REQUEST[n : n + 1])

    async with anyio.create_task_group() as group:
        group.start_soon(write)
        assert await stream.read(100) == b'{"a":1}'
        assert await stream.read(100) == b"!"
    await stream.write(REQUEST + REQUEST)
    assert [await stream.read(100) for _ in range(4)] == [b'{"a":1}', b"!"] * 2


async def test_refused_and_stalled_connects() -> None:
    network = MemoryNetwork(json_reply({}), refuse=2, stall=1, delay=3)
    for _ in range(2):
        with pytest.raises(httpcore.ConnectError):
            await network.connect_tcp("test", 80)
    with pytest.raises(httpcore.ConnectTimeout):
        await network.connect_tcp("test", 80, timeout=2)
    with pytest.raises(httpcore.ConnectTimeout):
        await network.connect_tcp("test", 80, timeout=2.5)
    stream = await network.connect_unix_socket("x.sock", timeout=3)
    assert anyio.current_time() == 7.5
    assert network.open_connections == 1
    assert network.connects[-1] == ("x.sock", 0)
    await stream.aclose()


async def test_an_endless_stream_is_read_only_as_far_as_it_is_read() -> None:
    network = MemoryNetwork(reply(b"", Repeat(b"x" * 100)))
    stream = await opened(network)
    for _ in range(50):
        await stream.read(65536)
    assert network.connections[0].bytes_sent == 5000


async def test_reads_yield() -> None:
    network = MemoryNetwork(reply(Repeat(b"x")))
    stream = await opened(network)
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            beats += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(beat)
        for _ in range(10):
            await stream.read(1)
        group.cancel_scope.cancel()
    assert beats >= 5


async def test_stale_kept_alive_connection() -> None:
    network = MemoryNetwork([json_reply({}).then(Pause(5), End()), json_reply({})])
    connection = await connect(network)
    await connection.request("GET", "http://test/")
    assert not connection.has_expired()
    await anyio.sleep(5)
    assert connection.has_expired()
    await connection.aclose()


async def test_the_steps_are_data() -> None:
    whole = sse_reply(
        ["a", Pause(1), "b"], chunked=False, one_segment_each=True, headers={"x": "y"}
    )
    kinds = [type(step) for step in whole.steps]
    assert kinds == [Send, Send, Pause, Send, Send]
    network = MemoryNetwork(whole)
    response = await (await connect(network)).request("GET", "http://test/")
    assert response.content == b"data: a\n\ndata: b\n\ndata: [DONE]\n\n"
    assert (b"x", b"y") in response.headers
