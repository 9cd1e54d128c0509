"""Promise 12: a stream that is forgotten warns, and its connection is shut at once."""

from __future__ import annotations

import gc
import gzip
import socket
import threading
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from anyio.from_thread import start_blocking_portal

from penstock import (
    AsyncClient,
    Limiter,
    PenstockError,
    StreamInterruptedError,
    Timeouts,
    TotalTimeout,
)
from penstock._call.attempts import Sender
from penstock._call.body import BodyReader
from penstock._http.exchange import Exchange
from penstock.observing import AttemptFailed
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import chunk, error_event, head, sse_event, sse_reply
from penstock.testing.script import End, Pause, Reply, Reset, Send, Stall, reply
from penstock.testing.server import becomes_true, serve
from penstock.testing.sweep import open_fds
from tests.support.chat import REQUEST, client_of, client_on

from .recorded import PLAIN

pytestmark = pytest.mark.usefixtures("quick_collections")
anyio_test = pytest.mark.anyio
tcp_and_tls = pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])

ENDLESS = sse_reply([*PLAIN[:3], Stall()])


FLOWING = sse_reply([event for n in range(5) for event in (PLAIN[1], Pause(0.01))])
CUT = sse_reply([PLAIN[1], Pause(0.01), PLAIN[1], Reset()])
UNFINISHED = sse_reply(PLAIN[:2], done=False)
BROKEN = sse_reply([*PLAIN[:2], error_event("overloaded")])
MALFORMED = reply(head(200, [("transfer-encoding", "chunked")]), Pause(0.01), b"no size\r\n")
ENDED = reply(*sse_reply([PLAIN[1], Pause(0.01), PLAIN[1], End()]).steps)


def left_over() -> list[object]:
    """What calls are made of, as far as it is still there."""
    return [each for each in gc.get_objects() if isinstance(each, (BodyReader, Sender, Exchange))]


async def read_to_the_end(client: AsyncClient) -> None:
    async with client.chat.completions.stream(**REQUEST) as stream:
        async for _ in stream:
            pass


async def broken_off(client: AsyncClient) -> None:
    async with client.chat.completions.stream(**REQUEST) as stream:
        for _ in range(4):
            await anext(stream)


async def forgotten(client: AsyncClient) -> None:
    stream = client.chat.completions.stream(**REQUEST)
    for _ in range(4):
        await anext(stream)


async def cancelled(client: AsyncClient) -> None:
    async with client.chat.completions.stream(**REQUEST) as stream:
        for _ in range(4):
            await anext(stream)
        with anyio.move_on_after(0.001):
            await anext(stream)


async def failed(client: AsyncClient) -> None:
    # No `pytest.raises`, which keeps the error with its frames.
    try:
        async with client.chat.completions.stream(**REQUEST) as stream:
            async for _ in stream:
                pass
    except PenstockError:
        return
    raise AssertionError("it did not fail")


async def failed_as_a_whole(client: AsyncClient) -> None:
    try:
        await client.chat.completions.create(**REQUEST)
    except PenstockError:
        return
    raise AssertionError("it did not fail")


async def read_on_after_a_failure(client: AsyncClient) -> None:
    failures = 0
    async with client.chat.completions.stream(**REQUEST) as stream:
        while failures < 2:
            try:
                await anext(stream)
            except StreamInterruptedError:
                failures += 1


async def not_opened(client: AsyncClient) -> None:
    stream = client.chat.completions.stream(**REQUEST, timeouts=Timeouts(total=0.0))
    try:
        await stream.open()
    except TotalTimeout:
        return
    raise AssertionError("it did not fail")


@anyio_test
@tcp_and_tls
@pytest.mark.filterwarnings("ignore:unclosed <CompletionStream:ResourceWarning")
@pytest.mark.parametrize(
    ("way", "answer"),
    [
        (read_to_the_end, FLOWING),
        (broken_off, FLOWING),
        (forgotten, FLOWING),
        (cancelled, FLOWING),
        (failed, CUT),
        (failed, UNFINISHED),
        (failed, BROKEN),
        (failed, MALFORMED),
        (failed, ENDED),
        (failed_as_a_whole, MALFORMED),
        (failed_as_a_whole, BROKEN),
        (read_on_after_a_failure, CUT),
        (not_opened, FLOWING),
    ],
)
async def test_a_stream_leaves_nothing_to_the_garbage_collector(
    way: Callable[[AsyncClient], Awaitable[None]], answer: Reply, tls: bool
) -> None:
    async with serve(answer, tls=tls) as server, client_of(server) as client:
        await way(client)
        gc.collect()
        gc.disable()
        try:
            before = len(left_over())
            await way(client)
            # For a few iterations more an event loop holds what a task has waited for.
            with anyio.fail_after(1):
                while len(left_over()) > before:  # noqa: ASYNC110 - of what reference counting frees
                    await anyio.lowlevel.checkpoint()
        finally:
            gc.enable()


