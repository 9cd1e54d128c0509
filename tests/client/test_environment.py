"""The environment: whose URL and whose key a client takes from it, and when."""

from __future__ import annotations

import os
import traceback
from typing import Any

import pytest

import penstock
from penstock import AsyncClient, Provider, providers
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import sse_reply, tokens
from tests.support.chat import KEY, REQUEST, URL

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

HELLO = sse_reply(tokens("Hel", "lo"))


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_BASE_URL")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


async def test_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARETA_API_KEY", f" {KEY}\n")
    monkeypatch.setenv("PARETA_BASE_URL", " http://pareta.test/api/v1/\n")
    network = MemoryNetwork(HELLO)
    async with AsyncClient.from_env("pareta", network=network) as client:
        await client.complete(REQUEST)
    (request,) = network.requests
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["host"] == "pareta.test"
    assert request.target == "/api/v1/chat/completions"


@pytest.mark.parametrize(
    "name",
    [
        "openai",
        "pareta",
        "oruel",
        "tensoras",
        "groq",
        "openrouter",
        "deepseek",
        "ollama",
        "vllm",
        "llamacpp",
        "OpenAI",
    ],
)
def test_every_provider_has_its_own_address(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = providers.get(name)
    if provider.key_required:
        monkeypatch.setenv(f"{name.upper()}_API_KEY", KEY)
    client = AsyncClient.from_env(name)
    assert client.provider is provider
    url = client._endpoint.base_url
    assert provider.base_url.startswith(f"{url.origin.scheme}://{url.origin.host}")
    assert provider.base_url.endswith(url.path)


@pytest.mark.parametrize("value", [None, "", "  \n"])
def test_a_missing_key_is_named(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is not None:
        monkeypatch.setenv("PARETA_API_KEY", value)
    with pytest.raises(ValueError, match="PARETA_API_KEY"):
        AsyncClient.from_env("pareta")


def test_a_bad_key_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret with blanks")
    with pytest.raises(ValueError, match="OPENAI_API_KEY") as caught:
        AsyncClient.from_env()
    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_a_bad_url_in_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "api.openai.com/v1")
    with pytest.raises(ValueError, match="OPENAI_BASE_URL"):
        AsyncClient.from_env(api_key=KEY)


def test_an_unknown_provider_is_told_the_known_ones() -> None:
    with pytest.raises(ValueError, match="openai, pareta, oruel"):
        AsyncClient.from_env("nobody")


def test_an_empty_url_in_the_environment_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARETA_BASE_URL", "")
    client = AsyncClient.from_env("pareta", api_key=KEY)
    assert client._endpoint.base_url.origin.host == "api.pareta.ai"


async def test_arguments_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARETA_API_KEY", "sk-of-the-environment")
    monkeypatch.setenv("PARETA_BASE_URL", "http://environment.test/v1")
    network = MemoryNetwork(HELLO)
    async with AsyncClient.from_env("pareta", api_key=KEY, base_url=URL, network=network) as client:
        await client.complete(REQUEST)
    assert network.connects == [("api.test", 80)]
    assert network.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_an_empty_key_argument_is_an_error_not_the_environments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PARETA_API_KEY", KEY)
    with pytest.raises(ValueError, match="API key"):
        AsyncClient.from_env("pareta", api_key="")


async def test_a_provider_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    acme = Provider("acme", "http://acme.test/v2", "ACME_API_KEY")
    monkeypatch.setenv("ACME_API_KEY", KEY)
    network = MemoryNetwork(HELLO)
    async with AsyncClient.from_env(acme, network=network) as client:
        await client.complete(REQUEST)
        assert "acme" in repr(client)
    assert network.requests[0].target == "/v2/chat/completions"


async def test_a_local_server_needs_no_key() -> None:
    network = MemoryNetwork(HELLO)
    async with AsyncClient.from_env("ollama", network=network) as client:
        await client.complete(REQUEST)
    assert "authorization" not in network.requests[0].headers


async def key_sent_by(client: AsyncClient, network: MemoryNetwork) -> str | None:
    async with client:
        await client.complete(REQUEST)
    return network.requests[-1].headers.get("authorization")


async def test_without_arguments_it_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    network = MemoryNetwork(HELLO)
    assert await key_sent_by(AsyncClient(network=network), network) == f"Bearer {KEY}"
    assert network.connects == [("api.openai.com", 443)]
    monkeypatch.setenv("OPENAI_BASE_URL", "http://own.test/v1")
    assert await key_sent_by(AsyncClient(network=network), network) == f"Bearer {KEY}"
    assert network.connects[-1] == ("own.test", 80)
    client = AsyncClient(api_key="sk-given-0123", network=network)
    assert await key_sent_by(client, network) == "Bearer sk-given-0123"
    assert network.connects[-1] == ("own.test", 80)


async def test_a_provider_is_looked_up_by_its_own_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-openai-0123")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://openai.test")
    monkeypatch.setenv("PARETA_API_KEY", KEY)
    network = MemoryNetwork(HELLO)
    client = AsyncClient(provider="pareta", network=network)
    assert await key_sent_by(client, network) == f"Bearer {KEY}"
    assert network.connects == [("api.pareta.ai", 443)]


@pytest.mark.parametrize("provider", ["openai", "pareta", "ollama"])
async def test_a_base_url_of_ones_own_gets_no_key_of_the_environment(
    provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI", "PARETA", "OLLAMA", "GROQ"):
        monkeypatch.setenv(f"{name}_API_KEY", KEY)
    network = MemoryNetwork(HELLO)
    client = AsyncClient("http://localhost:8080/v1", provider=provider, network=network)
    assert await key_sent_by(client, network) is None


@pytest.mark.parametrize(
    ("options", "variable"),
    [
        ({}, "OPENAI_API_KEY"),
        ({"provider": "groq"}, "GROQ_API_KEY"),
        ({"provider": Provider("acme", "http://acme.test", "ACME_API_KEY")}, "ACME_API_KEY"),
        ({"headers": {"x-title": "t"}}, "OPENAI_API_KEY"),
    ],
)
def test_a_key_that_is_needed_and_missing_is_named(options: dict[str, Any], variable: str) -> None:
    for make in (AsyncClient, penstock.Client):
        with pytest.raises(ValueError, match=f"set {variable}, or pass api_key="):
            make(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"provider": "ollama"},
        {"provider": Provider("acme", "http://acme.test")},
        {"headers": {"Authorization": "Bearer x"}},
        {"headers": {"api-key": "x"}},
        {"api_key": "x"},
        {"base_url": "http://localhost:1"},
    ],
)
async def test_a_key_that_is_not_needed(options: dict[str, Any]) -> None:
    await AsyncClient(**options).aclose()
