from __future__ import annotations

import datetime as dt
import os
import ssl
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock._http import tls
from penstock._http.network import (
    ClosedLocally,
    ConnectionFailed,
    Deadline,
    LazyDeadline,
    Taken,
    Tap,
    Upload,
)
from penstock._http.tls import TLSStream, default_context, start_tls
from penstock.testing.certificates import client_ssl_context, server_ssl_context
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.sweep import BackendName, cancel_sweep

from .deadlines import NoDeadline, OutOfTime, Within
from .pipe import Pipe, TLSPeer, split
from .sockets import run_virtual
from .wait_contract import Tapped

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

TEXT = b"data: hello\n\n"


async def connected(
    cut: list[int] | None = None,
    *,
    server: ssl.SSLContext | None = None,
    client: ssl.SSLContext | None = None,
    host: str = "localhost",
) -> tuple[TLSStream, TLSPeer, Pipe]:
    pipe = Pipe()
    peer = TLSPeer(pipe, server, cut)
    stream = await start_tls(pipe, client or client_ssl_context(), host, NoDeadline())
    return stream, peer, pipe


async def receive(stream: TLSStream, size: int) -> bytes:
    got = b""
    while len(got) < size:
        data = await stream.receive(NoDeadline())
        assert data
        got += data
    assert len(got) == size
    return got


def context(version: ssl.TLSVersion) -> ssl.SSLContext:
    made = ssl.create_default_context()
    made.load_verify_locations(cadata=ca_pem())
    made.maximum_version = version
    return made


def ca_pem() -> str:
    from penstock.testing.certificates import _authority

    return _authority().cert_pem.bytes().decode()


def server_with(authority: trustme.CA, *names: str, **more: Any) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, **more).configure_cert(made)
    return made


def says_why(error: ConnectionFailed) -> ssl.SSLError:
    """The message has the reason in it that OpenSSL gave, in whatever words."""
    cause = error.__cause__
    assert isinstance(cause, ssl.SSLError)
    reason = getattr(cause, "verify_message", cause.reason)
    assert reason
    assert str(error).endswith(f": {reason}")
    return cause


# --- the handshake ---


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_there_and_back(version: ssl.TLSVersion) -> None:
    stream, peer, _ = await connected(client=context(version))
    await stream.send(b"hello", NoDeadline())
    assert peer.received == b"hello"
    peer.feed(TEXT)
    assert await stream.receive(NoDeadline()) == TEXT
    assert peer.object.version() == version.name.replace("_", ".")
    await stream.aclose(1.0)


@pytest.mark.parametrize("size", [1, 2, 5, 100])
async def test_a_handshake_in_pieces(size: int) -> None:
    stream, peer, _ = await connected([size])
    peer.feed(TEXT)
    assert await receive(stream, len(TEXT)) == TEXT
    await stream.aclose(1.0)


@pytest.mark.parametrize("offered", [["h2", "http/1.1"], ["http/1.1"], ["http/1.0"], None])
async def test_our_own_context_offers_http_1_1_alone(offered: list[str] | None) -> None:
    authority = trustme.CA()
    server = server_with(authority, "localhost")
    if offered is not None:
        server.set_alpn_protocols(offered)
    client = default_context()
    authority.configure_trust(client)
    stream, peer, _ = await connected(server=server, client=client)
    selected = "http/1.1" if offered and "http/1.1" in offered else None
    assert peer.object.selected_alpn_protocol() == selected
    await stream.aclose(1.0)


@pytest.mark.parametrize("offer", [["h2", "http/1.1"], ["http/1.1"], None])
async def test_the_caller_s_context_is_used_as_it_is(offer: list[str] | None) -> None:
    authority = trustme.CA()
    client = ssl.create_default_context()
    authority.configure_trust(client)
    if offer is not None:
        client.set_alpn_protocols(offer)
    # Used by penstock, and then by another library.
    for protocols in (["http/1.1"], None, ["h2"], ["h2", "http/1.1"]):
        server = server_with(authority, "localhost")
        if protocols is not None:
            server.set_alpn_protocols(protocols)
        pipe = Pipe()
        peer = TLSPeer(pipe, server)
        if offer and protocols and "h2" in protocols and "h2" in offer:
            with pytest.raises(ConnectionFailed, match="selected the protocol h2") as caught:
                await start_tls(pipe, client, "localhost", NoDeadline())
            assert caught.value.permanent
            assert pipe.closed
            assert peer.object.selected_alpn_protocol() == "h2"
        else:
            stream = await start_tls(pipe, client, "localhost", NoDeadline())
            both = bool(offer and protocols and "http/1.1" in protocols)
            assert peer.object.selected_alpn_protocol() == ("http/1.1" if both else None)
            await stream.aclose(1.0)


