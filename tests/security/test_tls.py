"""TLS on real sockets: a server that cannot show who it is gets nothing, and a cut is no end."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import trustme

import penstock
from penstock import AsyncClient, Timeouts
from penstock._http.tls import default_context
from penstock.testing import server as testing_server
from penstock.testing.loopback import LoopbackStream
from penstock.testing.replies import completion, json_reply, sse_reply, tokens
from penstock.testing.script import End, RecordedRequest, Reply, Send, StartTLS, reply
from penstock.testing.server import serve
from tests.support.chat import KEY, REQUEST

pytestmark = pytest.mark.anyio

OURS = trustme.CA()
PAST = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
FUTURE = dt.datetime(2120, 1, 1, tzinfo=dt.UTC)


def issued(authority: trustme.CA, *names: str, **more: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate: Any = authority.issue_cert(*names, **more)
    certificate.configure_cert(context)
    return context


def self_signed() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    alone = trustme.CA()
    with alone.cert_pem.tempfile() as certificate, alone.private_key_pem.tempfile() as key:
        context.load_cert_chain(certificate, key)
    return context


def outdated() -> ssl.SSLContext:
    context = issued(OURS, "127.0.0.1", "localhost")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def presenting(context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the scripted server use this context."""
    monkeypatch.setattr(testing_server, "server_ssl_context", lambda: context)


def trusting() -> ssl.SSLContext:
    """A client's context with the settings of the library's own, and our authority."""
    context = default_context()
    authority: Any = OURS
    authority.configure_trust(context)
    return context


# What the server is, the host that is asked for, and what the error says.
NOT_TO_BE_TRUSTED: dict[str, tuple[Callable[[], ssl.SSLContext], str, str]] = {
    "wrong host": (lambda: issued(OURS, "example.org"), "localhost", "localhost"),
    "wrong address": (lambda: issued(OURS, "localhost"), "127.0.0.1", "127.0.0.1"),
    "wildcard": (lambda: issued(OURS, "*.localhost"), "localhost", "localhost"),
    "common name alone": (
        lambda: issued(OURS, "example.org", common_name="localhost"),
        "localhost",
        "localhost",
    ),
    "unknown authority": (lambda: issued(trustme.CA(), "localhost"), "localhost", "issuer"),
    "self-signed": (self_signed, "localhost", "self.signed"),
    "expired": (lambda: issued(OURS, "localhost", not_after=PAST), "localhost", "expired"),
    "not yet valid": (
        lambda: issued(OURS, "localhost", not_before=FUTURE),
        "localhost",
        "not yet valid",
    ),
}
WAYS: dict[str, Callable[[AsyncClient], Any]] = {
    "complete": lambda client: client.complete(REQUEST),
    "create": lambda client: client.chat.completions.create(**REQUEST),
    "request": lambda client: client.request("GET", "/x"),
}


def answer(request: RecordedRequest) -> Reply:
    if b'"stream":true' in request.body:
        return sse_reply(tokens("Hi"))
    return json_reply(completion("Hi"))


def trusting_client(base_url: str, host: str = "localhost", **options: Any) -> AsyncClient:
    settings = {"api_key": KEY, "ssl_context": trusting(), "proxy": "", **options}
    return AsyncClient(base_url.replace("127.0.0.1", host), **settings)


