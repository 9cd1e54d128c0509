"""The transports on real sockets: TLS, Unix sockets, proxies, uploads, and many tasks at once."""

from __future__ import annotations

import random
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from penstock import Limiter, ReadTimeout
from penstock._http import tls
from penstock.testing import no_leaks, serve, sse_reply, tokens
from penstock.testing.replies import error_reply, status_reply
from penstock.testing.script import RecordedRequest, Reply, Send, Stall
from tests.support.compat import Generation
from tests.support.uploads import EarlyServer, early_server, response

pytestmark = pytest.mark.anyio

HANGING = Reply((Send(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc"), Stall()))
OK = status_reply(200, b"ok")


def client_of(generation: Generation, **settings: Any) -> Any:
    return generation.httpx.AsyncClient(
        transport=generation.ours.AsyncTransport(**settings), timeout=20
    )


async def test_tls(generation: Generation) -> None:
    async with serve(OK, tls=True) as server:
        context = server.client_ssl_context()
        async with client_of(generation, ssl_context=context) as client:
            assert (await client.get(server.base_url)).text == "ok"
        async with client_of(generation) as client:
            with pytest.raises(generation.httpx.ConnectError, match=r"(?i)certificate"):
                await client.get(server.base_url)


async def test_authorities_are_loaded_in_another_thread(
    generation: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    made = tls.default_context

    def noted() -> ssl.SSLContext:
        threads.append(threading.get_ident())
        return made()

    monkeypatch.setattr(tls, "default_context", noted)
    async with serve(OK, tls=True) as server, client_of(generation) as client:

        async def ask() -> None:
            with pytest.raises(generation.httpx.ConnectError, match=r"(?i)certificate"):
                await client.get(server.base_url)

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(ask)
        await ask()
    assert len(threads) == 1
    assert threads != [threading.get_ident()]


async def test_https_waits_for_no_thread_of_the_program(generation: Generation) -> None:
    # All of them may wait for this very request, as the handlers of a web framework do.
    limiter = anyio.to_thread.current_default_thread_limiter()
    async with serve(OK, tls=True) as server, client_of(generation) as client:
        for borrower in range(int(limiter.total_tokens)):
            await limiter.acquire_on_behalf_of(borrower)
        with (
            anyio.fail_after(20),
            pytest.raises(generation.httpx.ConnectError, match=r"(?i)certificate"),
        ):
            await client.get(server.base_url)


async def test_authorities_that_are_missing(
    generation: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file")
    async with serve(OK, tls=True) as server, client_of(generation) as client:
        with pytest.raises(generation.httpx.ConnectError, match="SSL_CERT_FILE"):
            await client.get(server.base_url)
        with (
            generation.httpx.Client(transport=generation.ours.Transport()) as blocking,
            pytest.raises(generation.httpx.ConnectError, match="SSL_CERT_FILE"),
        ):
            await anyio.to_thread.run_sync(blocking.get, server.base_url)


async def test_a_unix_socket(generation: Generation, tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with serve(OK, uds=path) as server, client_of(generation, uds=str(path)) as client:
        assert (await client.get(server.base_url)).text == "ok"
        assert server.requests[0].headers["host"] == "localhost"


@pytest.mark.parametrize("by", ["argument", "environment"])
async def test_a_proxy_forwards(
    generation: Generation, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with serve(OK) as server:
        proxy = server.base_url.removesuffix("/v1").replace("://", "://me:pass@")
        if by == "environment":
            monkeypatch.setenv("HTTP_PROXY", proxy)
        settings = {"proxy": proxy} if by == "argument" else {}
        async with client_of(generation, **settings) as client:
            assert (await client.get("http://api.test/v1/x?y=1")).text == "ok"
        [request] = server.requests
        assert request.target == "http://api.test/v1/x?y=1"
        assert request.headers["host"] == "api.test"
        assert request.headers["proxy-authorization"].startswith("Basic ")
        async with client_of(generation, proxy="") as client:
            assert (await client.get(server.base_url)).text == "ok"


async def test_no_server(generation: Generation) -> None:
    async with serve(OK) as server:
        url = server.base_url
    async with client_of(generation) as client:
        with pytest.raises(generation.httpx.ConnectError) as caught:
            await client.get(url)
        assert "cannot connect" in str(caught.value)


# --- uploads ---


class Endless:
    """No generator: httpx would leave that to the garbage collector."""

    def __aiter__(self) -> Endless:
        return self

    async def __anext__(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        return b"x" * 10_000


async def test_a_refusal_ends_an_upload(generation: Generation) -> None:
    refusal = response(413, b"too large")
    with early_server(EarlyServer(refusal, "reads", after=50_000)) as server:
        async with client_of(generation) as client:
            answer = await client.post(server.base_url, content=Endless())
            assert (answer.status_code, answer.text) == (413, "too large")


async def test_a_success_lets_an_upload_go_on(generation: Generation) -> None:
    pieces = [b"x" * 50_000] * 40

    async def given() -> AsyncIterator[bytes]:  # noqa: ASYNC900 - its user closes it
        for piece in pieces:
            yield piece

    head = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
    with early_server(EarlyServer(head, "reads", after=50_000)) as server:
        async with client_of(generation) as client:
            answer = await client.send(
                client.build_request("POST", server.base_url, content=given(), timeout=1),
                stream=True,
            )
            # The server holds its answer back; the upload goes on meanwhile.
            with pytest.raises(generation.httpx.ReadTimeout):
                await answer.aread()
    assert server.received >= sum(map(len, pieces))


async def test_an_upload_that_the_server_does_not_take(generation: Generation) -> None:
    timeout = generation.httpx.Timeout(20, write=0.3)
    with early_server(EarlyServer(b"", "stops", buffer=10_000)) as server:
        async with client_of(generation) as client:
            for content in (b"x" * 20_000_000, Endless()):
                with pytest.raises(generation.httpx.WriteTimeout) as caught:
                    await client.post(server.base_url, content=content, timeout=timeout)
                assert isinstance(caught.value.__cause__, ReadTimeout)


# --- many at once ---


def any_of(request: RecordedRequest) -> Reply:
    kind = request.headers["x-kind"]
    if kind == "hang":
        return HANGING
    if kind == "refuse":
        return error_reply(500)
    return sse_reply(tokens("Hel", "lo", "!"), one_segment_each=True)


@pytest.mark.sampled(0.34)
@pytest.mark.parametrize("seed", range(2))
async def test_churn(generation: Generation, seed: int) -> None:
    chance = random.Random(seed)
    limiter = Limiter(20)
    async with no_leaks(), serve(any_of) as server:
        async with client_of(generation, limiter=limiter) as client:
            done: list[str] = []

            async def one(kind: str, way: str, wait: float) -> None:
                url = server.base_url + "/chat/completions"
                with anyio.move_on_after(wait):
                    if way == "whole":
                        await client.post(url, headers={"x-kind": kind})
                    else:
                        async with (
                            client.stream("POST", url, headers={"x-kind": kind}) as answer,
                            aclosing(answer.aiter_raw()) as raw,
                        ):
                            while way != "leave" and await anext(raw, False):
                                if way == "break":
                                    break
                    done.append(kind)

            async with anyio.create_task_group() as group:
                for _ in range(200):
                    kind = chance.choice(["stream"] * 4 + ["hang", "refuse"])
                    way = chance.choice(["whole", "read", "leave", "break"])
                    if generation.httpx.__name__ == "httpx" and way == "break":
                        way = "leave"  # its generators are left to the garbage collector
                    wait = chance.choice([0.0, 0.01, 0.1] if kind == "hang" else [0.0, 0.1, 20, 20])
                    group.start_soon(one, kind, way, wait)
            assert limiter.statistics().in_flight == 0
            assert limiter.statistics().waiting == 0
            assert (await client.post(server.base_url, headers={"x-kind": "x"})).status_code == 200
            assert done
        await server.wait_until(lambda: server.open_connections == 0)