def refused_servers() -> dict[str, tuple[ssl.SSLContext, str, int]]:
    """Server, host asked for, and OpenSSL's code for the fault (X509_V_ERR_...)."""
    from penstock.testing.certificates import _authority

    ours = _authority()
    past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    self_signed = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    alone = trustme.CA()
    with alone.cert_pem.tempfile() as cert, alone.private_key_pem.tempfile() as key:
        self_signed.load_cert_chain(cert, key)
    return {
        "wrong host": (server_with(ours, "example.org"), "localhost", 62),
        "wrong address": (server_with(ours, "localhost"), "127.0.0.1", 64),
        "unknown authority": (server_with(trustme.CA(), "localhost"), "localhost", 20),
        "self-signed": (self_signed, "localhost", 18),
        "expired": (server_with(ours, "localhost", not_after=past), "localhost", 10),
    }


@pytest.mark.parametrize(
    "fault", ["wrong host", "wrong address", "unknown authority", "self-signed", "expired"]
)
async def test_a_certificate_that_does_not_hold(fault: str) -> None:
    server, host, code = refused_servers()[fault]
    pipe = Pipe()
    peer = TLSPeer(pipe, server)
    with pytest.raises(ConnectionFailed, match="certificate was refused: ") as caught:
        await start_tls(pipe, client_ssl_context(), host, NoDeadline())
    cause = says_why(caught.value)
    assert isinstance(cause, ssl.SSLCertVerificationError)
    assert cause.verify_code == code
    assert caught.value.permanent
    assert pipe.closed
    # The server is told why.
    assert peer.alert is not None


async def test_the_reason_stands_although_the_alert_could_not_be_sent() -> None:
    server, host, _ = refused_servers()["expired"]
    pipe = Pipe()
    TLSPeer(pipe, server)
    hello = pipe.on_send
    assert hello is not None

    def once(data: bytes) -> None:
        hello(data)
        pipe.send_error = ConnectionFailed("broken pipe")

    pipe.on_send = once
    with pytest.raises(ConnectionFailed, match="certificate was refused: ") as caught:
        await start_tls(pipe, client_ssl_context(), host, NoDeadline())
    says_why(caught.value)
    assert caught.value.permanent
    assert pipe.closed


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], "handshake failed"),
        ([b""], "handshake failed|closed"),
        ([b"\x16\x03\x03", b""], "handshake failed|closed"),
        ([ConnectionFailed("reset")], "reset"),
    ],
)
async def test_a_server_that_speaks_no_tls(items: list[bytes | Exception], reason: str) -> None:
    pipe = Pipe(*items)
    with pytest.raises(ConnectionFailed, match=reason) as caught:
        await start_tls(pipe, client_ssl_context(), "localhost", NoDeadline())
    assert not caught.value.permanent
    assert pipe.closed


@pytest.mark.parametrize("where", ["reading", "writing"])
async def test_a_handshake_that_stalls_ends_at_the_deadline(where: str) -> None:
    pipe = Pipe()
    pipe.stuck = where == "writing"
    with pytest.raises(OutOfTime):
        await start_tls(pipe, client_ssl_context(), "localhost", Within(9))
    assert anyio.current_time() == 9
    assert pipe.closed


async def test_closed_from_elsewhere_during_the_handshake() -> None:
    pipe = Pipe()
    async with anyio.create_task_group() as group:

        async def shake() -> None:
            with pytest.raises(ConnectionFailed, match="closed during the TLS handshake"):
                await start_tls(pipe, client_ssl_context(), "localhost", NoDeadline())

        group.start_soon(shake)
        await anyio.sleep(1)
        pipe.close()


