"""What a peer may send before a body begins is bounded; beyond that there is an error, soon."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from penstock import APIConnectionError, APIResponseError
from penstock._http import dial, lookup
from penstock._http.dial import Dialer
from penstock._http.head_gate import MAX_HEAD_BYTES
from penstock._http.network import ConnectionFailed, NetworkStream
from penstock._wire.head import MAX_HEADER_LINES
from penstock._wire.url import Origin
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import sse_reply, tokens
from penstock.testing.script import Repeat, Reply, reply
from tests.http.deadlines import NoDeadline
from tests.support.chat import REQUEST, client_on

from .memory import PeakMemory

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\n"
ENDLESS: dict[str, Reply] = {
    "value": reply(OK + b"x-a: ", Repeat(b"a" * 1000)),
    "name": reply(OK, Repeat(b"a" * 1000)),
    "status line": reply(b"HTTP/1.1 200 ", Repeat(b"O" * 1000)),
    "lines": reply(OK, Repeat(b"x-a: b\r\n" * 50)),
    "folded lines": reply(OK + b"x-a: b\r\n", Repeat(b" c\r\n" * 50)),
    "short pieces": reply(OK, Repeat(b"a" * 50)),
    "informational heads": reply(Repeat(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")),
    "shortest informational heads": reply(Repeat(b"HTTP/1.1 100 \r\n\r\n" * 20)),
    "large informational heads": reply(
        Repeat(b"HTTP/1.1 103 Early Hints\r\nlink: " + b"a" * 9000 + b"\r\n\r\n")
    ),
    "no HTTP at all": reply(Repeat(b"\0" * 1000)),
}


@pytest.mark.sampled(0.2)
@pytest.mark.parametrize("kind", ENDLESS)
async def test_a_head_without_an_end(kind: str) -> None:
    network = MemoryNetwork(ENDLESS[kind])
    async with client_on(network) as client:
        with PeakMemory() as memory, pytest.raises(APIResponseError) as caught:
            await client.complete(REQUEST)
    if kind != "no HTTP at all":
        assert f"larger than {MAX_HEAD_BYTES} bytes" in str(caught.value)
    # What it says will not change: it is not asked again.
    assert len(network.requests) == 1
    assert network.connections[0].bytes_sent <= MAX_HEAD_BYTES + 65536
    assert memory.peak < 6_000_000
    assert network.open_connections == 0


@pytest.mark.parametrize("informational", [0, 1, 10])
async def test_a_head_within_the_bound(informational: int) -> None:
    whole = sse_reply(tokens("Hi"))
    early = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * informational
    own = len(whole.data[: whole.data.index(b"\r\n\r\n") + 4])
    for size, fits in ((MAX_HEAD_BYTES, True), (MAX_HEAD_BYTES + 1, False)):
        padding = b"x-a: " + b"a" * (size - own - len(early) - 7) + b"\r\n"
        line = whole.data.index(b"\r\n") + 2
        data = early + whole.data[:line] + padding + whole.data[line:]
        async with client_on(reply(data)) as client:
            if fits:
                assert (await client.complete(REQUEST)).choices[0].message.content == "Hi"
            else:
                with pytest.raises(APIResponseError, match="larger than"):
                    await client.complete(REQUEST)


async def test_the_number_of_header_lines() -> None:
    for more, fits in ((0, True), (1, False)):
        # The reply has two lines of its own.
        lines = [(f"x-{n}", "1") for n in range(MAX_HEADER_LINES - 2 + more)]
        network = MemoryNetwork(sse_reply(tokens("Hi"), headers=lines))
        async with client_on(network) as client:
            if fits:
                assert (await client.complete(REQUEST)).choices[0].message.content == "Hi"
            else:
                with pytest.raises(APIResponseError, match=f"more than {MAX_HEADER_LINES} header"):
                    await client.complete(REQUEST)
        assert len(network.requests) == 1


async def test_the_head_of_a_proxy() -> None:
    network = MemoryNetwork(reply(b"HTTP/1.1 200 OK\r\nx-a: ", Repeat(b"a" * 1000)))
    url, proxy = "https://api.test/v1", "http://proxy.test"
    async with client_on(network, base_url=url, proxy=proxy, max_retries=0) as client:
        with pytest.raises(APIConnectionError, match="head of the proxy's response is too large"):
            await client.complete(REQUEST)
    assert network.connections[0].bytes_sent <= MAX_HEAD_BYTES + 65536
    assert network.open_connections == 0


@pytest.mark.parametrize("count", [1, 2, 16, 17, 5000])
async def test_a_name_with_many_addresses(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def addresses() -> Iterator[tuple[Any, ...]]:
        for n in range(count):
            host = f"10.0.{n // 256}.{n % 256}"
            yield socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 80)

    async def resolve(*_: Any, **__: Any) -> list[tuple[Any, ...]]:
        return list(addresses())

    class Refusing:
        async def connect_tcp(self, host: str, port: int, family: int) -> NetworkStream:
            tried.append(host)
            raise ConnectionRefusedError(111, "refused")

    monkeypatch.setattr(anyio, "getaddrinfo", resolve)
    monkeypatch.setattr(dial, "_connectors", lambda trio: Refusing())
    with pytest.raises(ConnectionFailed, match="cannot connect"):
        await Dialer(Origin("http", "many.test", 80)).dial(NoDeadline())
    assert len(tried) == min(count, lookup.MAX_ADDRESSES)
