"""`ResponseStream` in use: the bytes of any endpoint, with the guarantees of a stream."""

from __future__ import annotations

import gzip
import io
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

import penstock
from penstock import Limiter, ResponseStream, StreamState, Timeouts
from penstock.testing.cuts import every_byte
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import error_reply, status_reply
from penstock.testing.script import End, Pause, Reply, Reset, Send, Stall
from tests.support.chat import KEY, Watcher, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n"
SLOW = Reply((Send(HEAD), Pause(1), Send(b"abc"), Pause(1), Send(b"def")))
HANGING = Reply((Send(HEAD + b"abc"), Stall()))


@pytest.mark.parametrize("chunked", [True, False, "close"])
async def test_the_bytes_in_any_framing(chunked: Any) -> None:
    whole = status_reply(200, b"abcdef", chunked=chunked)
    network = MemoryNetwork([every_byte(whole), whole])
    async with client_on(network) as client:
        for _ in range(2):
            async with client.stream("GET", "/x") as body:
                pieces = [piece async for piece in body]
                assert b"".join(pieces) == b"abcdef"
                assert b"" not in pieces
                assert body.state is StreamState.COMPLETED
                assert (body.status_code, body.statistics().events) == (200, 0)
        assert len(network.connections) == (2 if chunked == "close" else 1)


async def test_read_gives_the_rest_and_may_be_repeated() -> None:
    async with client_on(SLOW) as client:
        async with client.stream("GET", "/x") as body:
            assert isinstance(body, ResponseStream)
            read: list[bytes] = []
            while not read:
                with anyio.move_on_after(0.4):
                    read.append(await body.read())
            assert read == [b"abcdef"]
            assert await body.read() == b""
        body = client.stream("GET", "/x")
        assert await anext(body) == b"abc"
        assert await body.read() == b"def"


async def test_content_coding_is_removed() -> None:
    packed = status_reply(200, gzip.compress(b"abc" * 100), {"content-encoding": "gzip"})
    async with client_on(packed) as client, client.stream("GET", "/x") as body:
        assert await body.read() == b"abc" * 100


async def test_an_empty_body() -> None:
    async with client_on(status_reply(204)) as client, client.stream("DELETE", "/x") as body:
        assert [piece async for piece in body] == []
        assert body.status_code == 204


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (End(), penstock.StreamInterruptedError),
        (Reset(), penstock.StreamInterruptedError),
        (Stall(), penstock.ReadTimeout),
    ],
)
async def test_any_other_end_is_an_error(fault: End | Reset | Stall, kind: type[Exception]) -> None:
    network = MemoryNetwork(Reply((Send(HEAD + b"abc"), fault)))
    async with client_on(network, timeouts=Timeouts(read=3)) as client:
        body = client.stream("GET", "/x")
        assert await anext(body) == b"abc"
        for _ in range(2):
            with pytest.raises(kind):
                await body.read()
    assert len(network.requests) == 1


async def test_it_is_sent_again_before_the_first_byte() -> None:
    network = MemoryNetwork([error_reply(503), Reply((Send(HEAD), Reset())), SLOW])
    async with client_on(network) as client, client.stream("PUT", "/x", content=b"abc") as body:
        assert await body.read() == b"abcdef"
    assert [request.body for request in network.requests] == [b"abc"] * 3


@pytest.mark.parametrize("status", [302, 401, 429, 503])
async def test_any_status_may_be_an_answer(status: int) -> None:
    network = MemoryNetwork(error_reply(status, f"no: {KEY}"))
    async with client_on(network) as client:
        async with client.stream("GET", "/x", check_status=False) as body:
            assert body.status_code == status
            assert b"no: " in await body.read()
        assert len(network.requests) == 1
        with pytest.raises(penstock.APIStatusError) as caught:
            await client.stream("GET", "/x", max_retries=0).read()
        assert caught.value.status_code == status
        assert KEY not in f"{caught.value} {vars(caught.value)}"


@pytest.mark.parametrize(
    ("limits", "kind", "at"),
    [
        ({"first_token": 0.5}, penstock.FirstTokenTimeout, 0.5),
        ({"idle": 0.5}, penstock.IdleTimeout, 1.5),
        ({"total": 1.5}, penstock.TotalTimeout, 1.5),
    ],
)
async def test_deadlines_count_any_bytes(
    limits: dict[str, float], kind: type[Exception], at: float
) -> None:
    async with client_on(SLOW, max_retries=0) as client:
        with pytest.raises(kind):
            await client.stream("GET", "/x", timeouts=Timeouts(**limits)).read()
        assert anyio.current_time() == pytest.approx(at)


