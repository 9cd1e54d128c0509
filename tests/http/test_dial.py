from __future__ import annotations

import asyncio
import errno
import math
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from penstock._http import dial, tls
from penstock._http.asyncio_stream import AsyncioStream
from penstock._http.connections import Connections
from penstock._http.dial import ATTEMPT_DELAY, Dialer
from penstock._http.exchange import Exchange
from penstock._http.foreign_stream import ForeignStream
from penstock._http.network import ConnectionFailed, NetworkStream
from penstock._http.outgoing import Outgoing
from penstock._http.proxy import Proxy
from penstock._http.tls import TLSStream
from penstock._http.trio_stream import TrioStream
from penstock._policy.deadlines import ConnectDeadline
from penstock._wire.request_head import RequestHead
from penstock._wire.url import Origin
from penstock.errors import APITimeoutError, ConnectTimeout, TotalTimeout
from penstock.testing.certificates import _authority, client_ssl_context
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import json_reply
from penstock.testing.script import Reply, Send, StartTLS
from penstock.testing.server import Server, closed_port, serve
from penstock.testing.sweep import BackendName, cancel_sweep, open_fds
from penstock.timeouts import Timeouts
from tests.support.socks import serve_socks

from .deadlines import NoDeadline
from .pipe import ORIGIN, Pipe, TLSPeer
from .sockets import run_virtual, until

pytestmark = pytest.mark.anyio

HELLO = json_reply({"hello": "world"})
V4, V6 = socket.AF_INET, socket.AF_INET6


def port_of(server: Server) -> int:
    return int(server.base_url.rpartition(":")[2].partition("/")[0])


def deadline(seconds: float | None = None) -> ConnectDeadline:
    """The deadline that dialling is given."""
    now = anyio.current_time()
    return ConnectDeadline(Timeouts(connect=seconds), now=now, total_at=math.inf)


async def get(dialer: Dialer) -> bytes:
    """One exchange over a connection of this dialer."""
    connections = Connections(dialer)
    stream, reused = await connections.acquire(deadline())
    assert not reused
    exchange = Exchange(connections, stream, NoDeadline(), reused=False)
    try:
        host = dialer.origin.authority.encode()
        await exchange.send(Outgoing(RequestHead("GET", "/v1/hello", [(b"Host", host)]), b""))
        return await exchange.read_all(1000)
    finally:
        await exchange.aclose()
        await connections.aclose(1.0)  # noqa: ASYNC102


# --- origins ---


@pytest.mark.parametrize(
    ("scheme", "proxy", "forwards"),
    [
        ("http", None, False),
        ("http", "http://p", True),
        ("http", "https://p", True),
        ("http", "socks5://p", False),
        ("https", "http://p", False),
    ],
)
def test_when_a_proxy_forwards(scheme: str, proxy: str | None, forwards: bool) -> None:
    dialer = Dialer(Origin(scheme, "a", 1), proxy=Proxy.parse(proxy) if proxy else None)
    assert dialer.forwards == forwards


# --- real sockets ---


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_plain(host: str) -> None:
    async with serve(HELLO) as server:
        assert b"world" in await get(Dialer(Origin("http", host, port_of(server))))
        await server.wait_closed()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_tls(host: str) -> None:
    async with serve(HELLO, tls=True) as server:
        origin = Origin("https", host, port_of(server))
        assert b"world" in await get(Dialer(origin, ssl_context=server.client_ssl_context()))
        await server.wait_closed()


async def test_a_certificate_nobody_vouches_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    before = open_fds()
    async with serve(HELLO, tls=True) as server:
        dialer = Dialer(Origin("https", "127.0.0.1", port_of(server)))
        with pytest.raises(ConnectionFailed, match="certificate was refused") as caught:
            await dialer.dial(deadline())
        assert caught.value.permanent
        await server.wait_closed()
    assert open_fds() == before