async def test_a_name_that_no_certificate_can_have() -> None:
    pipe = Pipe()
    with pytest.raises(ValueError, match="server_hostname"):
        await start_tls(pipe, client_ssl_context(), "", NoDeadline())
    assert pipe.closed


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_sweep_of_cancellations_closes_what_is_below(backend: BackendName) -> None:
    pipes: list[Pipe] = []

    async def body() -> None:
        pipe = Pipe()
        pipes.append(pipe)
        peer = TLSPeer(pipe, cut=[700])
        stream = await start_tls(pipe, client_ssl_context(), "localhost", NoDeadline())
        try:
            await stream.send(b"hello", NoDeadline())
            peer.feed(TEXT)
            assert await stream.receive(NoDeadline()) == TEXT
        finally:
            await stream.aclose(1.0)  # noqa: ASYNC102

    def check(point: int, mode: str) -> None:
        assert pipes[-1].closed

    points = cancel_sweep(backend, body, check=check)
    assert min(points.values()) >= 5


# --- reading ---


def test_records_split_at_every_byte() -> None:
    async def main() -> None:
        stream, peer, pipe = await connected()
        await stream.send(b"x", NoDeadline())
        for place in range(1, len(TEXT) + 22):
            pipe.feed(*split(peer.encrypt(TEXT), [place]))
            assert await receive(stream, len(TEXT)) == TEXT
        await stream.aclose(1.0)

    run_virtual("asyncio", main)


@settings(max_examples=25)
@given(
    st.lists(st.binary(max_size=40) | st.sampled_from([bytes(16384), bytes(16385)]), max_size=12),
    st.lists(st.integers(1, 40), min_size=1, max_size=8) | st.just([65536]),
    st.none() | st.integers(0, 5),
)
def test_any_texts_in_any_pieces_with_cancelled_reads(
    texts: list[bytes], cut: list[int], patience: int | None
) -> None:
    async def main() -> None:
        stream, peer, _ = await connected()
        peer.cut.extend([*cut, 10_000])

        async def play() -> None:
            for text in texts:
                await anyio.sleep(3)
                peer.feed(text)
            await anyio.sleep(3)
            peer.end()

        async with anyio.create_task_group() as group:
            group.start_soon(play)
            got = b""
            while True:
                with anyio.move_on_after(patience or None) as scope:
                    data = await stream.receive(NoDeadline())
                if scope.cancelled_caught:
                    continue
                if not data:
                    break
                got += data
        assert got == b"".join(texts)
        assert await stream.receive(NoDeadline()) == b""
        await stream.aclose(1.0)

    run_virtual("asyncio", main)


async def test_many_records_that_came_at_once_are_one_read() -> None:
    stream, peer, pipe = await connected()
    peer.flush()
    pipe.feed(b"".join(peer.encrypt(b"%d " % number) for number in range(500)))
    expected = b"".join(b"%d " % number for number in range(500))
    assert await stream.receive(NoDeadline()) == expected
    await stream.aclose(1.0)


async def test_receive_nowait() -> None:
    stream, peer, pipe = await connected()
    assert stream.receive_nowait() == b""
    peer.feed(b"one")
    peer.feed(b"two")
    assert stream.receive_nowait() == b"onetwo"
    one, two = split(peer.encrypt(b"three"), [9])
    pipe.feed(one)
    assert stream.receive_nowait() == b""
    pipe.feed(two)
    assert await stream.receive(NoDeadline()) == b"three"
    peer.end()
    assert stream.receive_nowait() == b""
    assert await stream.receive(NoDeadline()) == b""
    await stream.aclose(1.0)


async def test_the_deadline_of_a_read_loses_nothing() -> None:
    stream, peer, pipe = await connected()
    first, second = split(peer.encrypt(TEXT), [7])
    pipe.feed(first)
    for seconds in (3, 2):
        before = anyio.current_time()
        with pytest.raises(OutOfTime):
            await stream.receive(Within(seconds))
        assert anyio.current_time() == before + seconds
    pipe.feed(second)
    assert await stream.receive(NoDeadline()) == TEXT
    await stream.aclose(1.0)


