"""`ResponseStream` in use: the bytes of any endpoint, with the guarantees of a stream."""

from __future__ import annotations

import gzip
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