async def test_the_environment_names_the_authorities(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "ca.pem"
    _authority().cert_pem.write_to_path(str(path))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    async with serve(HELLO, tls=True) as server:
        assert b"world" in await get(Dialer(Origin("https", "127.0.0.1", port_of(server))))


async def test_one_context_for_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[ssl.SSLContext] = []

    def shared_context() -> ssl.SSLContext:
        made.append(client_ssl_context())
        return made[-1]

    monkeypatch.setattr(tls, "shared_context", shared_context)
    async with serve(HELLO, tls=True) as server:
        dialer = Dialer(Origin("https", "localhost", port_of(server)))
        for _ in range(3):
            assert b"world" in await get(dialer)
    async with serve(HELLO) as server:
        assert b"world" in await get(Dialer(Origin("http", "localhost", port_of(server))))
    assert len(made) == 1


async def test_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    async with serve(HELLO, uds=path):
        assert b"world" in await get(Dialer(ORIGIN, uds=path))
    with pytest.raises(ConnectionFailed, match=r"cannot connect to .*/s: "):
        await Dialer(ORIGIN, uds=path).dial(deadline())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
async def test_a_port_where_nobody_listens(host: str) -> None:
    before = open_fds()
    origin = Origin("http", host, closed_port())
    with pytest.raises(ConnectionFailed) as caught:
        await Dialer(origin).dial(deadline())
    expected = f"cannot connect to {origin.host_and_port}: Connection refused"
    assert str(caught.value) == expected
    assert not caught.value.permanent
    await anyio.lowlevel.checkpoint()
    assert open_fds() == before


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_address_needs_no_thread(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def started(thread: threading.Thread) -> None:
        raise AssertionError("a thread")

    async def looked_up(*args: Any, **more: Any) -> None:
        raise AssertionError("a look-up")

    monkeypatch.setattr(threading.Thread, "start", started)
    monkeypatch.setattr(anyio, "getaddrinfo", looked_up)
    family = V6 if ":" in host else V4
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        listener.listen()
        stream = await Dialer(Origin("http", host, listener.getsockname()[1])).dial(deadline())
        await stream.aclose(1.0)


@pytest.mark.parametrize("exiting", [False, True])
async def test_a_name_when_no_thread_can_look_it_up(
    exiting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a handler of `atexit`: the calling thread does it then."""

    async def refused(*args: Any, **more: Any) -> None:
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    with socket.socket(V4) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        dialer = Dialer(Origin("http", "localhost", listener.getsockname()[1]))
        monkeypatch.setattr(anyio, "getaddrinfo", refused)
        if not exiting:
            with pytest.raises(RuntimeError, match="after interpreter shutdown"):
                await dialer.dial(deadline())
            return
        monkeypatch.setattr(threading.Thread, "is_alive", lambda _: False)
        stream = await dialer.dial(deadline())
        await stream.aclose(1.0)


@pytest.mark.parametrize("host", ["does-not-exist.invalid", "a" * 64, "a..b"])
async def test_a_name_that_is_none(host: str) -> None:
    with pytest.raises(ConnectionFailed, match=f"cannot resolve {host}"):
        await Dialer(Origin("http", host, 80)).dial(deadline())


@pytest.mark.parametrize("total", [None, 0.02])
async def test_a_handshake_that_stalls_ends_by_the_connect_deadline(total: float | None) -> None:
    async with serve(HELLO, tls="stall") as server:
        now = anyio.current_time()
        timeouts = Timeouts(connect=0.03, total=total)
        deadline = ConnectDeadline(timeouts, now=now, total_at=now + (total or 1e9))
        dialer = Dialer(
            Origin("https", "127.0.0.1", port_of(server)), ssl_context=client_ssl_context()
        )
        expected: type[APITimeoutError] = ConnectTimeout if total is None else TotalTimeout
        with pytest.raises(expected):
            await dialer.dial(deadline)
        assert 0.015 < anyio.current_time() - now < 5
        await server.wait_closed()


@pytest.mark.sampled(0.2)
@pytest.mark.parametrize("tls_kind", ["none", "whole", "stall"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
def test_a_sweep_of_cancellations_leaves_no_socket(
    backend: BackendName, host: str, tls_kind: str
) -> None:
    before = open_fds()
    kind: Any = {"none": False, "whole": True, "stall": "stall"}[tls_kind]

    @asynccontextmanager
    async def scenario() -> AsyncIterator[Callable[[], Any]]:
        async with serve(HELLO, tls=kind) as server:
            origin = Origin("https" if kind else "http", host, port_of(server))
            dialer = Dialer(origin, ssl_context=client_ssl_context())

            async def body() -> None:
                if kind == "stall":
                    with pytest.raises(ConnectTimeout):
                        await dialer.dial(deadline(0.02))
                    return
                stream = await dialer.dial(deadline())
                stream.close()
                with anyio.CancelScope(shield=True):
                    await stream.aclose(1.0)

            yield body

    def check(point: int, mode: str) -> None:
        assert open_fds() == before

    points = cancel_sweep(backend, scenario, check=check, real=True)
    assert max(points.values()) >= (2 if host == "localhost" or kind else 1)


# --- proxies, on real sockets ---


def proxy_to(server: Server, scheme: str = "http", user: str = "") -> Proxy:
    return Proxy.parse(f"{scheme}://{user}127.0.0.1:{port_of(server)}")


async def test_forwarded_by_a_proxy() -> None:
    async with serve(HELLO) as server:
        dialer = Dialer(Origin("http", "api.test", 8080), proxy=proxy_to(server, user="me:x@"))
        assert b"world" in await get(dialer)
        (request,) = server.requests
        assert request.target == "http://api.test:8080/v1/hello"
        assert request.headers["proxy-authorization"] == "Basic bWU6eA=="


async def test_through_a_proxy_s_tunnel() -> None:
    established = Reply((Send(b"HTTP/1.1 200 OK\r\n\r\n"), StartTLS()))
    async with serve([established, HELLO]) as server:
        dialer = Dialer(
            Origin("https", "localhost", 443),
            proxy=proxy_to(server, user="me:x@"),
            ssl_context=client_ssl_context(),
        )
        assert b"world" in await get(dialer)
        connect, request = server.requests
        assert (connect.method, connect.target) == ("CONNECT", "localhost:443")
        assert connect.headers["proxy-authorization"] == "Basic bWU6eA=="
        assert request.target == "/v1/hello"
        assert "proxy-authorization" not in request.headers


async def test_refused_by_a_proxy() -> None:
    before = open_fds()
    async with serve(Reply((Send(b"HTTP/1.1 407 Who are you?\r\n\r\n"),))) as server:
        dialer = Dialer(Origin("https", "localhost", 443), proxy=proxy_to(server))
        with pytest.raises(ConnectionFailed, match="407 Who are you"):
            await dialer.dial(deadline())
        await server.wait_closed()
    assert open_fds() == before


async def test_a_proxy_whose_name_is_none() -> None:
    dialer = Dialer(ORIGIN, proxy=Proxy("http", "does-not-exist.invalid", 3128))
    with pytest.raises(ConnectionFailed, match=r"cannot resolve the proxy does-not-exist\.invalid"):
        await dialer.dial(deadline())


async def test_a_proxy_that_is_not_there() -> None:
    port = closed_port()
    dialer = Dialer(ORIGIN, proxy=Proxy("http", "127.0.0.1", port))
    with pytest.raises(ConnectionFailed, match=f"cannot connect to the proxy 127.0.0.1:{port}: "):
        await dialer.dial(deadline())


@pytest.mark.parametrize("kind", ["http", "https"])
@pytest.mark.parametrize("credentials", [None, ("me", "secret")])
async def test_through_a_socks_proxy(kind: str, credentials: tuple[str, str] | None) -> None:
    async with (
        serve(HELLO, tls=kind == "https") as server,
        serve_socks(credentials=credentials) as proxy,
    ):
        user = "me:secret@" if credentials else ""
        dialer = Dialer(
            Origin(kind, "127.0.0.1", port_of(server)),
            proxy=Proxy.parse(f"socks5://{user}127.0.0.1:{proxy.port}"),
            ssl_context=client_ssl_context(),
        )
        assert b"world" in await get(dialer)
        assert proxy.connections[0].target == ("127.0.0.1", port_of(server))
        assert server.requests[0].target == "/v1/hello"
        await server.wait_closed()


async def test_refused_by_a_socks_proxy() -> None:
    before = open_fds()
    async with serve_socks(reply=5) as proxy:
        dialer = Dialer(ORIGIN, proxy=Proxy("socks5", "127.0.0.1", proxy.port))
        with pytest.raises(ConnectionFailed, match="CONNECTION_REFUSED"):
            await dialer.dial(deadline())
        await until(lambda: open_fds() <= before + 2)


@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
def test_a_sweep_of_cancellations_through_a_tunnel_leaves_no_socket(backend: BackendName) -> None:
    before = open_fds()
    established = Reply((Send(b"HTTP/1.1 200 OK\r\n\r\n"), StartTLS()))

    @asynccontextmanager
    async def scenario() -> AsyncIterator[Callable[[], Any]]:
        async with serve([established, HELLO]) as server:
            dialer = Dialer(
                Origin("https", "localhost", 443),
                proxy=proxy_to(server),
                ssl_context=client_ssl_context(),
            )

            async def body() -> None:
                assert b"world" in await get(dialer)

            yield body

    def check(point: int, mode: str) -> None:
        assert open_fds() == before

    points = cancel_sweep(backend, scenario, check=check, real=True)
    assert min(points.values()) >= 5


# --- pipes in place of sockets, and virtual time ---

Connect = Callable[[str], Any]


def connecting(monkeypatch: pytest.MonkeyPatch, connect: Connect, *addresses: str) -> list[str]:
    """Have names resolve to these addresses, and `connect` called with each; gives the order."""
    tried: list[str] = []

    async def getaddrinfo(host: str, port: int, **more: Any) -> list[Any]:
        return [
            (V6 if ":" in address else V4, socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]

    async def connect_tcp(host: str, port: int, family: int) -> NetworkStream:
        assert family == (V6 if ":" in host else V4)
        tried.append(host)
        stream: NetworkStream = await connect(host)
        return stream

    monkeypatch.setattr(anyio, "getaddrinfo", getaddrinfo)
    connectors = SimpleNamespace(connect_tcp=connect_tcp)
    monkeypatch.setattr(dial, "_connectors", lambda trio: connectors)
    return tried


virtual_backends = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@virtual_backends
def test_tls_inside_a_proxy_s_tls(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        pipe = Pipe()
        proxy = TLSPeer(pipe)

        def answer(data: bytes) -> None:
            assert data.startswith(b"CONNECT 127.0.0.1:443 HTTP/1.1\r\n")
            servers.append(TLSPeer(proxy))
            proxy.feed(b"HTTP/1.1 200 OK\r\n\r\n")

        servers: list[TLSPeer] = []
        proxy.on_send = answer

        async def connect(host: str) -> Pipe:
            return pipe

        connecting(monkeypatch, connect, "10.0.0.1")
        dialer = Dialer(
            Origin("https", "127.0.0.1", 443),
            proxy=Proxy.parse("https://localhost"),
            ssl_context=client_ssl_context(),
        )
        stream = await dialer.dial(deadline())
        assert isinstance(stream, TLSStream)
        await stream.send(b"hello", NoDeadline())
        assert servers[0].received == b"hello"
        assert b"hello" not in proxy.received
        await stream.aclose(1.0)
        assert pipe.closed

    run_virtual(backend, main)


@virtual_backends
def test_a_plain_request_forwarded_by_a_proxy_over_tls(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        pipe = Pipe()
        proxy = TLSPeer(pipe)
        proxy.on_send = lambda _: proxy.feed(HELLO.data)

        async def connect(host: str) -> Pipe:
            return pipe

        connecting(monkeypatch, connect, "10.0.0.1")
        dialer = Dialer(
            ORIGIN, proxy=Proxy.parse("https://localhost"), ssl_context=client_ssl_context()
        )
        assert b"world" in await get(dialer)
        assert proxy.received.startswith(b"GET http://example.com/v1/hello HTTP/1.1\r\n")

    run_virtual(backend, main)


# --- Happy Eyeballs ---

NAMED = Origin("http", "name.test", 80)


@virtual_backends
def test_a_dead_first_address_costs_a_moment(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        good = Pipe()

        async def connect(host: str) -> Pipe:
            if host == "fe00::1":
                await anyio.sleep_forever()
            return good

        tried = connecting(monkeypatch, connect, "fe00::1", "10.0.0.1", "10.0.0.2")
        assert await Dialer(NAMED).dial(deadline(10)) is good
        assert anyio.current_time() == ATTEMPT_DELAY
        assert tried == ["fe00::1", "10.0.0.1"]
        assert not good.closed

    run_virtual(backend, main)


@virtual_backends
def test_families_take_turns(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async def connect(host: str) -> Pipe:
            raise OSError(errno.ECONNREFUSED, "refused")

        tried = connecting(
            monkeypatch, connect, "a::1", "a::2", "a::3", "10.0.0.1", "10.0.0.2", "10.0.0.1"
        )
        with pytest.raises(ConnectionFailed, match=r"name\.test:80: Connection refused"):
            await Dialer(NAMED).dial(deadline())
        assert tried == ["a::1", "10.0.0.1", "a::2", "10.0.0.2", "a::3"]
        # A failure starts the next at once.
        assert anyio.current_time() == 0

    run_virtual(backend, main)


@virtual_backends
def test_a_slow_address_may_still_win(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        slow, slower = Pipe(), Pipe()

        async def connect(host: str) -> Pipe:
            await anyio.sleep(3 if host == "10.0.0.1" else 5)
            return slow if host == "10.0.0.1" else slower

        connecting(monkeypatch, connect, "10.0.0.1", "10.0.0.2")
        assert await Dialer(NAMED).dial(deadline(10)) is slow
        assert anyio.current_time() == 3
        assert not slow.closed

    run_virtual(backend, main)


@virtual_backends
def test_the_second_winner_is_closed(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        pipes = {f"10.0.0.{number}": Pipe() for number in range(4)}

        async def connect(host: str) -> Pipe:
            # All are through at the same moment, and no cancellation stops them.
            with anyio.CancelScope(shield=True):
                await anyio.sleep_until(2)
            return pipes[host]

        connecting(monkeypatch, connect, *pipes)
        won = await Dialer(NAMED).dial(deadline(10))
        assert [pipe for pipe in pipes.values() if not pipe.closed] == [won]

    run_virtual(backend, main)


@virtual_backends
def test_all_addresses_dead(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async def connect(host: str) -> Pipe:
            await anyio.sleep_forever()
            raise AssertionError

        connecting(monkeypatch, connect, "10.0.0.1", "10.0.0.2")
        with pytest.raises(ConnectTimeout):
            await Dialer(NAMED).dial(deadline(7))
        assert anyio.current_time() == 7

    run_virtual(backend, main)


@virtual_backends
def test_no_address_at_all(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async def connect(host: str) -> Pipe:
            raise AssertionError

        connecting(monkeypatch, connect)
        with pytest.raises(ConnectionFailed, match="no address"):
            await Dialer(NAMED).dial(deadline(7))

    run_virtual(backend, main)


@virtual_backends
def test_a_bug_is_raised_as_it_is(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No ExceptionGroup comes out of it."""

    async def main() -> None:
        async def connect(host: str) -> Pipe:
            raise OverflowError("port must be 0-65535")

        connecting(monkeypatch, connect, "10.0.0.1", "10.0.0.2")
        with pytest.raises(OverflowError):
            await Dialer(NAMED).dial(deadline())

    run_virtual(backend, main)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("first", ["dead", "slow"])
def test_a_sweep_of_cancellations_over_addresses(
    backend: BackendName, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipes: list[Pipe] = []

    async def connect(host: str) -> Pipe:
        if host == "10.0.0.1":
            await anyio.sleep(1000 if first == "dead" else ATTEMPT_DELAY)
        await anyio.lowlevel.checkpoint()
        pipes.append(Pipe())
        return pipes[-1]

    connecting(monkeypatch, connect, "10.0.0.1", "10.0.0.2")

    async def body() -> None:
        stream = await Dialer(NAMED).dial(deadline(10))
        stream.close()

    def check(point: int, mode: str) -> None:
        assert all(pipe.closed for pipe in pipes)

    points = cancel_sweep(backend, body, check=check)
    assert min(points.values()) >= 2


@virtual_backends
def test_a_failure_after_the_first_hop_closes_it(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        for item in (b"HTTP/1.1 502 No\r\n\r\n", b"junk\r\n\r\n", b"", None):
            pipe = Pipe() if item is None else Pipe(item)

            async def connect(host: str, pipe: Pipe = pipe) -> Pipe:
                return pipe

            connecting(monkeypatch, connect, "10.0.0.1")
            dialer = Dialer(Origin("https", "a", 443), proxy=Proxy.parse("http://p"))
            with pytest.raises((ConnectionFailed, ConnectTimeout)):
                await dialer.dial(deadline(3))
            assert pipe.closed
            assert pipe.acloses

    run_virtual(backend, main)


# --- the caller's own network ---


@virtual_backends
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_network_of_the_caller_s_own(backend: str, scheme: str) -> None:
    async def main() -> None:
        network = MemoryNetwork(HELLO, delay=2)
        dialer = Dialer(
            Origin(scheme, "api.test", 8000), network=network, ssl_context=client_ssl_context()
        )
        assert b"world" in await get(dialer)
        assert network.connects == [("api.test", 8000)]
        assert network.connections[0].tls == (["api.test"] if scheme == "https" else [])
        assert network.open_connections == 0

    run_virtual(backend, main)


@virtual_backends
def test_a_network_of_the_caller_s_own_with_a_unix_socket(backend: str) -> None:
    async def main() -> None:
        network = MemoryNetwork(HELLO)
        assert b"world" in await get(Dialer(ORIGIN, network=network, uds="/run/s"))
        assert network.connects == [("/run/s", 0)]

    run_virtual(backend, main)


@virtual_backends
def test_a_network_that_refuses_or_stalls(backend: str) -> None:
    async def main() -> None:
        network = MemoryNetwork(HELLO, refuse=1, stall=1)
        dialer = Dialer(ORIGIN, network=network)
        with pytest.raises(ConnectionFailed, match=r"example\.com:80: connection refused"):
            await dialer.dial(deadline())
        with pytest.raises(ConnectTimeout):
            await dialer.dial(deadline(6))
        assert anyio.current_time() == 6
        stream = await dialer.dial(deadline(6))
        assert isinstance(stream, ForeignStream)
        await stream.aclose(1.0)
        assert network.open_connections == 0

    run_virtual(backend, main)


@virtual_backends
def test_a_network_s_own_timeout_and_error_without_words(backend: str) -> None:
    from tests.support.httpcore_compat import httpcore

    class Network(MemoryNetwork):
        error: Exception

        async def connect_tcp(self, *args: Any, **more: Any) -> Any:
            raise self.error

    async def main() -> None:
        network = Network(HELLO)
        network.error = httpcore.ConnectTimeout("x")
        with pytest.raises(ConnectTimeout):
            await Dialer(ORIGIN, network=network).dial(deadline())
        network.error = OSError()
        with pytest.raises(ConnectionFailed, match="OSError"):
            await Dialer(ORIGIN, network=network).dial(deadline())

    run_virtual(backend, main)


@virtual_backends
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_over_a_network_of_the_caller_s_own(backend: str, scheme: str) -> None:
    async def main() -> None:
        established = Reply((Send(b"HTTP/1.1 200 OK\r\n\r\n"), StartTLS()))
        network = MemoryNetwork([established, HELLO] if scheme == "https" else HELLO)
        dialer = Dialer(
            Origin(scheme, "api.test", 443),
            network=network,
            proxy=Proxy.parse("http://proxy.test:3128"),
            ssl_context=client_ssl_context(),
        )
        assert b"world" in await get(dialer)
        assert network.connects == [("proxy.test", 3128)]

    run_virtual(backend, main)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_sweep_of_cancellations_over_a_network_of_the_caller_s_own(
    backend: BackendName, scheme: str
) -> None:
    networks: list[MemoryNetwork] = []

    async def body() -> None:
        networks.append(MemoryNetwork(HELLO, delay=1))
        dialer = Dialer(
            Origin(scheme, "a", 1), network=networks[-1], ssl_context=client_ssl_context()
        )
        assert b"world" in await get(dialer)

    def check(point: int, mode: str) -> None:
        assert networks[-1].open_connections == 0

    points = cancel_sweep(backend, body, check=check)
    assert min(points.values()) >= 4


@pytest.mark.parametrize(
    ("backend", "expected"), [("asyncio", AsyncioStream), ("trio", TrioStream)]
)
def test_which_stream_for_which_event_loop(backend: str, expected: type[NetworkStream]) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            origin = Origin("http", "127.0.0.1", listener.getsockname()[1])
            stream = await Dialer(origin).dial(deadline())
            assert type(stream) is expected
            await stream.aclose(1.0)

    run_virtual(backend, main)


def test_natively_cancelled_while_many_addresses_are_tried() -> None:
    async def main() -> None:
        before = open_fds()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            dialer = Dialer(Origin("http", "localhost", listener.getsockname()[1]))
            for turns in range(12):
                task = asyncio.create_task(dialer.dial(deadline()))
                for _ in range(turns):
                    await asyncio.sleep(0.0005)
                task.cancel()
                await asyncio.wait([task])
                if not task.cancelled():
                    await task.result().aclose(1.0)
                listener.settimeout(0)
                try:
                    while True:
                        listener.accept()[0].close()
                except BlockingIOError:
                    pass
            await until(lambda: open_fds() == before + 1)

    anyio.run(main, backend="asyncio")
