from __future__ import annotations

from typing import Any

import anyio
import pytest

from penstock._http.network import ConnectionFailed
from penstock._http.proxy import Proxy
from penstock._http.tunnel import tunnel
from penstock._wire.url import Origin
from penstock.testing.plugin import virtual_backend as anyio_backend
from tests.support.socks import SocksServer

from .deadlines import NoDeadline, OutOfTime, Within
from .pipe import Pipe, split
from .sockets import run_virtual

__all__ = ["anyio_backend"]

HTTPS = Origin("https", "api.test", 443)
SIX = Origin("https", "::1", 8443)

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


async def connect(
    pipe: Pipe, url: str = "http://proxy.test:3128", origin: Origin = HTTPS, deadline: Any = None
) -> None:
    await tunnel(pipe, Proxy.parse(url), origin, deadline or NoDeadline())


def test_connect_in_any_splits() -> None:
    async def main() -> None:
        for place in range(1, len(ESTABLISHED)):
            pipe = Pipe(*split(ESTABLISHED, [place]))
            await connect(pipe)
            assert bytes(pipe.sent) == (
                b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n"
            )
            assert pipe.is_clean()
            pipe.feed(b"through the tunnel")
            assert await pipe.receive(NoDeadline()) == b"through the tunnel"

    run_virtual("asyncio", main)


@pytest.mark.anyio
async def test_connect_with_a_password_and_to_an_ipv6_address() -> None:
    pipe = Pipe(ESTABLISHED)
    await connect(pipe, "https://me:secret@proxy.test", SIX)
    assert pipe.sent.startswith(b"CONNECT [::1]:8443 HTTP/1.1\r\nHost: [::1]:8443\r\n")
    assert b"\r\nProxy-Authorization: Basic bWU6c2VjcmV0\r\n" in pipe.sent


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("status", "permanent"),
    [(302, True), (403, True), (407, True), (499, True), (500, False), (502, False), (504, False)],
)
async def test_connect_refused(status: int, permanent: bool) -> None:
    for reason in (b" Because Of That", b" ", b""):
        pipe = Pipe(b"HTTP/1.1 %d%b\r\nContent-Length: 2\r\n\r\nno" % (status, reason))
        with pytest.raises(ConnectionFailed) as caught:
            await connect(pipe, "http://me:secret@proxy.test")
        expected = f"the proxy refused to connect: {status} {reason.decode().strip()}".rstrip()
        assert str(caught.value) == expected
        assert caught.value.permanent == permanent


@pytest.mark.anyio
@pytest.mark.parametrize("answer", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n"])
async def test_connect_answered_with_junk(answer: bytes) -> None:
    with pytest.raises(ConnectionFailed, match="response is not understood") as caught:
        await connect(Pipe(answer))
    assert not caught.value.permanent


@pytest.mark.anyio
@pytest.mark.parametrize("items", [[b""], [ESTABLISHED[:9], b""]])
async def test_connect_cut_off(items: list[bytes]) -> None:
    with pytest.raises(ConnectionFailed, match="the proxy closed the connection"):
        await connect(Pipe(*items))


@pytest.mark.anyio
async def test_connect_reset() -> None:
    with pytest.raises(ConnectionFailed, match="gone"):
        await connect(Pipe(ConnectionFailed("gone")))


@pytest.mark.anyio
async def test_bytes_before_the_tunnel_is_in_use() -> None:
    # They would be taken for the server's.
    with pytest.raises(ConnectionFailed, match="before the tunnel was in use"):
        await connect(Pipe(ESTABLISHED + b"\x16\x03"))


@pytest.mark.anyio
async def test_a_proxy_that_does_not_answer() -> None:
    before = anyio.current_time()
    with pytest.raises(OutOfTime):
        await connect(Pipe(), deadline=Within(4))
    assert anyio.current_time() == before + 4


@pytest.mark.anyio
async def test_a_socks_proxy() -> None:
    server = SocksServer()
    pipe = Pipe()
    pipe.on_send = lambda data: pipe.feed(server.feed(data))
    assert await tunnel(pipe, Proxy.parse("socks5://proxy.test"), HTTPS, NoDeadline()) is pipe
    assert server.target == ("api.test", 443)
