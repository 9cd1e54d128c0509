from __future__ import annotations

import copy
import sys
from typing import Any

import anyio
import pytest

from penstock._http.network import ConnectionFailed
from penstock._http.proxy import Proxy
from penstock._http.socks import connect_socks5
from penstock._wire.url import Origin
from penstock.testing.plugin import virtual_backend as anyio_backend
from tests.support.socks import HOST_UNREACHABLE, REFUSED_BY_RULES, SocksServer

from .deadlines import NoDeadline, OutOfTime, Within
from .pipe import Pipe, split

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

HTTP = Origin("http", "api.test", 80)
HTTPS = Origin("https", "api.test", 443)
SIX = Origin("https", "::1", 8443)


async def connect(pipe: Pipe, url: str, origin: Origin = HTTPS, deadline: Any = None) -> None:
    await connect_socks5(pipe, Proxy.parse(url), origin, deadline or NoDeadline())


async def test_a_proxy_that_does_not_answer() -> None:
    before = anyio.current_time()
    with pytest.raises(OutOfTime):
        await connect(Pipe(), "socks5://proxy.test", deadline=Within(4))
    assert anyio.current_time() == before + 4


def socks_pipe(server: SocksServer, cut: int = 100, extra: bytes = b"") -> Pipe:
    """A pipe to this proxy, whose answers come in pieces of so many bytes."""
    pipe = Pipe()

    def answer(data: bytes) -> None:
        reply = server.feed(data)
        if server.connected:
            reply += extra
        pipe.feed(*split(reply, list(range(0, len(reply), cut))))

    pipe.on_send = answer
    return pipe


@pytest.mark.parametrize("cut", [1, 2, 3, 100])
@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
@pytest.mark.parametrize("secret", [False, True])
@pytest.mark.parametrize("origin", [HTTP, HTTPS, SIX, Origin("http", "127.0.0.1", 8080)])
async def test_socks(scheme: str, secret: bool, origin: Origin, cut: int) -> None:
    server = SocksServer(credentials=("me", "secret") if secret else None)
    pipe = socks_pipe(server, cut)
    user = "me:secret@" if secret else ""
    await connect(pipe, f"{scheme}://{user}proxy.test", origin)
    assert server.target == (origin.host, origin.port)
    assert server.given == (("me", "secret") if secret else None)
    assert server.rest == b""
    assert pipe.is_clean()


async def test_socks_offers_a_password_only_if_there_is_one() -> None:
    server = SocksServer()
    await connect(socks_pipe(server), "socks5://proxy.test")
    assert server.offered == b"\x00"
    server = SocksServer()
    await connect(socks_pipe(server), "socks5://me:x@proxy.test")
    assert set(server.offered) == {0, 2}
    assert server.given is None


@pytest.mark.parametrize(
    ("server", "url", "reason", "permanent"),
    [
        (SocksServer(credentials=("me", "x")), "socks5://p", "another authentication", True),
        (SocksServer(method=1), "socks5://p", "another authentication", True),
        (SocksServer(credentials=("me", "x")), "socks5://me:y@p", "refused the password", True),
        (SocksServer(reply=REFUSED_BY_RULES), "socks5://p", "could not connect", False),
        (SocksServer(reply=HOST_UNREACHABLE), "socks5://p", "could not connect", False),
        (SocksServer(reply=99), "socks5://p", "not understood", False),
    ],
)
async def test_socks_refused(server: SocksServer, url: str, reason: str, permanent: bool) -> None:
    with pytest.raises(ConnectionFailed, match=reason) as caught:
        await connect(socks_pipe(copy.copy(server)), url)
    assert caught.value.permanent == permanent
    assert "me:y" not in str(caught.value)


@pytest.mark.parametrize(
    "items",
    [[b"HT", b"TP"], [b"\x04\x00"], [b"\x05\x00", b"\x05\x00\x00\x07\x00\x00"],
     [b"\x05\x00", b"\x04\x00\x00\x01" + bytes(6)]],
)  # fmt: skip
async def test_socks_answered_with_junk(items: list[bytes]) -> None:
    with pytest.raises(ConnectionFailed, match="not understood"):
        await connect(Pipe(*items, b""), "socks5://proxy.test")


@pytest.mark.parametrize("cut", range(12))
async def test_socks_cut_off(cut: int) -> None:
    answer = b"\x05\x00" + b"\x05\x00\x00\x01" + bytes(6)
    pipe = Pipe(*[answer[:cut][i : i + 1] for i in range(cut)], b"")
    with pytest.raises(ConnectionFailed, match="closed the connection"):
        await connect(pipe, "socks5://proxy.test")


async def test_socks_bytes_before_the_tunnel_is_in_use() -> None:
    with pytest.raises(ConnectionFailed, match="before the tunnel was in use"):
        await connect(socks_pipe(SocksServer(), extra=b"early"), "socks5://proxy.test")


async def test_socks_bound_to_a_name_or_an_ipv6_address() -> None:
    for bound in (b"\x03\x04name" + bytes(2), b"\x04" + bytes(18)):
        reply = b"\x05\x00\x00" + bound
        for cut in (1, 100):
            pipe = Pipe(b"\x05\x00", *split(reply, list(range(0, len(reply), cut))))
            await connect(pipe, "socks5://proxy.test")
            assert pipe.is_clean()


@pytest.mark.parametrize("url", [f"socks5://{'u' * 256}:x@p", f"socks5://u:{'x' * 256}@p"])
async def test_socks_has_no_room_for_a_longer_password(url: str) -> None:
    with pytest.raises(ConnectionFailed, match="255") as caught:
        await connect(socks_pipe(SocksServer(credentials=("a", "b"))), url)
    assert caught.value.permanent


async def test_socks_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)
    with pytest.raises(ConnectionFailed, match=r"penstock\[socks\]") as caught:
        await connect(Pipe(), "socks5://proxy.test")
    assert caught.value.permanent
