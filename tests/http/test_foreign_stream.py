from __future__ import annotations

import asyncio
import math
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from penstock import Timeouts
from penstock._http.foreign_stream import ForeignStream
from penstock._http.network import ClosedLocally, ConnectionFailed, Upload
from penstock._policy.deadlines import Deadlines
from penstock.errors import ReadTimeout
from penstock.testing.memory import MemoryNetwork, MemoryStream
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.script import End, Pause, Reply, Reset, Send, Stall, reply
from penstock.testing.sweep import BackendName, cancel_sweep
from tests.support.httpcore_compat import httpcore

from .deadlines import NoDeadline, OutOfTime, Within
from .sockets import run, run_virtual

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def connected(script: Reply, **options: Any) -> tuple[ForeignStream, MemoryStream]:
    network = MemoryNetwork(script, **options)
    inner = await network.connect_tcp("a", 80)
    stream = ForeignStream(inner)
    await stream.send(REQUEST, NoDeadline())
    return stream, inner


class Scripted(httpcore.AsyncNetworkStream):
    """A backend of somebody else's: what its methods do is given."""

    def __init__(self, does: Callable[[], Any], info: dict[str, Any] | None = None) -> None:
        self._does = does
        self._info = info or {}
        self.calls: list[str] = []

    async def _do(self, call: str) -> Any:
        self.calls.append(call)
        done = self._does()
        return await done if hasattr(done, "__await__") else done

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data: bytes = await self._do("read")
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._do("write")

    async def aclose(self) -> None:
        await self._do("aclose")

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        await self._do("start_tls")
        return self

    def get_extra_info(self, info: str) -> Any:
        return self._info.get(info)


def failing(error: Exception) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


# --- reading and writing ---


async def test_what_comes() -> None:
    stream, inner = await connected(reply(b"one", Pause(3), b"two", End()))
    assert stream.receive_nowait() == b""
    assert await stream.receive(NoDeadline()) == b"one"
    assert await stream.receive(NoDeadline()) == b"two"
    for _ in range(2):
        assert await stream.receive(NoDeadline()) == b""
    assert inner.connection.bytes_received == len(REQUEST)
    await stream.aclose(1.0)


async def test_deadlines_are_exact_and_lose_nothing() -> None:
    stream, _ = await connected(reply(Pause(10), b"late"))
    for seconds in (3.0, 0.5, 0.0):
        deadline = Within(seconds)
        before = anyio.current_time()
        with pytest.raises(OutOfTime):
            await stream.receive(deadline)
        assert anyio.current_time() == before + seconds
        assert not deadline.waiting
    assert await stream.receive(NoDeadline()) == b"late"
    assert anyio.current_time() == 10
    await stream.aclose(1.0)


async def test_a_cancellation_is_not_the_deadline_and_loses_nothing() -> None:
    stream, _ = await connected(reply(Pause(10), b"late"))
    deadline = Within(100)
    with anyio.move_on_after(4) as scope:
        await stream.receive(deadline)
    assert scope.cancelled_caught
    assert not deadline.waiting
    assert await stream.receive(NoDeadline()) == b"late"
    await stream.aclose(1.0)


@pytest.mark.parametrize("outer", [3, 5])
async def test_the_outer_scope_is_never_swallowed(outer: float) -> None:
    stream, _ = await connected(reply(Stall()))
    with anyio.move_on_after(outer) as scope:
        await stream.receive(Within(5))
    assert scope.cancelled_caught
    await stream.aclose(1.0)


async def test_bytes_that_wait_are_checked_against_the_clock_and_kept() -> None:
    steps = [Send(b"x")] * 10
    stream, _ = await connected(reply(*steps))
    deadline = Within(5)
    assert await stream.receive(deadline) == b"x"
    await anyio.sleep(5)
    with pytest.raises(OutOfTime):
        await stream.receive(deadline)
    got = b""
    while len(got) < 9:
        got += await stream.receive(NoDeadline())
    assert got == b"x" * 9
    await stream.aclose(1.0)


