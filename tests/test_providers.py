from __future__ import annotations

import pickle
from urllib.parse import urlsplit

import pytest

from penstock import providers
from penstock.providers import Provider

SHIPPED = [value for value in vars(providers).values() if isinstance(value, Provider)]

BASE_URLS = {
    "openai": "https://api.openai.com/v1",
    "pareta": "https://api.pareta.ai/v1",
    "oruel": "https://api.oru-el.com/v1/inference",
    "tensoras": "https://api.tensoras.ai/v1",
    "groq": "https://api.groq.com/openai/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "deepseek": "https://api.deepseek.com/v1",
    "ollama": "http://localhost:11434/v1",
    "vllm": "http://localhost:8000/v1",
    "llamacpp": "http://localhost:8080/v1",
}


def test_the_shipped_ones() -> None:
    assert {provider.name: provider.base_url for provider in SHIPPED} == BASE_URLS
    names = {name for name, value in vars(providers).items() if isinstance(value, Provider)}
    assert names == {name.upper() for name in BASE_URLS}
    assert names < set(providers.__all__)


@pytest.mark.parametrize("provider", SHIPPED, ids=lambda provider: provider.name)
def test_each_has_its_variables_and_a_clean_address(provider: Provider) -> None:
    prefix = provider.name.upper()
    assert provider.api_key_env == f"{prefix}_API_KEY"
    assert provider.base_url_env == f"{prefix}_BASE_URL"
    url = urlsplit(provider.base_url)
    local = url.hostname == "localhost"
    assert url.scheme == ("http" if local else "https")
    assert provider.key_required is not local
    assert not provider.base_url.endswith("/")


@pytest.mark.parametrize("provider", SHIPPED, ids=lambda provider: provider.name)
def test_each_is_found_by_its_name(provider: Provider) -> None:
    assert providers.get(provider.name) is provider
    assert providers.get(provider.name.upper()) is provider


def test_one_of_your_own_is_a_line() -> None:
    mine = Provider("acme", "https://llm.acme.test/v1", "ACME_API_KEY")
    assert providers.get(mine) is mine
    assert (mine.base_url_env, mine.key_required) == (None, True)
    assert Provider("local", "http://localhost/v1").api_key_env is None


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(
        ValueError, match=r"unknown provider: give one of openai, pareta, .*llamacpp, or a"
    ):
        providers.get("acme")


def test_it_is_a_frozen_value() -> None:
    with pytest.raises(AttributeError):
        providers.OPENAI.base_url = "x"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(providers.GROQ)) == providers.GROQ