@pytest.mark.parametrize("way", ["block", "cancel"])
async def test_leaving_closes_the_connection_at_once(way: str) -> None:
    network, limiter, watcher = MemoryNetwork(HANGING), Limiter(1), Watcher()
    async with client_on(network, limiter=limiter, observer=watcher) as client:
        with anyio.CancelScope() as scope:
            async with client.stream("GET", "/x") as body:
                await anext(body)
                if way == "cancel":
                    scope.cancel()
                    await body.read()
        assert network.open_connections == 0
        assert limiter.statistics().in_flight == 0
        assert body.state is StreamState.CLOSED
    assert watcher.outcomes() == ["cancelled" if way == "cancel" else "abandoned"]


# --- bodies that come in pieces ---


async def pieces(*given: bytes, every: float = 0) -> AsyncIterator[bytes]:  # noqa: ASYNC900 - its user closes it
    for piece in given:
        if every:
            await anyio.sleep(every)
        yield piece


@pytest.mark.parametrize("kind", ["async", "sync", "list", "file"])
async def test_a_body_in_pieces(kind: str) -> None:
    content: Any = {
        "async": pieces(b"ab", b"", b"c"),
        "sync": iter([b"ab", b"c"]),
        "list": [b"ab", b"c"],
        "file": io.BytesIO(b"abc"),
    }[kind]
    network = MemoryNetwork(status_reply(200, b"ok"))
    async with client_on(network) as client:
        response = await client.request("POST", "/files", content=content)
        assert response.content == b"ok"
    [request] = network.requests
    assert request.body == b"abc"
    assert request.headers["transfer-encoding"] == "chunked"
    assert request.headers["content-type"] == "application/octet-stream"
    assert "content-length" not in request.headers


async def test_a_body_in_pieces_is_given_as_fast_as_it_comes() -> None:
    network = MemoryNetwork(status_reply(200, b"ok"))
    timeouts = Timeouts(read=2)
    async with client_on(network, timeouts=timeouts) as client:
        slow = pieces(b"a", b"b", b"c", every=5)
        async with client.stream("PUT", "/x", content=slow) as body:
            assert await body.read() == b"ok"
    assert anyio.current_time() == 15
    assert network.requests[0].body == b"abc"


@pytest.mark.parametrize("again", [True, False])
async def test_only_what_can_be_iterated_again_is_sent_again(again: bool) -> None:
    network = MemoryNetwork([error_reply(503), status_reply(200, b"ok")])
    content: Any = [b"ab", b"c"] if again else iter([b"ab", b"c"])
    async with client_on(network) as client:
        if again:
            assert (await client.request("POST", "/x", content=content)).content == b"ok"
        else:
            with pytest.raises(penstock.InternalServerError):
                await client.request("POST", "/x", content=content)
    assert [request.body for request in network.requests] == [b"abc"] * (1 + again)


async def test_a_connection_failed_before_the_body_sends_an_iterator_again() -> None:
    network = MemoryNetwork([status_reply(200, b"one"), status_reply(200, b"two")])
    async with client_on(network, max_retries=0) as client:
        assert (await client.request("GET", "/x")).content == b"one"
        network.connections[0].dead = Reset()
        content = pieces(b"a", b"b")
        assert (await client.request("POST", "/x", content=content)).content == b"two"
    assert network.requests[-1].body == b"ab"


async def test_what_the_iterable_raises_ends_the_request() -> None:
    async def broken() -> AsyncIterator[bytes]:  # noqa: ASYNC900 - its user closes it
        yield b"a"
        raise KeyError("mine")

    network = MemoryNetwork(status_reply(200, b"ok"))
    async with client_on(network, limiter=(limiter := Limiter(1))) as client:
        for content in (broken(), iter([b"a", 3])):
            with pytest.raises((KeyError, TypeError)):
                await client.request("POST", "/x", content=content)  # type: ignore[arg-type]
            assert network.open_connections == 0
            assert limiter.statistics().in_flight == 0
    assert network.requests == []


async def test_a_cancelled_upload_ends_its_iterable_and_cannot_be_resumed() -> None:
    closed: list[str] = []

    async def endless() -> AsyncIterator[bytes]:  # noqa: ASYNC900 - its user closes it
        try:
            while True:
                await anyio.sleep(1)
                yield b"a"
        finally:
            closed.append("closed")

    network = MemoryNetwork(status_reply(200, b"ok"))
    async with client_on(network) as client:
        body = client.stream("POST", "/x", content=endless())
        with anyio.move_on_after(3.5):
            await anext(body)
        assert closed == ["closed"]
        assert network.open_connections == 0
        with pytest.raises(RuntimeError, match="used up"):
            await anext(body)


@pytest.mark.parametrize(
    ("content", "kind"), [("text", TypeError), ({"a": 1}, TypeError), (3, TypeError)]
)
async def test_what_is_no_content(content: Any, kind: type[Exception]) -> None:
    async with client_on(status_reply(200)) as client:
        with pytest.raises(kind, match="content must be bytes, or an iterable"):
            client.stream("POST", "/x", content=content)
        with pytest.raises(TypeError, match="not both"):
            await client.request("POST", "/x", content=b"", json={})
