"""Large requests that are answered early, slowly, or not at all."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator
from typing import Any

import anyio
import pytest

from penstock import (
    APIConnectionError,
    APIStatusError,
    ReadTimeout,
    StreamClosedError,
    Timeouts,
    TotalTimeout,
)
from penstock.testing.replies import json_reply
from penstock.testing.server import serve
from tests.support.chat import client_of
from tests.support.uploads import EarlyServer, early_server, response

pytestmark = pytest.mark.anyio

MB = 1_000_000
TEXT = "x" * (12 * MB)
BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": TEXT}]}
ERROR = json.dumps({"error": {"message": "too large", "code": "too_large"}}).encode()
TYPE = ("Content-Type", "application/json")


@pytest.mark.sampled(0.34)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(
    ("how", "status"), [("stops", 413), ("reads", 401), ("closes", 429), ("half-closes", 400)]
)
@pytest.mark.parametrize("after", [0, 3 * MB])
async def test_a_refusal_ends_the_upload_at_once(
    tls: bool, how: str, after: int, status: int
) -> None:
    server = EarlyServer(response(status, ERROR, TYPE), how, after, tls=tls, rate=20 * MB)
    with early_server(server):
        async with client_of(server, max_retries=0, timeouts=Timeouts(read=20)) as client:
            before = time.monotonic()
            with pytest.raises(APIStatusError, match="too large") as caught:
                await client.complete(BODY)
            assert caught.value.status_code == status
            assert caught.value.code == "too_large"
            assert time.monotonic() - before < 5
            if how == "reads":
                await anyio.to_thread.run_sync(server.gone.wait, 5)
                assert server.received < 10 * MB
            assert client._connections.count_idle() == 0
    assert server.connections == 1


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(
    ("pieces", "hints"), [(2, b""), (7, b"HTTP/1.1 100 Continue\r\n\r\n")], ids=["2", "7"]
)
async def test_the_refusal_comes_in_pieces(tls: bool, pieces: int, hints: bytes) -> None:
    server = EarlyServer(hints + response(413, ERROR, TYPE), tls=tls, pieces=pieces)
    with early_server(server):
        async with client_of(server, max_retries=0, timeouts=Timeouts(read=20)) as client:
            with pytest.raises(APIStatusError, match="too large"):
                await client.complete(BODY)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("whole", ["stream", "client"])
async def test_another_task_closes_while_a_piece_is_awaited(tls: bool, whole: str) -> None:
    waits = anyio.Event()

    async def pieces() -> AsyncGenerator[bytes]:  # noqa: ASYNC900 - a source, as users write them
        yield b"{"
        waits.set()
        await anyio.sleep_forever()

    async with serve([], tls=tls) as server:
        async with client_of(server) as client:
            stream = client.stream("POST", "/files", content=pieces())

            async def use() -> None:
                with pytest.raises(StreamClosedError, match="while it was being opened"):
                    await stream.open()

            async with anyio.create_task_group() as group:
                group.start_soon(use)
                await waits.wait()
                await (stream.aclose() if whole == "stream" else client.aclose())
        await server.wait_until(lambda: server.open_connections == 0)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("kind", ["informational", "success"])
async def test_other_early_answers_do_not_end_the_upload(tls: bool, kind: str) -> None:
    whole = len(TEXT)
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    late = response(200, b'{"ok": true}', TYPE)
    if kind == "success":
        # A gateway that answers at once, and has more to say when it has read everything.
        early, late = late[:-12], late[-12:]
    server = Later(early, late, whole, tls=tls)
    with early_server(server):
        async with client_of(server, max_retries=0, timeouts=Timeouts(read=20)) as client:
            answer = await client.request("POST", "/x", json=BODY)
            assert answer.json() == {"ok": True}
            # Only an upload that nothing had interrupted leaves a connection for others.
            assert client._connections.count_idle() == (kind == "informational")


class Later(EarlyServer):
    """Says something early, and the rest after the whole request."""

    def __init__(self, early: bytes, late: bytes, whole: int, *, tls: bool) -> None:
        super().__init__(early, "reads", 0, tls=tls)
        self.late = late
        self.whole = whole

    def _read(self, sock: Any) -> bytes:
        data = super()._read(sock)
        if self.late and self.received + len(data) > self.whole:
            sock.sendall(self.late)
            self.late = b""
        return data


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_success_that_is_whole_ends_the_upload(tls: bool) -> None:
    server = EarlyServer(response(200, b'{"ok": true}', TYPE), tls=tls)
    with early_server(server):
        async with client_of(server, max_retries=0, timeouts=Timeouts(read=20)) as client:
            answer = await client.request("POST", "/x", json=BODY)
            assert answer.json() == {"ok": True}
            assert client._connections.count_idle() == 0


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_steady_upload_is_not_silence(tls: bool) -> None:
    # 12 MB at 16 MB/s, where a silence of 0.3 seconds is an error.
    server = Later(b"", response(200, b'{"ok": true}', TYPE), len(TEXT), tls=tls)
    server.rate = 16 * MB
    with early_server(server):
        async with client_of(server, max_retries=0, timeouts=Timeouts(read=0.3)) as client:
            before = time.monotonic()
            answer = await client.request("POST", "/x", json=BODY)
            assert answer.json() == {"ok": True}
            assert time.monotonic() - before > 0.5


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_server_that_neither_reads_nor_answers(tls: bool) -> None:
    server = EarlyServer(b"", tls=tls)
    server.answer = b""
    with early_server(server):
        async with client_of(server, max_retries=0, timeouts=Timeouts(read=0.3)) as client:
            with pytest.raises(ReadTimeout):
                await client.request("POST", "/x", json=BODY)
        server.rate = 2 * MB
        server.how = "reads"
        async with client_of(server, max_retries=0, timeouts=Timeouts(total=0.5)) as client:
            with pytest.raises(TotalTimeout):
                await client.request("POST", "/x", json=BODY)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_reset_without_an_answer_is_a_failed_connection(tls: bool) -> None:
    server = EarlyServer(b"", "closes", tls=tls)
    with early_server(server):
        async with client_of(server, max_retries=0) as client:
            with pytest.raises(APIConnectionError):
                await client.request("POST", "/x", json=BODY)


@pytest.mark.sampled(0.34)
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("how", ["stops", "reads"])
async def test_cancelled_at_any_moment_an_upload_leaves_nothing(tls: bool, how: str) -> None:
    server = EarlyServer(b"", how, after=len(TEXT), tls=tls, rate=50 * MB)
    if how == "stops":
        server.after = 0
    with early_server(server):
        async with client_of(server, max_retries=0) as client:
            for n in range(5):
                with anyio.move_on_after(n * 0.025) as scope:
                    await client.request("POST", "/x", json=BODY)
                assert scope.cancelled_caught
                assert client._connections.count_idle() == 0
                assert not client._endpoint.service.live


@pytest.mark.parametrize("network", ["asyncio", "trio"])
def test_over_somebody_s_own_network(network: str) -> None:
    from tests.support.httpcore_compat import httpcore

    async def main() -> None:
        for how in ("stops", "reads", "half-closes"):
            server = EarlyServer(response(413, ERROR, TYPE), how, rate=20 * MB)
            with early_server(server):
                async with client_of(
                    server, max_retries=0, network=httpcore.AnyIOBackend()
                ) as client:
                    with pytest.raises(APIStatusError, match="too large"):
                        await client.complete(BODY)

    anyio.run(main, backend=network)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_client_that_is_closed_at_once_ends_the_iterable(tls: bool) -> None:
    steps: list[str] = []

    async def pieces() -> AsyncGenerator[bytes]:  # noqa: ASYNC900 - a source, as users write them
        try:
            yield b"{"
            client.close()
            yield b"}"
        finally:
            steps.append("ended")

    async with serve([], tls=tls) as server:
        client = client_of(server)
        with pytest.raises(StreamClosedError):
            await client.stream("POST", "/files", content=pieces()).open()
        assert steps == ["ended"]
        await server.wait_until(lambda: server.open_connections == 0)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_nothing_is_sent_once_the_time_is_over(tls: bool) -> None:
    async with serve([json_reply({})] * 2, tls=tls) as server:
        async with client_of(server) as client:
            await client.request("POST", "/x", json={})
            # On the connection that is there, so nothing has to be waited for.
            late = client.with_options(timeouts=Timeouts(total=0))
            with pytest.raises(TotalTimeout):
                await late.request("POST", "/x", json={})
        await server.wait_until(lambda: server.open_connections == 0)
        assert len(server.requests) == 1
