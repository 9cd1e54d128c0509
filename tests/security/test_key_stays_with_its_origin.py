"""The key goes to the origin of `base_url` and nowhere else, whatever server or proxy says."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import penstock
from penstock import AsyncClient, PenstockError, fan_out, providers, race
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import (
    completion,
    error_reply,
    json_reply,
    sse_reply,
    status_reply,
    tokens,
)
from penstock.testing.script import Pause, RecordedRequest, Reply, Reset, reply
from tests.support.chat import KEY, REQUEST, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

ELSEWHERE = "http://elsewhere.test/v1/chat/completions"
ORIGIN = ("api.test", 80)
PASSWORD = "proxys-own-secret"
PROXY_USER = f"me:{PASSWORD}@"

Way = Callable[[AsyncClient], Awaitable[object]]
WAYS: dict[str, Way] = {
    "complete": lambda client: client.complete(REQUEST),
    "create": lambda client: client.chat.completions.create(**REQUEST),
    "models": lambda client: client.models.list(),
    "request": lambda client: client.request("GET", "/files"),
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_BASE_URL")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    return monkeypatch


def answer(request: RecordedRequest) -> Reply:
    if b'"stream":true' in request.body:
        return sse_reply(tokens("Hi"))
    return json_reply({**completion("Hi"), "data": []})


# --- redirects, and other ways to name another address ---


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 305, 306, 307, 308, 399])
async def test_a_redirect_is_an_error(status: int, way: str) -> None:
    for target in (ELSEWHERE, "//elsewhere.test/", "https://api.test/v1/x", "/v1/other", "", "?"):
        network = MemoryNetwork(status_reply(status, b"", {"location": target}))
        async with client_on(network) as client:
            with pytest.raises(penstock.APIStatusError) as caught:
                await WAYS[way](client)
        assert caught.value.status_code == status
        # Not even the origin itself is asked a second time.
        assert len(network.requests) == 1
        assert network.connects == [ORIGIN]


async def test_a_redirect_that_a_server_wants_tried_again_goes_to_the_origin() -> None:
    redirect = status_reply(307, b"", {"location": ELSEWHERE, "x-should-retry": "true"})
    network = MemoryNetwork([redirect, sse_reply(tokens("Hi"))])
    async with client_on(network) as client:
        await client.complete(REQUEST)
    assert set(network.connects) == {ORIGIN}
    assert [request.target for request in network.requests] == ["/v1/chat/completions"] * 2


MOVED = {
    "alt-svc": 'h2="elsewhere.test:443"; ma=86400; persist=1',
    "location": ELSEWHERE,
    "content-location": ELSEWHERE,
    "refresh": f"0; url={ELSEWHERE}",
    "link": f"<{ELSEWHERE}>; rel=preconnect, <{ELSEWHERE}>; rel=next",
    "proxy-authenticate": "Basic realm=x",
    "www-authenticate": f'Bearer realm="{ELSEWHERE}"',
    "set-cookie": "session=tracked; Domain=.test",
    "strict-transport-security": "max-age=31536000",
    "upgrade": "h2c",
}


@pytest.mark.parametrize("header", MOVED)
@pytest.mark.parametrize("status", [200, 401, 407, 421, 426, 429, 503])
async def test_no_header_leads_elsewhere(header: str, status: int) -> None:
    def script(request: RecordedRequest) -> Reply:
        if status == 200:
            return sse_reply(tokens("Hi"), headers={header: MOVED[header]})
        return error_reply(status, headers={header: MOVED[header]})

    network = MemoryNetwork(script)
    async with client_on(network) as client:
        for _ in range(2):
            with contextlib.suppress(penstock.APIStatusError):
                await client.complete(REQUEST)
    assert set(network.connects) == {ORIGIN}
    # Nor does anything of it come back in the next request.
    first, *others = [request.raw_headers for request in network.requests]
    assert others
    assert all(other == first for other in others)


async def test_early_hints_and_a_switch_of_protocols() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nlink: <%b>; rel=preconnect\r\n\r\n" % ELSEWHERE.encode()
    whole = sse_reply(tokens("Hi"))
    network = MemoryNetwork(reply(early + whole.data))
    async with client_on(network) as client:
        assert (await client.complete(REQUEST)).choices[0].message.content == "Hi"
    assert network.connects == [ORIGIN]
    network = MemoryNetwork(reply(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\n\r\n"))
    async with client_on(network) as client:
        with pytest.raises(PenstockError):
            await client.complete(REQUEST)
    assert len(network.requests) == 1


# --- base_url and path ---

PATHS = [
    ELSEWHERE,
    "https://elsewhere.test",
    "//elsewhere.test/v1",
    "///elsewhere.test/v1",
    "/\\elsewhere.test/v1",
    "\\\\elsewhere.test",
    "@elsewhere.test/",
    ":80@elsewhere.test/",
    ".elsewhere.test/",
    "http:elsewhere.test",
    "/../../elsewhere.test",
    "?x=http://elsewhere.test/",
    "#@elsewhere.test/",
]


@pytest.mark.parametrize("base_url", ["http://api.test", "http://api.test/", "http://api.test/v1"])
@pytest.mark.parametrize("path", PATHS)
async def test_a_path_stays_below_the_origin(base_url: str, path: str) -> None:
    network = MemoryNetwork(answer)
    async with client_on(network, base_url) as client:
        try:
            await client.request("GET", path)
        except ValueError:
            assert network.connects == []
            return
    (request,) = network.requests
    assert network.connects == [ORIGIN]
    assert request.headers["host"] == "api.test"
    # In origin form (RFC 9112, 3.2.1), which no server reads as an address.
    assert request.target.startswith("/")
    assert not request.target.startswith(("//", "/\\"))


@pytest.mark.parametrize("path", PATHS)
async def test_a_path_stays_below_the_origin_through_a_proxy(path: str) -> None:
    network = MemoryNetwork(answer)
    async with client_on(network, "http://api.test", proxy="http://proxy.test") as client:
        try:
            await client.request("GET", path)
        except ValueError:
            assert network.connects == []
            return
    assert network.requests[0].target.startswith("http://api.test/")


async def test_a_client_has_one_origin() -> None:
    network = MemoryNetwork(answer)
    async with client_on(network, "http://api.test:8080/v1") as client:
        for way in WAYS.values():
            await way(client)
    assert set(network.connects) == {("api.test", 8080)}
    assert {request.headers["host"] for request in network.requests} == {"api.test:8080"}


# --- keys of several clients ---


async def test_each_client_of_a_race_sends_its_own_key() -> None:
    ours = MemoryNetwork(answer_after(5))
    theirs = MemoryNetwork(answer_after(5))
    async with (
        client_on(ours, "http://ours.test", api_key="sk-ours-0123456789") as first,
        client_on(theirs, "http://theirs.test", api_key="sk-theirs-0123456789") as second,
        race(first, [(first, REQUEST), (second, REQUEST)]) as winner,
    ):
        await winner.collect()
    for network, key in ((ours, "sk-ours-0123456789"), (theirs, "sk-theirs-0123456789")):
        (request,) = network.requests
        assert request.headers["authorization"] == f"Bearer {key}"


def answer_after(seconds: float) -> Callable[[RecordedRequest], Reply]:
    return lambda request: answer(request).after(seconds)


async def test_a_key_of_each_attempt_goes_with_that_attempt_alone() -> None:
    keys = iter(["sk-first-0123456789", "sk-second-0123456789", "sk-third-0123456789"])
    network = MemoryNetwork([reply(Reset()), error_reply(503), sse_reply(tokens("Hi"))])
    async with client_on(network, api_key=lambda: next(keys)) as client:
        await client.complete(REQUEST)
    sent = [request.headers["authorization"] for request in network.requests]
    assert sent == [f"Bearer sk-{each}-0123456789" for each in ("first", "second", "third")]
    names = [[name for name, _ in request.raw_headers] for request in network.requests]
    assert all(list(map(bytes.lower, each)).count(b"authorization") == 1 for each in names)


async def test_calls_at_once_do_not_mix_their_headers() -> None:
    network = MemoryNetwork(lambda request: answer(request).then(Pause(1)))

    async def one(client: AsyncClient, n: int) -> object:
        headers = {"authorization": f"Bearer own-{n}"} if n % 2 else {}
        return await client.complete({**REQUEST, "user": str(n)}, extra_headers=headers)

    async with (
        client_on(network) as client,
        fan_out(lambda n: one(client, n), range(40), limit=10) as results,
    ):
        async for result in results:
            result.unwrap()
    for request in network.requests:
        n = int(request.json["user"])
        expected = f"Bearer own-{n}" if n % 2 else f"Bearer {KEY}"
        assert request.headers["authorization"] == expected


ENV_PROVIDERS = [
    provider
    for provider in map(providers.get, ("openai", "pareta", "oruel", "tensoras", "groq", "ollama"))
    if provider.api_key_env
]


@pytest.mark.parametrize("provider", ENV_PROVIDERS, ids=lambda provider: str(provider.name))
async def test_a_providers_key_goes_to_that_provider(
    provider: providers.Provider, environment: pytest.MonkeyPatch
) -> None:
    for each in ENV_PROVIDERS:
        if each.api_key_env:
            environment.setenv(each.api_key_env, f"sk-of-{each.name}-0123456789")
        if each.base_url_env and each is not provider:
            environment.setenv(each.base_url_env, "http://elsewhere.test/v1")
    network = MemoryNetwork(answer)
    async with AsyncClient.from_env(provider, network=network) as client:
        await client.complete(REQUEST)
    ((host, _),) = network.connects
    assert f"//{host}" in provider.base_url
    (request,) = network.requests
    assert request.headers["authorization"] == f"Bearer sk-of-{provider.name}-0123456789"
    assert "of-" not in str({k: v for k, v in request.headers.items() if k != "authorization"})


async def test_a_client_made_for_another_url_sends_no_key_of_the_environment(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv("OPENAI_API_KEY", KEY)
    network = MemoryNetwork(answer)
    async with AsyncClient("http://elsewhere.test/v1", network=network) as client:
        await client.complete(REQUEST)
    assert "authorization" not in network.requests[0].headers


# --- proxies ---

ESTABLISHED = reply(b"HTTP/1.1 200 Connection established\r\n\r\n")


def through(request: RecordedRequest) -> Reply:
    return ESTABLISHED if request.method == "CONNECT" else answer(request)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_the_proxy_of_an_https_origin_sees_no_key_and_the_origin_no_password(
    scheme: str,
) -> None:
    network = MemoryNetwork(through)
    proxy = f"{scheme}://{PROXY_USER}proxy.test:3128"
    headers = {"x-api-key": "another-secret"}
    async with client_on(network, "https://api.test/v1", proxy=proxy, headers=headers) as client:
        await client.complete(REQUEST)
    assert network.connects == [("proxy.test", 3128)]
    connect, request = network.requests
    assert connect.method == "CONNECT"
    assert connect.target == connect.headers["host"] == "api.test:443"
    assert set(connect.headers) == {"host", "proxy-authorization"}
    assert not connect.body
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert "proxy-authorization" not in request.headers
    # The key comes after TLS with the origin, by the origin's name.
    hosts = ["proxy.test"] if scheme == "https" else []
    assert network.connections[0].tls == [*hosts, "api.test"]


@pytest.mark.parametrize("status", [301, 302, 307, 308, 401, 407, 502])
async def test_a_proxy_that_does_not_connect_gets_no_key(status: int) -> None:
    refusal = status_reply(status, b"", {"location": ELSEWHERE})
    network = MemoryNetwork(refusal)
    options: dict[str, Any] = {"proxy": f"http://{PROXY_USER}proxy.test", "max_retries": 1}
    async with client_on(network, "https://api.test/v1", **options) as client:
        for way in WAYS.values():
            with pytest.raises(penstock.APIConnectionError, match=f"refused to connect: {status}"):
                await way(client)
    assert {request.method for request in network.requests} == {"CONNECT"}
    assert all("authorization" not in request.headers for request in network.requests)
    assert set(network.connects) == {("proxy.test", 80)}


async def test_a_proxy_that_answers_for_the_origin_gets_no_key() -> None:
    # Bytes in front of the tunnel's use could be taken for TLS, or for an answer.
    for more in (b"x", b"\x16\x03\x01", sse_reply(tokens("evil")).data):
        network = MemoryNetwork(reply(ESTABLISHED.data + more))
        async with client_on(
            network, "https://api.test/v1", proxy="http://proxy.test", max_retries=0
        ) as client:
            with pytest.raises(penstock.APIConnectionError, match="before the tunnel"):
                await client.complete(REQUEST)
        assert [request.method for request in network.requests] == ["CONNECT"]


async def test_a_proxy_of_an_http_origin_is_given_the_request_for_that_origin() -> None:
    # Without TLS there is no other way: the proxy sees all. SECURITY.md says so.
    network = MemoryNetwork(answer)
    async with client_on(network, proxy=f"http://{PROXY_USER}proxy.test") as client:
        await client.complete(REQUEST)
    assert network.connects == [("proxy.test", 80)]
    (request,) = network.requests
    assert request.target == "http://api.test/v1/chat/completions"
    assert request.headers["host"] == "api.test"


def test_a_request_header_of_a_cgi_script_is_no_proxy(environment: pytest.MonkeyPatch) -> None:
    # CGI makes HTTP_PROXY of a request's header "Proxy" (CVE-2016-5385, "httpoxy").
    environment.setenv("HTTP_PROXY", "http://elsewhere.test")
    for method, proxied in (("", True), ("GET", False)):
        if method:
            environment.setenv("REQUEST_METHOD", method)
        client = AsyncClient("http://api.test/v1", api_key=KEY)
        assert (client._connections.dialer.proxy is not None) is proxied