@pytest.mark.parametrize("fault", NOT_TO_BE_TRUSTED)
async def test_who_cannot_show_who_it_is_is_refused(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, host, words = NOT_TO_BE_TRUSTED[fault]
    presenting(make(), monkeypatch)
    async with serve(answer, tls=True) as server:
        async with trusting_client(server.base_url, host) as client:
            for number, way in enumerate(WAYS.values(), 1):
                with pytest.raises(penstock.APIConnectionError) as caught:
                    await way(client)
                assert type(caught.value) is penstock.APIConnectionError
                text = str(caught.value)
                assert "the server's certificate was refused" in text
                assert words in text.replace("self-signed", "self.signed")
                assert isinstance(caught.value.__cause__, Exception)
                # It does not get better by asking again.
                assert len(server.connections) == number
        await server.wait_closed(len(WAYS))
        # Neither the key nor anything else was said.
        assert server.requests == []


@pytest.mark.parametrize("fault", ["wrong host", "self-signed", "expired"])
async def test_an_https_proxy_that_cannot_show_who_it_is_is_refused(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, host, _ = NOT_TO_BE_TRUSTED[fault]
    presenting(make(), monkeypatch)
    async with serve(answer, tls=True) as server:
        proxy = server.base_url.removesuffix("/v1").replace("127.0.0.1", f"me:password@{host}")
        async with trusting_client("https://api.test/v1", proxy=proxy) as client:
            with pytest.raises(penstock.APIConnectionError, match="certificate was refused"):
                await client.complete(REQUEST)
        assert len(server.connections) == 1
        assert server.requests == []


@pytest.mark.parametrize("fault", ["wrong host", "self-signed", "expired"])
async def test_an_origin_behind_a_proxy_that_cannot_show_who_it_is_is_refused(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, host, _ = NOT_TO_BE_TRUSTED[fault]
    presenting(make(), monkeypatch)
    established = Reply((Send(b"HTTP/1.1 200 OK\r\n\r\n"), StartTLS()))
    async with serve(established) as server:
        proxy = server.base_url.removesuffix("/v1")
        async with trusting_client(f"https://{host}/v1", host, proxy=proxy) as client:
            with pytest.raises(penstock.APIConnectionError, match="certificate was refused"):
                await client.complete(REQUEST)
        assert [request.method for request in server.requests] == ["CONNECT"]


async def test_without_a_context_of_ones_own_only_known_authorities_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    async with serve(answer, tls=True) as server:
        async with AsyncClient(server.base_url, api_key=KEY, proxy="") as client:
            with pytest.raises(penstock.APIConnectionError, match="certificate was refused"):
                await client.complete(REQUEST)
        assert len(server.connections) == 1
        assert server.requests == []


@pytest.mark.filterwarnings("ignore:.*TLSVersion:DeprecationWarning")
async def test_an_outdated_protocol_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    presenting(outdated(), monkeypatch)
    async with serve(answer, tls=True) as server:
        async with trusting_client(server.base_url, max_retries=0) as client:
            with pytest.raises(penstock.APIConnectionError, match="TLS handshake failed"):
                await client.complete(REQUEST)
        assert server.requests == []


def test_what_the_librarys_own_context_asks_for() -> None:
    context = default_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert not context.keylog_filename


@pytest.mark.parametrize(
    ("minimum", "set_to"),
    [
        (ssl.TLSVersion.MINIMUM_SUPPORTED, ssl.TLSVersion.TLSv1_2),
        (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3),
    ],
)
def test_whatever_minimum_a_build_of_python_has(
    minimum: ssl.TLSVersion, set_to: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ssl.create_default_context()
    made.minimum_version = minimum
    monkeypatch.setattr(ssl, "create_default_context", lambda **_: made)
    assert default_context().minimum_version == set_to


async def test_whom_we_trust_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    presenting(issued(OURS, "localhost", "127.0.0.1"), monkeypatch)
    async with serve(answer, tls=True) as server:
        for host in ("localhost", "127.0.0.1"):
            async with trusting_client(server.base_url, host) as client:
                answered = await client.complete(REQUEST)
                assert answered.choices[0].message.content == "Hi"


# --- a connection that is cut: a FIN of TCP without TLS's close_notify (RFC 8446, 6.1) ---


async def cut_off(self: LoopbackStream) -> None:
    """The end of a connection as an attacker on the way can make it: without the keys."""
    await anyio.lowlevel.checkpoint()
    self._sock.shutdown(1)


WHOLE = {
    # Where only the connection's end tells the body's end.
    "stream without a length": sse_reply(tokens("Hi"), chunked="close", done=False),
    "stream of several": sse_reply(tokens("Hi", "there"), chunked="close", done=False),
    "chunked stream": sse_reply(tokens("Hi"), done=False),
    "answer": json_reply(completion("Hi"), chunked="close"),
    "chunked answer": json_reply(completion("Hi"), chunked=True),
    "answer with a length": json_reply(completion("Hi")),
}


@pytest.mark.sampled(0.34)
@pytest.mark.parametrize("kind", WHOLE)
async def test_truncation_never_looks_like_success(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut at every event's end and around the body's; an end without the keys is a failure."""
    data = WHOLE[kind].data
    by_connection = b"connection: close" in data
    head = data.index(b"\r\n\r\n") + 4
    cuts = {head, head + 1, len(data) - 1, len(data)}
    cuts |= {n + 2 for n in range(head, len(data)) if data[n : n + 2] == b"\n\n"}
    monkeypatch.setattr(LoopbackStream, "end", cut_off)

    def script(request: RecordedRequest) -> Reply:
        n = int(request.headers["x-cut"])
        return reply(data[:n], End())

    presenting(issued(OURS, "localhost"), monkeypatch)
    way = WAYS["create"] if "answer" in kind else WAYS["complete"]
    async with serve(script, tls=True) as server:
        for n in sorted(cuts):
            cut = {"x-cut": str(n)}
            async with trusting_client(server.base_url, headers=cut, max_retries=0) as client:
                if n == len(data) and not by_connection:
                    # The framing has said that this was all.
                    assert (await way(client)).choices[0].message.content == "Hi"
                    continue
                with pytest.raises(penstock.APIConnectionError) as caught:
                    await way(client)
                assert n == head or isinstance(caught.value, penstock.StreamInterruptedError)
                assert not isinstance(caught.value, penstock.IncompleteStreamError)


@pytest.mark.parametrize("kind", [kind for kind in WHOLE if b"n: close" in WHOLE[kind].data])
async def test_with_close_notify_the_same_is_an_end(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    presenting(issued(OURS, "localhost"), monkeypatch)
    way = WAYS["create"] if "answer" in kind else WAYS["complete"]
    async with (
        serve(WHOLE[kind], tls=True) as server,
        trusting_client(server.base_url, max_retries=0) as client,
    ):
        assert (await way(client)).choices[0].message.content.startswith("Hi")


async def test_a_handshake_that_stalls_ends_at_the_deadline() -> None:
    async with serve(answer, tls="stall") as server:
        timeouts = Timeouts(connect=0.2)
        async with trusting_client(server.base_url, timeouts=timeouts, max_retries=0) as client:
            with pytest.raises(penstock.ConnectTimeout):
                await client.complete(REQUEST)
    assert server.requests == []