# --- the end ---


@pytest.mark.parametrize("together", [False, True])
async def test_close_notify_is_a_proper_end(together: bool) -> None:
    stream, peer, pipe = await connected()
    if together:
        peer.cut.append(100_000)
        records = peer.encrypt(TEXT)
        peer.below = (held := Pipe())
        peer.end()
        pipe.feed(records + held.receive_nowait())
    else:
        peer.feed(TEXT)
        peer.end()
    pipe.feed(b"")
    assert await stream.receive(NoDeadline()) == TEXT
    for _ in range(3):
        assert await stream.receive(NoDeadline()) == b""
    await stream.aclose(1.0)


def test_a_connection_cut_at_every_byte_is_never_a_proper_end() -> None:
    """Truncation attacks: without close_notify, the end says nothing (RFC 8446, 6.1)."""

    async def main() -> None:
        size = len((await connected())[1].encrypt(TEXT))
        for cut in range(size + 1):
            stream, peer, pipe = await connected()
            record = peer.encrypt(TEXT)
            pipe.feed(*([record[:cut]] if cut else []), b"")
            if cut == size:
                assert await stream.receive(NoDeadline()) == TEXT
            for _ in range(3):
                with pytest.raises(ConnectionFailed, match="without TLS close_notify"):
                    await stream.receive(NoDeadline())
            await stream.aclose(1.0)

    run_virtual("asyncio", main)


async def test_both_have_said_goodbye() -> None:
    stream, peer, _ = await connected()
    peer.flush()
    with pytest.raises(ssl.SSLWantReadError):
        stream._object.unwrap()
    peer.end()
    for _ in range(2):
        assert await stream.receive(NoDeadline()) == b""
    stream.close()


async def test_a_reset_after_text() -> None:
    stream, peer, pipe = await connected()
    peer.feed(TEXT)
    pipe.feed(ConnectionFailed("reset"))
    assert await stream.receive(NoDeadline()) == TEXT
    for _ in range(2):
        with pytest.raises(ConnectionFailed, match="reset"):
            await stream.receive(NoDeadline())
    await stream.aclose(1.0)


@pytest.mark.parametrize("together", [False, True])
async def test_text_before_a_damaged_record_comes_first(together: bool) -> None:
    stream, peer, pipe = await connected()
    good = peer.encrypt(TEXT)
    bad = bytearray(peer.encrypt(TEXT))
    bad[-1] ^= 1
    pipe.feed(good + bytes(bad)) if together else pipe.feed(good, bytes(bad))
    assert await stream.receive(NoDeadline()) == TEXT
    for _ in range(3):
        with pytest.raises(ConnectionFailed, match="TLS connection failed: ") as caught:
            await stream.receive(NoDeadline())
        says_why(caught.value)
    assert not stream.is_clean()
    await stream.aclose(1.0)


async def test_a_client_that_the_server_does_not_accept() -> None:
    """With TLS 1.3 the refusal comes after the handshake."""
    authority = trustme.CA()
    server = server_with(authority, "localhost")
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context()
    authority.configure_trust(client)
    stream, _, _ = await connected(server=server, client=client)
    with pytest.raises(ConnectionFailed, match="TLS connection failed: ") as caught:
        await stream.receive(NoDeadline())
    says_why(caught.value)
    await stream.aclose(1.0)