async def partly_read(client: AsyncClient, *, entered: bool) -> None:
    """Read one chunk, and forget the stream."""
    stream = client.chat.completions.stream(**REQUEST)
    if entered:
        await stream.__aenter__()
    await anext(stream)


@anyio_test
@tcp_and_tls
@pytest.mark.parametrize("entered", [False, True])
async def test_forgotten_after_a_read(entered: bool, tls: bool) -> None:
    before = open_fds()
    async with serve(ENDLESS, tls=tls) as server:
        limiter = Limiter(1)
        async with client_of(server, limiter=limiter) as client:
            for n in range(3):
                with pytest.warns(ResourceWarning, match="unclosed <CompletionStream"):
                    await partly_read(client, entered=entered)
                # The client is still open: nobody else has closed it.
                await server.wait_closed(n + 1, timeout=1.0)
                assert limiter.statistics().in_flight == 0
                assert client._endpoint.service.live == set()
    await anyio.lowlevel.checkpoint()
    assert open_fds() == before


@anyio_test
@tcp_and_tls
async def test_forgotten_in_a_cycle(tls: bool) -> None:
    async with serve(ENDLESS, tls=tls) as server, client_of(server) as client:

        async def forget() -> None:
            stream = client.chat.completions.stream(**REQUEST)
            await anext(stream)
            cycle: list[object] = [stream]
            cycle.append(cycle)

        gc.disable()
        try:
            await forget()
            assert server.open_connections == 1
            with pytest.warns(ResourceWarning, match="unclosed"):
                gc.collect()
        finally:
            gc.enable()
        await server.wait_closed(1, timeout=1.0)


@anyio_test
@tcp_and_tls
async def test_collected_in_another_thread(tls: bool) -> None:
    async with serve(ENDLESS, tls=tls) as server, client_of(server) as client:
        holder = [client.chat.completions.stream(**REQUEST)]
        await anext(holder[0])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            thread = threading.Thread(target=holder.clear)
            thread.start()
            thread.join()
        assert [w.category for w in caught] == [ResourceWarning]
        await server.wait_closed(1, timeout=1.0)


@anyio_test
@tcp_and_tls
async def test_forgotten_after_a_cancelled_read(tls: bool) -> None:
    held = sse_reply([PLAIN[1], Stall()])
    async with serve(held, tls=tls) as server, client_of(server) as client:

        async def forget() -> None:
            stream = client.chat.completions.stream(**REQUEST)
            await anext(stream)
            with anyio.move_on_after(0.01):
                await anext(stream)

        async def in_a_task_that_ends() -> None:
            # CPython's coroutines may keep the exception that they swallowed.
            async with anyio.create_task_group() as group:  # noqa: ASYNC112 - a task that ends
                group.start_soon(forget)
            gc.collect()

        with pytest.warns(ResourceWarning, match="unclosed"):
            await in_a_task_that_ends()
        await server.wait_closed(1, timeout=1.0)


async def _completed(client: AsyncClient) -> None:
    await client.chat.completions.stream(**REQUEST).collect()


async def _completed_in_block(client: AsyncClient) -> None:
    async with client.chat.completions.stream(**REQUEST) as stream:
        await stream.collect()


async def _entered_and_completed(client: AsyncClient) -> None:
    stream = client.chat.completions.stream(**REQUEST)
    await stream.__aenter__()
    await stream.collect()


async def _closed(client: AsyncClient) -> None:
    stream = client.chat.completions.stream(**REQUEST)
    await anext(stream)
    await stream.aclose()


async def _left_early(client: AsyncClient) -> None:
    async with client.chat.completions.stream(**REQUEST) as stream:
        await anext(stream)


async def _never_begun(client: AsyncClient) -> None:
    client.chat.completions.stream(**REQUEST)
    await client.chat.completions.create(**REQUEST, stream=True)


async def _cancelled_in_block(client: AsyncClient) -> None:
    with anyio.CancelScope() as scope:
        async with client.chat.completions.stream(**REQUEST) as stream:
            scope.cancel()
            await stream.collect()


async def _cancelled_while_opening(client: AsyncClient) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await anext(client.chat.completions.stream(**REQUEST))


@anyio_test
@tcp_and_tls
@pytest.mark.parametrize(
    "use",
    [
        _completed,
        _completed_in_block,
        _entered_and_completed,
        _closed,
        _left_early,
        _never_begun,
        _cancelled_in_block,
        _cancelled_while_opening,
    ],
)
async def test_no_warning(use: Callable[[AsyncClient], Awaitable[None]], tls: bool) -> None:
    async with serve(sse_reply(PLAIN), tls=tls) as server:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            async with client_of(server) as client:
                await use(client)
                gc.collect()
            gc.collect()
        assert [str(w.message) for w in caught] == []
        await server.wait_closed(len(server.connections))


