"""A client's settings as a value: pickled here, opened there."""

from __future__ import annotations

import copy
import inspect
import pickle
import subprocess
import sys
from typing import Any

import pytest
from rich.pretty import pretty_repr

import penstock
from penstock import AsyncClient, Client, ClientConfig, Limiter, Timeouts
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import sse_reply, tokens
from tests.support.chat import KEY, REQUEST, URL, Watcher

__all__ = ["anyio_backend"]

HELLO = sse_reply(tokens("Hel", "lo"))
OF_ONE_PROCESS = {"limiter", "ssl_context", "observer", "network"}
FULL = ClientConfig(
    f"{URL}?a=1",
    api_key=KEY,
    provider="pareta",
    timeouts=Timeouts(read=7),
    max_retries=5,
    headers={"x-api-key": KEY},
    proxy=f"http://me:{KEY}@proxy.test",
    max_retry_wait=9,
    default_query={"b": 2, "key": KEY},
    keepalive=5,
)


def test_its_fields_are_the_constructors_arguments() -> None:
    parameters = inspect.signature(AsyncClient.__init__).parameters
    fields = set(ClientConfig.__struct_fields__)
    assert fields | OF_ONE_PROCESS | {"self"} == set(parameters)
    for name in fields:
        assert getattr(ClientConfig(), name) == parameters[name].default
    for method in (ClientConfig.open, ClientConfig.open_blocking):
        assert set(inspect.signature(method).parameters) == {"self"} | OF_ONE_PROCESS


@pytest.mark.anyio
async def test_it_opens_a_client_with_its_settings() -> None:
    network, watcher, limiter = MemoryNetwork(HELLO), Watcher(), Limiter(2)
    config = pickle.loads(pickle.dumps(FULL))
    assert config == FULL
    async with config.open(network=network, observer=watcher, limiter=limiter) as client:
        assert type(client) is AsyncClient
        answer = await client.complete(REQUEST)
    assert answer.choices[0].message.content == "Hello"
    (request,) = network.requests
    assert request.target.endswith(f"/v1/chat/completions?a=1&b=2&key={KEY}")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["x-api-key"] == KEY
    assert client.provider is penstock.providers.PARETA
    assert watcher.outcomes() == ["completed"]
    assert limiter.statistics().granted == 1


def test_it_opens_a_blocking_client() -> None:
    network = MemoryNetwork(HELLO)
    with copy.deepcopy(FULL).open_blocking(network=network) as client:
        assert type(client) is Client
        assert client.complete(REQUEST).choices[0].message.content == "Hello"


def test_another_process_opens_it() -> None:
    code = (
        "import pickle, sys; config = pickle.loads(sys.stdin.buffer.read());"
        " print(config.open(), config.open_blocking())"
    )
    pickled = pickle.dumps(ClientConfig("http://api.test/v1", api_key=KEY))
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickled, capture_output=True, check=True
    )
    assert done.stdout.decode().split("\n")[0] == (
        "<AsyncClient openai http://api.test:80/v1> <Client openai http://api.test:80/v1>"
    )


def test_it_is_frozen() -> None:
    with pytest.raises(AttributeError):
        FULL.base_url = "http://elsewhere.test"  # type: ignore[misc]


@pytest.mark.parametrize("config", [FULL, ClientConfig(KEY), ClientConfig(api_key=[KEY])])  # type: ignore[arg-type]
def test_it_shows_no_secret(config: Any) -> None:
    assert KEY not in f"{config!r} {config} {[config]} {pretty_repr(config)}"


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (ClientConfig("nowhere"), "base_url"),
        (ClientConfig(URL, max_retries=-1), "max_retries"),
        (ClientConfig(provider="pareta"), "PARETA_API_KEY"),
    ],
)
def test_opening_says_what_is_wrong(
    config: ClientConfig, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PARETA_API_KEY", raising=False)
    for open_it in (config.open, config.open_blocking):
        with pytest.raises(ValueError, match=reason):
            open_it()
