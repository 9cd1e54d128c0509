"""The loopback server against raw httpcore connections, in real time."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.streams.tls import TLSStream

from penstock.testing.cuts import cut_at, every_byte
from penstock.testing.replies import error_reply, json_reply, sse_reply, status_reply, tokens
from penstock.testing.script import End, Pause, Repeat, Reset, Stall, StartTLS, reply
from penstock.testing.server import Server, closed_port, serve
from penstock.testing.sweep import open_fds
from tests.support.httpcore_compat import httpcore

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


def client(server: Server, **options: Any) -> httpcore.AsyncHTTPConnection:
    """One connection of httpcore's, on its anyio backend."""
    url = httpcore.URL(server.base_url)
    return httpcore.AsyncHTTPConnection(
        url.origin,
        network_backend=httpcore.AnyIOBackend(),
        ssl_context=server.client_ssl_context() if url.scheme == b"https" else None,
        **options,
    )


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
async def test_replies_in_order_on_one_connection(tls: bool) -> None:
    script = [json_reply({"n": 1}), error_reply(429), every_byte(sse_reply(tokens("Hel", "lo")))]
    async with serve(script, tls=tls) as server:
        async with client(server) as connection:
            url = server.base_url + "/x"
            assert (await connection.request("POST", url, content=b'{"q":1}')).status == 200
            assert (await connection.request("GET", url)).status == 429
            for _ in range(2):
                body = (await connection.request("GET", url)).content
                assert body.endswith(b"data: [DONE]\n\n")
        await server.wait_closed(1)
        assert server.requests[0].json == {"q": 1}
        assert server.requests[0].target == "/v1/x"
        assert len(server.requests) == 4
        assert [c.ended for c in server.connections] == ["client closed"]
        assert server.open_connections == 0


async def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "s"
    script = json_reply({"a": 1})
    async with serve(script, uds=path) as server, client(server, uds=str(path)) as connection:
        assert (await connection.request("GET", server.base_url)).content == b'{"a": 1}'
    assert not path.exists()


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
async def test_a_reset(tls: bool) -> None:
    whole = sse_reply(tokens("Hello"), chunked="close")
    script = cut_at(whole, len(whole.data) - 20, [Pause(0.02), Reset()])
    async with serve(script, tls=tls) as server, client(server) as connection:
        async with connection.stream("GET", server.base_url) as response:
            with pytest.raises(httpcore.ReadError):
                await response.aread()
        await server.wait_closed(1)
        assert server.connections[0].ended == "reset"


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
async def test_a_polite_end(tls: bool) -> None:
    whole = sse_reply(tokens("Hello"), chunked="close")
    async with serve(whole, tls=tls) as server:
        async with client(server) as connection:
            response = await connection.request("GET", server.base_url)
            assert response.content.endswith(b"[DONE]\n\n")
        await server.wait_closed(1)
        assert server.connections[0].ended == "server closed"


async def test_a_polite_end_inside_tls_is_no_truncation() -> None:
    # asyncio and httpcore forgive a missing close_notify; a plain ssl socket does not.
    async with serve(reply(b"bye", End()), tls=True) as server:
        host, port = "127.0.0.1", httpcore.URL(server.base_url).port

        def talk() -> bytes:
            with socket.create_connection((host, port)) as raw:
                context = server.client_ssl_context()
                with context.wrap_socket(
                    raw, server_hostname=host, suppress_ragged_eofs=False
                ) as tls:
                    tls.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
                    data = b""
                    while piece := tls.recv(100):
                        data += piece
                    return data

        assert await anyio.to_thread.run_sync(talk) == b"bye"


async def test_the_server_sees_a_client_leave_while_it_is_silent() -> None:
    async with serve(sse_reply(["a", Stall()], done=False)) as server:
        async with client(server) as connection, connection.stream("GET", server.base_url):
            assert server.open_connections == 1
        await server.wait_closed(1)
        assert server.connections[0].ended == "client closed"


async def test_an_endless_stream_stops_at_the_client_that_does_not_read() -> None:
    async with serve(sse_reply([Repeat(b"x" * 65536)])) as server:
        async with client(server) as connection, connection.stream("GET", server.base_url):
            with anyio.move_on_after(0.05):
                await anyio.sleep_forever()
            sent = server.connections[0].bytes_sent
            assert sent > 0
        await server.wait_closed(1)
        assert server.connections[0].ended == "client closed"


async def test_errors_of_the_body_come_out_bare() -> None:
    with pytest.raises(ZeroDivisionError):
        async with serve(json_reply({})):
            raise ZeroDivisionError


async def test_errors_of_the_script_come_out() -> None:
    def script(request: object) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with serve(script) as server, client(server) as connection:
            with pytest.raises(httpcore.RemoteProtocolError):
                await connection.request("GET", server.base_url)


async def test_leaving_with_open_connections() -> None:
    before = open_fds()
    async with (
        serve(reply(Stall())) as server,
        client(server) as connection,
        anyio.create_task_group() as group,
    ):
        group.start_soon(connection.request, "GET", server.base_url)
        await server.wait_requests(1)
        assert open_fds() >= before + 3
        group.cancel_scope.cancel()
    assert server.connections[0].ended in ("client closed", "server stopped")
    await anyio.sleep(0.01)
    assert open_fds() <= before + 1  # trio and asyncio may keep one for themselves


async def test_a_stalled_handshake() -> None:
    async with serve(json_reply({}), tls="stall") as server:
        # Not by httpcore, which leaves the socket of a cancelled handshake open.
        port = httpcore.URL(server.base_url).port or 0
        async with await anyio.connect_tcp("127.0.0.1", port) as tcp:
            with anyio.move_on_after(0.03) as scope:
                await TLSStream.wrap(tcp, ssl_context=server.client_ssl_context(), hostname="x")
            assert scope.cancelled_caught
        await server.wait_closed(1)
        assert server.connections[0].ended == "client closed"


async def test_a_proxy_that_tunnels() -> None:
    def script(request: Any) -> Any:
        if request.method == "CONNECT":
            return status_reply(200).then(StartTLS())
        return json_reply({"via": "tunnel"})

    async with serve(script) as proxy:
        pool = httpcore.AsyncHTTPProxy(
            proxy.base_url,
            ssl_context=proxy.client_ssl_context(),
            network_backend=httpcore.AnyIOBackend(),
        )
        async with pool:
            response = await pool.request("GET", "https://localhost:1234/x")
        assert response.content == b'{"via": "tunnel"}'
        assert [r.target for r in proxy.requests] == ["localhost:1234", "/x"]


async def test_a_closed_port() -> None:
    with pytest.raises(OSError, match="onnect"):
        await anyio.connect_tcp("127.0.0.1", closed_port())


async def test_an_untrusted_certificate() -> None:
    async with serve(json_reply({}), tls=True) as server:
        url = httpcore.URL(server.base_url)
        async with httpcore.AsyncHTTPConnection(
            url.origin,
            ssl_context=ssl.create_default_context(),
            network_backend=httpcore.AnyIOBackend(),
        ) as connection:
            with pytest.raises(httpcore.ConnectError):
                await connection.request("GET", url)
        await server.wait_closed(1)