@anyio_test
@tcp_and_tls
@pytest.mark.parametrize(
    "script",
    [
        sse_reply([PLAIN[1]], done=False),
        reply(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabcdefghi"),
        sse_reply([PLAIN[1], {"error": {"message": "no"}}, Stall()]),
    ],
)
async def test_no_warning_for_a_failed_one(script: Any, tls: bool) -> None:
    async with serve(script, tls=tls) as server:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            async with client_of(server) as client:
                with pytest.raises(PenstockError):
                    await client.chat.completions.stream(**REQUEST).collect()
                gc.collect()
                await server.wait_until(lambda: server.open_connections <= 1)
        assert [str(w.message) for w in caught] == []


@tcp_and_tls
@pytest.mark.parametrize(
    ("backend", "options"),
    [("asyncio", {}), ("asyncio", {"use_uvloop": True}), ("trio", {})],
    ids=["asyncio", "uvloop", "trio"],
)
def test_the_loop_has_ended(backend: str, options: dict[str, Any], tls: bool) -> None:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve(ENDLESS, tls=tls)) as server,
    ):
        kept: list[Any] = []

        async def main() -> None:
            client = client_of(server)
            stream = client.chat.completions.stream(**REQUEST)
            await anext(stream)
            kept.extend([stream, client])

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            anyio.run(main, backend=backend, backend_options=options)
            gc.collect()
            # uvloop closes what is left when it is closed.
            assert server.open_connections == 1 or options
            assert not [w for w in caught if "CompletionStream" in str(w.message)]
            del kept[0]
            assert [w for w in caught if "unclosed <CompletionStream" in str(w.message)]
            assert becomes_true(lambda: server.open_connections == 0, 2.0)
            kept.clear()
            gc.collect()


@anyio_test
async def test_custom_network() -> None:
    # A network of the caller's own has no socket to shut; the warning comes all the same.
    network = MemoryNetwork(ENDLESS)
    async with client_on(network) as client:
        with pytest.warns(ResourceWarning, match="unclosed"):
            await partly_read(client, entered=False)


# --- with a failure that is known, and not raised yet ---

HEAD = [("content-type", "text/event-stream"), ("transfer-encoding", "chunked")]
GOOD = sse_event(PLAIN[1])


def broken(kind: str) -> bytes:
    """An answer whose first event arrives together with what breaks the rest."""
    if kind == "framing":
        return head(200, HEAD) + chunk(GOOD) + b"zz\r\n"
    coded = gzip.compress(GOOD * 1000)[:-8] + b"wrong!!!" + b"junk"
    return head(200, [*HEAD, ("content-encoding", "gzip")]) + chunk(coded)


@anyio_test
@tcp_and_tls
@pytest.mark.parametrize("kind", ["framing", "coding"])
async def test_forgotten_with_a_fault_behind_what_was_read(kind: str, tls: bool) -> None:
    # An error that is kept refers to the frames that were reading, and they to the stream.
    limiter = Limiter(1)
    async with (
        serve(reply(Send(broken(kind)), Stall()), tls=tls) as server,
        client_of(server, limiter=limiter) as client,
    ):
        gc.disable()
        try:
            with pytest.warns(ResourceWarning, match="unclosed <CompletionStream"):
                await partly_read(client, entered=False)
            assert limiter.statistics().in_flight == 0
            await server.wait_closed(1, timeout=1.0)
        finally:
            gc.enable()


@anyio_test
async def test_forgotten_after_an_attempt_that_was_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # An observer may keep the error of the attempt, which has causes with frames of their own.
    monkeypatch.setattr("penstock._policy.retry.BACKOFF_FIRST", 0.01)
    told: list[AttemptFailed] = []
    ended = threading.Event()

    def answer() -> None:
        with listener.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(head(200, HEAD) + chunk(GOOD))
            while connection.recv(65536):
                pass
        ended.set()

    class Watching:
        def attempt_failed(self, event: AttemptFailed) -> None:
            told.append(event)
            listener.listen()
            threading.Thread(target=answer, daemon=True).start()

    limiter = Limiter(1)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        async with AsyncClient(
            url, api_key="k", proxy="", limiter=limiter, observer=Watching()
        ) as client:
            gc.disable()
            try:
                with pytest.warns(ResourceWarning, match="unclosed <CompletionStream"):
                    await partly_read(client, entered=False)
                assert len(told) == 1
                assert limiter.statistics().in_flight == 0
                assert await anyio.to_thread.run_sync(ended.wait, 5)
            finally:
                gc.enable()
