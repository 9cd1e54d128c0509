"""Nothing that a caller gives breaks out of its place in a request; what could is refused.

Refused before any I/O, so that not even a connection is opened, and without being shown.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock
from penstock import AsyncClient, Client, fan_out_chunks, race
from penstock.testing.clock import virtual
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import completion, json_reply, sse_reply, tokens
from penstock.testing.script import RecordedRequest, Reply
from tests.support.chat import KEY, MESSAGES, REQUEST, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

# C0, DEL, C1, the line ends of Unicode: some servers, proxies and logs take each for a line's end.
CONTROLS = [*map(chr, range(0x20)), "\x7f", *map(chr, range(0x80, 0xA0)), "\u2028", "\u2029"]
# A tab may stand in a header's value, and what is above ASCII are bytes without a meaning
# (RFC 9110, 5.5).
IN_VALUES = [*(char for char in CONTROLS if char < "\x80" and char != "\t"), "\u2028", "\u2029"]
PLACES = {"begin": "{}text", "middle": "te{}xt", "end": "text{}"}

SECRET = "hunter2xyz"
Use = Callable[[MemoryNetwork, str], Awaitable[object]]


def answer(request: RecordedRequest) -> Reply:
    if b'"stream":true' in request.body:
        return sse_reply(tokens("Hi"))
    return json_reply({**completion("Hi"), "data": []})


async def with_options(network: MemoryNetwork, **options: Any) -> object:
    base_url = options.pop("base_url", "http://api.test/v1")
    async with AsyncClient(base_url, **{"api_key": KEY, **options}, network=network) as client:
        return await client.complete(REQUEST)


async def with_call(network: MemoryNetwork, **options: Any) -> object:
    async with client_on(network) as client:
        return await client.complete({**REQUEST, **options})


async def with_request(network: MemoryNetwork, method: str, path: str, **options: Any) -> object:
    async with client_on(network) as client:
        return await client.request(method, path, **options)


async def with_fan_out(network: MemoryNetwork, model: str) -> object:
    async with (
        client_on(network) as client,
        fan_out_chunks(client, [{**REQUEST, "model": model}]) as events,
    ):
        return [event.unwrap() async for event in events if hasattr(event, "unwrap")]


async def with_race(network: MemoryNetwork, model: str) -> object:
    async with (
        client_on(network) as client,
        race(client, [{**REQUEST, "model": model}]) as winner,
    ):
        return await winner.collect()


USES: dict[str, tuple[Use, list[str]]] = {
    "key": (lambda net, text: with_options(net, api_key=text), CONTROLS),
    "key of a function": (lambda net, text: with_options(net, api_key=lambda: text), CONTROLS),
    "base_url": (lambda net, text: with_options(net, base_url=f"http://api.test/{text}"), CONTROLS),
    "host": (lambda net, text: with_options(net, base_url=f"http://{text}.test/"), CONTROLS),
    "proxy": (lambda net, text: with_options(net, proxy=f"http://{text}.test:3128"), CONTROLS),
    "user of a proxy": (lambda net, text: with_options(net, proxy=f"http://{text}@p"), CONTROLS),
    "header": (lambda net, text: with_options(net, headers={"x-a": text}), IN_VALUES),
    "name of a header": (lambda net, text: with_options(net, headers={text: "a"}), CONTROLS),
    "extra header": (lambda net, text: with_call(net, extra_headers={"x-a": text}), IN_VALUES),
    "name of an extra header": (
        lambda net, text: with_call(net, extra_headers={text: "a"}),
        CONTROLS,
    ),
    "model": (lambda net, text: with_call(net, model=text), CONTROLS),
    "model of a fan-out": (with_fan_out, CONTROLS),
    "model of a race": (with_race, CONTROLS),
    "method": (lambda net, text: with_request(net, text, "/x"), CONTROLS),
    "path": (lambda net, text: with_request(net, "GET", f"/{text}"), CONTROLS[:33]),
    "query": (lambda net, text: with_request(net, "GET", f"/x?a={text}"), CONTROLS[:33]),
    "header of a request": (
        lambda net, text: with_request(net, "GET", "/x", extra_headers={"x-a": text}),
        IN_VALUES,
    ),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("place", PLACES)
async def test_control_characters_are_refused_before_any_io(use: str, place: str) -> None:
    send, controls = USES[use]
    for control in controls:
        network = MemoryNetwork(answer)
        text = PLACES[place].format(control)
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - which words is tested elsewhere
            await send(network, text)
        assert network.connects == [], repr(control)
        assert not isinstance(caught.value, penstock.PenstockError), repr(control)
        assert control not in str(caught.value), repr(control)


@pytest.mark.parametrize("use", USES)
async def test_without_them_it_is_sent(use: str) -> None:
    network = MemoryNetwork(answer)
    await USES[use][0](network, "text")
    assert len(network.requests) == 1


@pytest.mark.parametrize("use", [use for use in USES if "model" not in use and use != "method"])
async def test_a_whole_second_request_is_refused_and_not_shown(use: str) -> None:
    network = MemoryNetwork(answer)
    text = f"a\r\n\r\nPOST /{SECRET} HTTP/1.1\r\nHost: elsewhere.test\r\n\r\n"
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        await USES[use][0](network, text)
    assert network.connects == []
    assert SECRET not in repr(caught.value)


def test_the_blocking_client_refuses_them_as_well() -> None:
    network = MemoryNetwork(answer)
    with Client("http://api.test/v1", api_key=KEY, network=network) as client:
        for options in ({"model": "a\nb"}, {"extra_headers": {"x-a": "a\nb"}}):
            with pytest.raises(ValueError, match=r"model|header"):
                client.complete({**REQUEST, **options})
        with pytest.raises(ValueError, match="path"):
            client.request("GET", "/a\nb")
    for settings in ({"api_key": "a\nb"}, {"headers": {"x-a": "a\nb"}}):
        with pytest.raises(ValueError, match=r"key|header"):
            Client("http://api.test/v1", **settings, network=network)
    assert network.connects == []


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY"])
def test_the_environment_is_checked_as_well(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.lower(), raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://api.test/v1")
    for control in CONTROLS[1:]:  # no environment can have a NUL
        monkeypatch.setenv(name, f"http://te{control}xt.test/")
        with pytest.raises(ValueError, match=r"KEY|URL|proxy"):
            AsyncClient.from_env()


HOSTS = ["a\\b", "a b", "a{b", 'a"b', "a<b", "a^b", "a`b", "a|b", "a%0d%0ab", "a%2fb", "a;b", "a,b"]


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_that_some_read_otherwise_is_refused(host: str) -> None:
    # A browser takes http://a\b for http://a/b: who checks an address first may see another host.
    for base_url in (f"http://{host}.test/v1", f"https://{host}.test:8080"):
        with pytest.raises(ValueError, match="base_url"):
            AsyncClient(base_url)
    for proxy in (f"http://{host}.test", f"socks5://me:word@{host}.test:1080"):
        with pytest.raises(ValueError, match="proxy"):
            AsyncClient("http://api.test", proxy=proxy)


# --- whatever it is: refused, or in its place ---

anything = st.text(
    st.sampled_from("aZ0-_:/?#@%&= \t\r\n\0\x7f\x85é€\u2028\ud800.,;\"'\\"), max_size=8
)
any_text = anything | st.text(max_size=20)


def sent(send: Callable[[MemoryNetwork], Awaitable[object]]) -> RecordedRequest | None:
    """The one request that came of it; None when it was refused, and then nothing was opened."""
    import anyio

    network = MemoryNetwork(answer)

    async def main() -> bool:
        try:
            await send(network)
        except (ValueError, TypeError):
            return False
        return True

    if not anyio.run(main, backend="asyncio", backend_options=virtual("asyncio")[1]):
        assert network.connects == []
        return None
    (request,) = network.requests
    return request


BASELINE = {
    "host": "api.test",
    "authorization": f"Bearer {KEY}",
    "accept": "text/event-stream",
    "accept-encoding": "identity",
    "content-type": "application/json",
}


def assert_plain(request: RecordedRequest, **besides: str) -> None:
    """It has the lines it should have, each once, and a body that is what was asked for."""
    names = [name.decode("latin-1").lower() for name, _ in request.raw_headers]
    assert sorted(names) == sorted({*BASELINE, "user-agent", "content-length", *besides})
    for name, value in {**BASELINE, **besides}.items():
        assert request.headers[name] == value
    assert request.target == "/v1/chat/completions"
    assert request.json["messages"] == MESSAGES


@given(any_text)
def test_any_key(key: str) -> None:
    request = sent(lambda network: with_options(network, api_key=key))
    if request is not None:
        assert_plain(request, authorization=f"Bearer {key}")


@given(any_text, any_text)
def test_any_header(name: str, value: str) -> None:
    for send in (
        lambda network: with_options(network, headers={name: value}),
        lambda network: with_call(network, extra_headers={name: value}),
    ):
        request = sent(send)
        if request is not None:
            # Blanks around a value do not belong to it.
            assert_plain(request, **{name.lower(): value.strip(" \t")})


@given(any_text)
def test_any_model(model: str) -> None:
    request = sent(lambda network: with_call(network, model=model))
    if request is not None:
        assert_plain(request)
        assert request.json["model"] == model


@given(any_text)
def test_any_path(path: str) -> None:
    request = sent(lambda network: with_request(network, "GET", path))
    if request is not None:
        assert request.target.startswith("/v1/")
        assert request.headers["host"] == "api.test"
        assert not {"\r", "\n", " "} & set(request.target)


@given(any_text)
def test_any_base_url(rest: str) -> None:
    for url in (rest, f"http://{rest}", f"http://api.test{rest}", f"http://api.test/{rest}"):
        request = sent(lambda network, url=url: with_options(network, base_url=url))  # type: ignore[misc]
        if request is not None:
            assert request.target.startswith("/")
            assert url.lower().startswith(f"http://{request.headers['host']}")


@given(any_text)
def test_any_proxy(rest: str) -> None:
    for url in (f"http://{rest}", f"http://me:{rest}@proxy.test", f"http://proxy.test{rest}"):
        request = sent(lambda network, url=url: with_options(network, proxy=url))  # type: ignore[misc]
        if request is not None:
            names = [name.lower() for name, _ in request.raw_headers]
            assert len(names) == len(set(names))
            assert {*names} - {b"proxy-authorization"} <= {
                *(name.encode() for name in BASELINE),
                b"user-agent",
                b"content-length",
            }
            assert request.target == "http://api.test/v1/chat/completions"
