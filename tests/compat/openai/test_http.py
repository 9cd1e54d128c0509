"""The http client below: penstock's transport, the SDK's defaults, and httpx's habits."""

from __future__ import annotations

import logging
from typing import Any

import openai
import pytest

import penstock
from penstock.compat.openai import AsyncOpenAI, OpenAI
from penstock.compat.openai._http import (
    _GENERATION,
    has_transport,
    http_client,
    is_default,
    limits_of,
    own_timeouts,
)
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import completion, json_reply, sse_reply, status_reply, tokens
from tests.support.openai_clients import (
    REQUEST,
    STREAMED,
    async_client,
    blocking_client,
    drain,
    text_of,
)

__all__ = ["anyio_backend"]

httpx: Any = __import__(_GENERATION)
WHOLE = json_reply(completion("Hello"))


@pytest.mark.parametrize(
    ("timeout", "expected"),
    [
        (None, (None,) * 4),
        (2.5, (2.5,) * 4),
        (httpx.Timeout(3, connect=1), (1, 3, 3, 3)),
        (openai.DEFAULT_TIMEOUT, (5, 600, 600, 600)),
    ],
)
def test_limits(timeout: Any, expected: Any) -> None:
    assert limits_of(timeout) == expected


@pytest.mark.parametrize("blocking", [True, False])
def test_it_has_the_timeout_of_the_sdks(blocking: bool) -> None:
    http = http_client(None, openai.NOT_GIVEN, {}, blocking=blocking)
    assert has_transport(http)
    assert own_timeouts(http) is None
    assert http.timeout == httpx.Timeout(600, connect=5)
    assert http.follow_redirects
    assert is_default(http, openai.DEFAULT_TIMEOUT)
    assert not is_default(http, 3)
    http = http_client(None, 3, {"timeouts": penstock.Timeouts(read=1)}, blocking=blocking)
    assert own_timeouts(http) == penstock.Timeouts(read=1)
    assert is_default(http, 3)
    assert is_default(http, httpx.Timeout(3))


@pytest.mark.parametrize("cls", [AsyncOpenAI, OpenAI])
def test_it_has_the_base_url_as_the_sdks_has(cls: Any) -> None:
    client = cls(api_key="k", base_url="http://one/v1")
    assert str(client._client.base_url) == "http://one/v1/"
    assert client.copy(base_url="http://two/v1")._client is client._client
    assert str(client._client.base_url) == "http://one/v1/"
    own: Any = http_client(None, 1.0, {}, blocking=cls is OpenAI)
    cls(api_key="k", base_url="http://two/v1", http_client=own)
    assert str(own.base_url) == ""


def test_settings_beside_a_client_of_ones_own_are_refused() -> None:
    given = httpx.AsyncClient()
    assert http_client(given, None, {"limiter": None}, blocking=False) is given
    assert not has_transport(given)
    with pytest.raises(TypeError, match="limiter, proxy cannot be set beside http_client"):
        http_client(given, None, {"proxy": "", "limiter": 1, "uds": None}, blocking=False)


@pytest.mark.anyio
async def test_hooks_cookies_and_the_log_are_as_in_httpx(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    async def on_request(request: Any) -> None:
        seen.append(request.method)

    async def on_response(response: Any) -> None:
        seen.append(str(response.status_code))

    caplog.set_level(logging.INFO, logger=_GENERATION)
    network = MemoryNetwork([json_reply(completion(), headers={"set-cookie": "a=b"}), WHOLE])
    async with async_client(network) as client:
        client._client.event_hooks = {"request": [on_request], "response": [on_response]}
        raw = await client.chat.completions.with_raw_response.create(**REQUEST)
        assert raw.elapsed.total_seconds() >= 0
        assert raw.http_request.url.path == "/v1/chat/completions"
        await client.chat.completions.create(**REQUEST)
    assert seen == ["POST", "200", "POST", "200"]
    assert network.requests[1].headers["cookie"] == "a=b"
    assert [record for record in caplog.records if record.name == _GENERATION]


@pytest.mark.anyio
async def test_a_hook_that_raises_leaves_nothing_open() -> None:
    async def on_response(response: Any) -> None:
        raise KeyError("a bug")

    network = MemoryNetwork(sse_reply(tokens("a")))
    async with async_client(network) as client:
        client._client.event_hooks = {"response": [on_response]}
        with pytest.raises((KeyError, openai.APIConnectionError)):
            await client.chat.completions.create(**STREAMED)
        assert not network.connections[0].open


@pytest.mark.anyio
async def test_a_redirect_is_followed() -> None:
    moved = status_reply(307, "", {"location": "http://other.test/v2/chat/completions"})
    network = MemoryNetwork(
        lambda request: sse_reply(tokens("Hello")) if "v2" in request.target else moved
    )
    async with async_client(network) as client:
        stream = await client.chat.completions.create(**STREAMED)
        assert text_of(await drain(stream)) == "Hello"
    assert ("other.test", 80) in network.connects


def test_a_redirect_is_followed_when_blocking() -> None:
    moved = status_reply(307, "", {"location": "http://other.test/v2/chat/completions"})
    network = MemoryNetwork(lambda request: WHOLE if "v2" in request.target else moved)
    with blocking_client(network) as client:
        answer = client.chat.completions.create(**REQUEST)
        assert answer.choices[0].message.content == "Hello"


@pytest.mark.anyio
async def test_a_client_of_httpx_on_penstocks_transport() -> None:
    transports: Any = __import__(f"penstock.compat.{_GENERATION}", fromlist=["AsyncTransport"])
    network = MemoryNetwork([sse_reply(tokens("Hello")), sse_reply(tokens("a", finish=None))])
    http = httpx.AsyncClient(transport=transports.AsyncTransport(network=network))
    client = penstock_client(http)
    stream = await client.chat.completions.create(**STREAMED)
    assert text_of(await drain(stream)) == "Hello"
    await client.close()


def penstock_client(http: Any) -> openai.AsyncOpenAI:
    from penstock.compat.openai import AsyncOpenAI

    client = AsyncOpenAI(api_key="k", base_url="http://api.test/v1", http_client=http)
    client._platform = "Linux"
    return client