async def test_a_failure_that_openssl_gives_no_reason_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python raises an OSError then, of whatever the last system call had left behind."""

    class Broken:
        def __getattr__(self, name: str) -> Any:
            def fail(*args: object) -> bytes:
                raise BlockingIOError(11, "Resource temporarily unavailable")

            return fail

        def pending(self) -> int:
            return 1

    stream, _, pipe = await connected()
    monkeypatch.setattr(stream, "_object", Broken())
    with pytest.raises(ConnectionFailed, match=r"TLS connection failed: .*unavailable"):
        await stream.receive(NoDeadline())
    with pytest.raises(ConnectionFailed, match=r"TLS connection failed: .*unavailable"):
        await stream.send(b"x", NoDeadline())
    await stream.aclose(1.0)
    assert pipe.closed
    fresh = TLSStream(Pipe(), client_ssl_context(), "localhost")
    monkeypatch.setattr(fresh, "_object", Broken())
    with pytest.raises(ConnectionFailed, match=r"TLS handshake failed: .*unavailable"):
        await fresh.handshake(NoDeadline())


# --- writing ---


async def test_a_large_write() -> None:
    stream, peer, _ = await connected()
    data = bytes(range(256)) * 20_000
    await stream.send(data, NoDeadline())
    assert peer.received == data
    await stream.aclose(1.0)


async def test_a_write_that_stalls_ends_at_the_deadline_and_the_connection_with_it() -> None:
    stream, _, pipe = await connected()
    pipe.stuck = True
    with pytest.raises(OutOfTime):
        await stream.send(b"x", Within(5))
    assert anyio.current_time() == 5
    # Part of a record may be out.
    assert pipe.closed


async def test_a_cancelled_write_ends_the_connection() -> None:
    stream, _, pipe = await connected()
    pipe.stuck = True
    with anyio.move_on_after(5) as scope:
        await stream.send(b"x", NoDeadline())
    assert scope.cancelled_caught
    assert pipe.closed


async def test_a_write_on_a_closed_stream() -> None:
    stream, _, _ = await connected()
    stream.close()
    stream.close()
    with pytest.raises(ClosedLocally):
        await stream.send(b"x", NoDeadline())
    with pytest.raises(ClosedLocally):
        await stream.receive(NoDeadline())
    assert not stream.is_clean()


async def test_a_write_after_a_failed_handshake() -> None:
    stream = TLSStream(Pipe(), client_ssl_context(), "localhost")
    with pytest.raises(ConnectionFailed, match="TLS connection failed"):
        await stream.send(b"x", NoDeadline())


# --- is_clean ---


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_session_tickets_leave_it_clean(version: ssl.TLSVersion) -> None:
    stream, peer, pipe = await connected(client=context(version))
    await stream.send(b"request", NoDeadline())
    assert bool(pipe.incoming) == (version is ssl.TLSVersion.TLSv1_3)
    assert stream.is_clean()
    assert stream.is_clean()
    assert not pipe.incoming
    peer.feed(TEXT)
    assert not stream.is_clean()


@pytest.mark.parametrize("what", ["text", "close_notify", "end", "damage", "other loop", "closed"])
async def test_what_makes_it_unclean(what: str) -> None:
    stream, peer, pipe = await connected()
    assert stream.is_clean()
    if what == "text":
        peer.feed(b"unasked")
    elif what == "close_notify":
        peer.end()
    elif what == "end":
        pipe.feed(b"")
    elif what == "damage":
        pipe.feed(b"junk" * 10)
    elif what == "other loop":
        pipe.foreign = True
    else:
        pipe.close()
    assert not stream.is_clean()
    assert not stream.is_clean()


async def test_text_that_was_received_but_not_read_is_unclean() -> None:
    stream, peer, pipe = await connected()
    assert stream.is_clean()
    stream._incoming.write(peer.encrypt(b"a" * 16384 + b"b"))
    assert not pipe.incoming
    assert not stream.is_clean()
    assert not stream.is_clean()
    # Looking has lost nothing.
    peer.feed(b"c")
    assert not stream.is_clean()
    assert await receive(stream, 16386) == b"a" * 16384 + b"bc"
    assert stream.is_clean()


async def test_an_end_that_was_read_with_the_text_before_it_is_unclean() -> None:
    stream, peer, pipe = await connected()
    records = peer.encrypt(TEXT)
    peer.below = held = Pipe()
    peer.end()
    pipe.feed(records + held.receive_nowait())
    assert await stream.receive(NoDeadline()) == TEXT
    assert pipe.is_clean()
    assert not stream.is_clean()


# --- closing ---


async def test_aclose_says_goodbye() -> None:
    stream, peer, pipe = await connected()
    await stream.aclose(1.0)
    assert peer.ended
    assert pipe.acloses == [1.0]
    await stream.aclose(1.0)


async def test_after_close_there_is_no_goodbye() -> None:
    stream, peer, pipe = await connected()
    stream.close()
    await stream.aclose(1.0)
    assert not peer.ended
    assert pipe.closed


@pytest.mark.parametrize("grace", [0.0, 3.0])
@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_goodbye_that_nobody_takes_ends_at_its_bound(grace: float, cancelled: bool) -> None:
    stream, _, pipe = await connected()
    pipe.stuck = True
    with anyio.CancelScope() as scope:
        if cancelled:
            scope.cancel()
        await stream.aclose(grace)
    assert anyio.current_time() == grace
    assert pipe.closed


async def test_a_goodbye_on_a_broken_connection() -> None:
    stream, _, pipe = await connected()
    pipe.send_error = ConnectionFailed("broken pipe")
    await stream.aclose(1.0)
    assert pipe.closed


async def test_a_goodbye_without_a_handshake() -> None:
    pipe = Pipe()
    await TLSStream(pipe, client_ssl_context(), "localhost").aclose(1.0)
    assert pipe.closed


async def test_the_limits_of_a_goodbye_are_none() -> None:
    deadline = tls._Unlimited()
    assert deadline.begin(0.0) == float("inf")
    deadline.check(1e9)
    deadline.end(1e9)
    deadline.byte_arrived()
    assert isinstance(deadline.error(), ConnectionFailed)


# --- TLS inside TLS ---


@pytest.mark.parametrize("cut", [[1], [100], [65536]])
async def test_tls_inside_tls(cut: list[int]) -> None:
    pipe = Pipe()
    proxy = TLSPeer(pipe, cut=cut)
    outer = await start_tls(pipe, client_ssl_context(), "localhost", NoDeadline())
    server = TLSPeer(proxy)
    inner = await start_tls(outer, client_ssl_context(), "127.0.0.1", NoDeadline())
    await inner.send(b"hello" * 10_000, NoDeadline())
    assert server.received == b"hello" * 10_000
    server.feed(TEXT * 3000)
    assert await receive(inner, len(TEXT) * 3000) == TEXT * 3000
    assert inner.is_clean()
    server.end()
    assert await inner.receive(NoDeadline()) == b""
    await inner.aclose(1.0)
    assert pipe.closed
    assert server.ended


class TappedPipe(Pipe):
    """Has what is waited for taken where it arrives, as the streams of asyncio do."""

    left = b""

    def wait(self, deadline: LazyDeadline, tap: Tap) -> Awaitable[object] | None:
        return None if self.left else self._give(deadline, tap)

    async def _give(self, deadline: LazyDeadline, tap: Tap) -> None:
        data, taken = b"", Taken.GOES_ON
        while taken is Taken.GOES_ON:
            data = await super().receive(deadline)
            taken = tap(data, anyio.current_time()) if data else Taken.NOTHING
        if taken is Taken.NOTHING:
            self.left = data

    async def receive(self, deadline: Deadline) -> bytes:
        left, self.left = self.left, b""
        return left or await super().receive(deadline)


@pytest.mark.parametrize("then", [Taken.GOES_ON, Taken.ENDS])
@pytest.mark.parametrize("takes", [True, False])
@pytest.mark.parametrize("cut", [[1], [100], [65536]])
async def test_a_tap_inside_tls_inside_tls(cut: list[int], takes: bool, then: Taken) -> None:
    pipe = TappedPipe()
    proxy = TLSPeer(pipe, cut=cut)
    outer = await start_tls(pipe, client_ssl_context(), "localhost", NoDeadline())
    server = TLSPeer(proxy)
    inner = await start_tls(outer, client_ssl_context(), "127.0.0.1", NoDeadline())

    came = bytearray()

    class Texts(Tapped):
        def tap(self, data: bytes, now: float) -> Taken:
            taken = super().tap(data, now) if data == TEXT else Taken.NOTHING
            if taken is not Taken.NOTHING:
                came.extend(data)
            return taken

    reader = Texts(inner, 1000 if takes else 0, then)

    async def read() -> None:
        while True:
            came.extend(await reader.read())

    texts = [TEXT, b"other", TEXT, TEXT, b"other"]
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(read)
            for text in texts:
                server.feed(text)
                await anyio.sleep(1)
            group.cancel_scope.cancel()
        assert came == b"".join(texts)
        assert reader.taken == (TEXT * 3 if takes else b"")
        server.end()
        assert await inner.receive(NoDeadline()) == b""
    await inner.aclose(1.0)


# --- contexts ---


def test_the_default_context_verifies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    made = default_context()
    assert made.verify_mode is ssl.CERT_REQUIRED
    assert made.check_hostname
    assert len(made.get_ca_certs()) > 50  # certifi's


async def test_ssl_cert_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text(ca_pem())
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    stream, _, _ = await connected(client=default_context(), server=server_ssl_context())
    await stream.aclose(1.0)


async def test_ssl_cert_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    with pytest.raises(ConnectionFailed, match="certificate was refused"):
        await connected(client=default_context())


# --- uploads ---


def uploading(size: int, **options: Any) -> tuple[Upload, bytes]:
    data = bytes(range(256)) * (size // 256)
    return Upload(data), data


@pytest.mark.parametrize("ticket", [False, True])
async def test_an_upload_goes_on_over_a_session_ticket(ticket: bool) -> None:
    stream, peer, pipe = await connected(
        client=context(ssl.TLSVersion.TLSv1_3 if ticket else ssl.TLSVersion.TLSv1_2)
    )
    upload, data = uploading(1_000_000)
    assert bool(pipe.incoming) == ticket
    assert await stream.upload(upload, NoDeadline())
    assert peer.received == data


async def test_an_upload_stops_for_text_and_goes_on_where_it_was() -> None:
    stream, peer, pipe = await connected()
    upload, data = uploading(1_000_000)
    pipe.stuck = True
    with anyio.move_on_after(5) as scope:
        await stream.upload(upload, NoDeadline())
    # Cancelled, it has lost nothing, and its records stay in order.
    assert scope.cancelled_caught
    async with anyio.create_task_group() as group:
        group.start_soon(feed_later, peer, 3)
        assert not await stream.upload(upload, NoDeadline())
    assert not stream.is_clean()
    assert await stream.receive(NoDeadline()) == TEXT
    assert not stream.is_clean()
    pipe.stuck = False
    assert await stream.upload(upload, NoDeadline())
    assert peer.received == data
    assert stream.is_clean()
    await stream.aclose(1.0)


async def feed_later(peer: TLSPeer, seconds: float) -> None:
    await anyio.sleep(seconds)
    peer.feed(TEXT)


@pytest.mark.parametrize("how", ["end", "cut", "reset"])
async def test_an_upload_stops_at_the_end_of_the_connection(how: str) -> None:
    stream, peer, pipe = await connected()
    upload, _ = uploading(1_000_000)
    pipe.stuck = True

    async def end() -> None:
        await anyio.sleep(3)
        if how == "end":
            peer.end()
        else:
            pipe.feed(b"" if how == "cut" else ConnectionFailed("reset"))

    async with anyio.create_task_group() as group:
        group.start_soon(end)
        assert not await stream.upload(upload, NoDeadline())
    if how == "end":
        assert await stream.receive(NoDeadline()) == b""
    else:
        with pytest.raises(ConnectionFailed):
            await stream.receive(NoDeadline())


async def test_nothing_is_said_behind_half_an_upload() -> None:
    stream, peer, pipe = await connected()
    upload, _ = uploading(1_000_000)
    pipe.stuck = True
    with anyio.move_on_after(5):
        await stream.upload(upload, NoDeadline())
    pipe.stuck = False
    await stream.aclose(1.0)
    assert not peer.ended
    assert peer.alert is None


def test_a_forked_process_says_nothing_to_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        stream, peer, pipe = await connected()
        monkeypatch.setattr(os, "getpid", lambda: -1)
        await stream.aclose(1.0)
        monkeypatch.undo()
        assert not peer.ended
        assert pipe.acloses == [1.0]

    run_virtual("asyncio", main)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_authorities_that_are_not_there_are_named(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "gone"))
    with pytest.raises(ConnectionFailed, match=f"{variable} names .*gone.*does not exist"):
        tls.default_context()