async def test_a_backend_that_never_waits_is_asked_nothing_after_the_deadline() -> None:
    inner = Scripted(lambda: b"x")
    stream = ForeignStream(inner)
    deadline = Within(5)
    assert await stream.receive(deadline) == b"x"
    await anyio.sleep(5)
    with pytest.raises(OutOfTime):
        await stream.receive(deadline)
    assert inner.calls == ["read"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_sweep_of_cancellations(backend: BackendName) -> None:
    networks: list[MemoryNetwork] = []

    async def body() -> None:
        network = MemoryNetwork(reply(b"one", Pause(1), b"two"))
        networks.append(network)
        inner = await network.connect_tcp("a", 80)
        stream = ForeignStream(inner)
        try:
            await stream.send(REQUEST, NoDeadline())
            assert await stream.receive(NoDeadline()) == b"one"
            assert await stream.receive(NoDeadline()) == b"two"
        finally:
            await stream.aclose(1.0)  # noqa: ASYNC102

    def check(point: int, mode: str) -> None:
        # A connect that was cancelled after it was through is the connect's own affair.
        network = networks[-1]
        assert not network.open_connections or not network.requests

    points = cancel_sweep(backend, body, check=check)
    assert min(points.values()) >= 4


# --- errors ---


@pytest.mark.parametrize("call", ["receive", "send", "start_tls"])
@pytest.mark.parametrize(
    ("error", "expected", "text", "permanent"),
    [
        (httpcore.ReadError("broken"), ConnectionFailed, "broken", False),
        (httpcore.WriteError(), ConnectionFailed, "WriteError", False),
        (OSError(104, "reset"), ConnectionFailed, "reset", False),
        (anyio.BrokenResourceError(), ConnectionFailed, "BrokenResourceError", False),
        (httpcore.ReadTimeout("slow"), ReadTimeout, "network backend", False),
        (httpcore.WriteTimeout("slow"), ReadTimeout, "network backend", False),
        (ReadTimeout("our own"), ReadTimeout, "our own", False),
        (ssl.SSLCertVerificationError("expired"), ConnectionFailed, "expired", True),
        (ssl.SSLError("handshake"), ConnectionFailed, "handshake", False),
    ],
)
async def test_errors_are_translated(
    call: str, error: Exception, expected: type[Exception], text: str, permanent: bool
) -> None:
    stream = ForeignStream(Scripted(failing(error)))
    deadline = NoDeadline()
    calling: Any = {
        "receive": lambda: stream.receive(deadline),
        "send": lambda: stream.send(b"x", deadline),
        "start_tls": lambda: stream.start_tls(ssl.create_default_context(), "a", deadline),
    }[call]
    with pytest.raises(expected, match=text) as caught:
        await calling()
    assert getattr(caught.value, "permanent", False) == permanent
    assert not deadline.waiting


async def test_a_certificate_that_does_not_verify_is_known_by_its_cause() -> None:
    """httpcore's own backends wrap the error of ssl in a ConnectError."""
    error = httpcore.ConnectError("expired")
    error.__cause__ = ssl.SSLCertVerificationError("expired")
    stream = ForeignStream(Scripted(failing(error)))
    with pytest.raises(ConnectionFailed) as caught:
        await stream.start_tls(ssl.create_default_context(), "a", NoDeadline())
    assert caught.value.permanent


async def test_a_reset_by_the_script() -> None:
    stream, _ = await connected(reply(b"x", Reset()))
    assert await stream.receive(NoDeadline()) == b"x"
    with pytest.raises(ConnectionFailed, match="reset"):
        await stream.receive(NoDeadline())
    await stream.aclose(1.0)


# --- TLS ---


async def test_start_tls() -> None:
    stream, inner = await connected(reply(b"x"))
    await stream.start_tls(ssl.create_default_context(), "api.test", NoDeadline())
    assert inner.connection.tls == ["api.test"]
    assert await stream.receive(NoDeadline()) == b"x"
    await stream.aclose(1.0)


async def test_start_tls_goes_on_with_the_new_stream() -> None:
    inner, outer = Scripted(lambda: b"plain"), Scripted(lambda: b"secret")

    async def start_tls(*args: Any, **more: Any) -> httpcore.AsyncNetworkStream:
        return outer

    inner.start_tls = start_tls  # type: ignore[method-assign]
    stream = ForeignStream(inner)
    await stream.start_tls(ssl.create_default_context(), "a", NoDeadline())
    assert await stream.receive(NoDeadline()) == b"secret"
    await stream.aclose(1.0)
    assert outer.calls == ["read", "aclose"]


async def test_the_deadline_of_a_handshake() -> None:
    stream = ForeignStream(Scripted(anyio.sleep_forever))
    with pytest.raises(OutOfTime):
        await stream.start_tls(ssl.create_default_context(), "a", Within(6))
    assert anyio.current_time() == 6


# --- closing ---


@pytest.mark.parametrize("call", ["receive", "send"])
async def test_close_wakes_whoever_waits(call: str) -> None:
    inner = Scripted(anyio.sleep_forever)
    stream = ForeignStream(inner)
    deadline = Within(100)
    async with anyio.create_task_group() as group:

        async def wait() -> None:
            with pytest.raises(ClosedLocally):
                await (
                    stream.receive(deadline) if call == "receive" else stream.send(b"x", deadline)
                )

        group.start_soon(wait)
        await anyio.sleep(1)
        stream.close()
        stream.close()
    assert anyio.current_time() == 1
    assert not deadline.waiting


async def test_a_closed_stream_asks_its_backend_nothing() -> None:
    inner = Scripted(lambda: b"x")
    stream = ForeignStream(inner)
    stream.close()
    for _ in range(2):
        with pytest.raises(ClosedLocally):
            await stream.receive(NoDeadline())
        with pytest.raises(ClosedLocally):
            await stream.send(b"x", NoDeadline())
    assert inner.calls == []
    assert not stream.is_clean()


async def test_a_backend_that_fails_because_it_was_closed() -> None:
    async def closed_under_it() -> bytes:
        stream.close()
        raise OSError("bad descriptor")

    stream = ForeignStream(Scripted(closed_under_it))
    with pytest.raises(ClosedLocally):
        await stream.receive(NoDeadline())


async def test_close_shuts_the_socket_if_it_shows_one() -> None:
    one, other = socket.socketpair()
    with one, other:
        stream = ForeignStream(Scripted(lambda: b"", {"socket": one}))
        stream.close()
        other.settimeout(5)
        assert other.recv(1) == b""


async def test_close_with_a_socket_that_is_none() -> None:
    ForeignStream(Scripted(lambda: b"", {"socket": object()})).close()


async def test_aclose() -> None:
    stream, inner = await connected(reply(b"x"))
    await stream.aclose(0)
    await stream.aclose(1.0)
    assert inner.connection.closed_at is not None


@pytest.mark.parametrize("cancelled", [False, True])
async def test_aclose_ends_at_its_bound(cancelled: bool) -> None:
    inner = Scripted(anyio.sleep_forever)
    stream = ForeignStream(inner)
    with anyio.CancelScope() as scope:
        if cancelled:
            scope.cancel()
        await stream.aclose(4.0)
    assert anyio.current_time() == 4
    assert inner.calls == ["aclose"]
    await stream.aclose(4.0)
    assert inner.calls == ["aclose"]


async def test_aclose_of_a_backend_that_fails() -> None:
    await ForeignStream(Scripted(failing(OSError("x")))).aclose(1.0)


# --- is_clean ---


class Gone(Scripted):
    """As httpcore's own stream on uvloop, when its transport has closed itself."""

    def get_extra_info(self, info: str) -> Any:
        raise AttributeError("'NoneType' object has no attribute 'getpeername'")


async def test_a_backend_that_has_forgotten_its_socket() -> None:
    inner = Gone(lambda: b"")
    stream = ForeignStream(inner)
    assert not stream.is_clean()
    await stream.aclose(1.0)
    assert inner.calls == ["aclose"]


@pytest.mark.parametrize(
    ("steps", "clean"), [([], True), ([b"x"], False), ([End()], False), ([Reset()], False)]
)
async def test_clean_is_what_the_backend_says(steps: Iterable[Any], clean: bool) -> None:
    stream, _ = await connected(reply(*steps, Stall()))
    assert stream.is_clean() == clean
    await stream.aclose(1.0)
    assert not stream.is_clean()


def test_a_stream_of_another_event_loop_is_not_clean() -> None:
    async def make() -> ForeignStream:
        return ForeignStream(Scripted(lambda: b""))

    async def look() -> bool:
        return stream.is_clean()

    for name in ("asyncio", "trio"):
        stream = run_virtual(name, make)
        assert not run_virtual("asyncio", look)
        assert not run(("trio", {}), look)


def test_a_native_cancellation_loses_nothing() -> None:
    async def main() -> None:
        stream, _ = await connected(reply(Pause(10), b"late"))
        task = asyncio.create_task(stream.receive(Within(100)))
        await anyio.sleep(5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await stream.receive(NoDeadline()) == b"late"
        await stream.aclose(1.0)

    run_virtual("asyncio", main)


# --- uploads ---

LARGE = bytes(range(256)) * 2000


def uploading(does_write: Any, does_read: Any, **info: Any) -> tuple[ForeignStream, list[bytes]]:
    written: list[bytes] = []

    class Backend(Scripted):
        async def write(self, buffer: bytes, timeout: float | None = None) -> None:
            await does_write()
            written.append(buffer)

        async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
            data: bytes = await does_read()
            return data

    return ForeignStream(Backend(lambda: None, info)), written


async def answer_after(seconds: float) -> bytes:
    await anyio.sleep(seconds)
    return b"early"


async def test_a_small_upload_is_one_write_and_no_read() -> None:
    stream, written = uploading(anyio.lowlevel.checkpoint, failing(AssertionError()))
    assert await stream.upload(Upload(LARGE[:65536]), NoDeadline())
    assert written == [LARGE[:65536]]


async def test_a_large_upload_counts_as_progress() -> None:
    stream, written = uploading(lambda: anyio.sleep(3), lambda: anyio.sleep(1000))
    deadline = Deadlines(Timeouts(read=4), total_at=math.inf, streaming=False)
    assert await stream.upload(Upload(LARGE), deadline)
    assert b"".join(written) == LARGE
    assert anyio.current_time() == 3 * len(written) > 4


async def test_what_arrives_cuts_an_upload_and_is_kept() -> None:
    stream, written = uploading(lambda: anyio.sleep(5), lambda: answer_after(7))
    upload = Upload(LARGE)
    assert await stream.upload(upload, NoDeadline())
    stream, written = uploading(lambda: anyio.sleep(5), lambda: answer_after(3))
    upload = Upload(LARGE)
    assert not await stream.upload(upload, NoDeadline())
    assert anyio.current_time() == 13
    assert not written
    assert not stream.is_clean()
    # A write that was cut cannot go on: nobody knows how much of it was written.
    with pytest.raises(ConnectionFailed, match="answered early"):
        await stream.upload(upload, NoDeadline())
    assert await stream.receive(NoDeadline()) == b"early"
    assert not stream.is_clean()
    await stream.aclose(1.0)


async def test_an_upload_fails_as_its_write_does() -> None:
    stream, _ = uploading(failing(OSError("broken pipe")), lambda: anyio.sleep(1000))
    with pytest.raises(ConnectionFailed, match="broken pipe"):
        await stream.upload(Upload(LARGE), NoDeadline())
    stream, _ = uploading(lambda: anyio.sleep(1000), failing(OSError("reset by peer")))
    assert not await stream.upload(Upload(LARGE), NoDeadline())
    with pytest.raises(ConnectionFailed, match="reset by peer"):
        await stream.receive(NoDeadline())


async def test_an_upload_has_a_deadline_and_can_be_closed() -> None:
    stream, _ = uploading(lambda: anyio.sleep(1000), lambda: anyio.sleep(1000))
    with pytest.raises(OutOfTime):
        await stream.upload(Upload(LARGE), Within(4))
    assert anyio.current_time() == 4

    async def close() -> None:
        await anyio.sleep(2)
        stream.close()

    stream, _ = uploading(lambda: anyio.sleep(1000), lambda: anyio.sleep(1000))
    async with anyio.create_task_group() as group:
        group.start_soon(close)
        with pytest.raises(ClosedLocally):
            await stream.upload(Upload(LARGE), NoDeadline())
    assert anyio.current_time() == 6


# --- other processes, other protocols ---


async def test_a_forked_process_leaves_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = socket.socketpair()
    with one, other:
        backend = Scripted(lambda: None, {"socket": one, "is_readable": False})
        stream = ForeignStream(backend)
        assert stream.is_clean()
        monkeypatch.setattr("os.getpid", lambda: -1)
        assert not stream.is_clean()
        stream.close()
        await stream.aclose(1.0)
        monkeypatch.undo()
        assert backend.calls == []
        one.sendall(b"x")
        assert other.recv(1) == b"x"


@pytest.mark.parametrize("selected", [None, "http/1.1", "h2"])
async def test_the_protocol_that_a_backend_s_tls_selects(selected: str | None) -> None:
    class TLS:
        def selected_alpn_protocol(self) -> str | None:
            return selected

    stream = ForeignStream(Scripted(lambda: None, {"ssl_object": TLS()}))
    context = ssl.create_default_context()
    if selected == "h2":
        with pytest.raises(ConnectionFailed, match="h2"):
            await stream.start_tls(context, "a", NoDeadline())
    else:
        await stream.start_tls(context, "a", NoDeadline())
