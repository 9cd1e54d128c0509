"""Known OpenAI-compatible servers: their URLs, and the environment variables of their keys."""

from __future__ import annotations

import msgspec

__all__ = [
    "DEEPSEEK",
    "GROQ",
    "LLAMACPP",
    "OLLAMA",
    "OPENAI",
    "OPENROUTER",
    "ORUEL",
    "PARETA",
    "TENSORAS",
    "VLLM",
    "Provider",
    "get",
]


class Provider(msgspec.Struct, frozen=True):
    """A server's URL and the environment variables that configure it.

    To define your own: `Provider("acme", "https://llm.acme.test/v1", "ACME_API_KEY")`.
    """

    name: str
    """Short name, as in `AsyncClient.from_env("groq")` and in reprs."""
    base_url: str
    """URL of the API, usually ending in /v1."""
    api_key_env: str | None = None
    """Environment variable with the API key; None if the server needs no key."""
    base_url_env: str | None = None
    """Environment variable that replaces `base_url` if it is set and not empty."""
    key_required: bool = True
    """Whether `AsyncClient.from_env` raises ValueError without a key."""


OPENAI = Provider("openai", "https://api.openai.com/v1", "OPENAI_API_KEY", "OPENAI_BASE_URL")
PARETA = Provider("pareta", "https://api.pareta.ai/v1", "PARETA_API_KEY", "PARETA_BASE_URL")
ORUEL = Provider("oruel", "https://api.oru-el.com/v1/inference", "ORUEL_API_KEY", "ORUEL_BASE_URL")
TENSORAS = Provider(
    "tensoras", "https://api.tensoras.ai/v1", "TENSORAS_API_KEY", "TENSORAS_BASE_URL"
)
GROQ = Provider("groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY", "GROQ_BASE_URL")
OPENROUTER = Provider(
    "openrouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", "OPENROUTER_BASE_URL"
)
DEEPSEEK = Provider(
    "deepseek", "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", "DEEPSEEK_BASE_URL"
)
OLLAMA = Provider("ollama", "http://localhost:11434/v1", "OLLAMA_API_KEY", "OLLAMA_BASE_URL", False)
VLLM = Provider("vllm", "http://localhost:8000/v1", "VLLM_API_KEY", "VLLM_BASE_URL", False)
LLAMACPP = Provider(
    "llamacpp", "http://localhost:8080/v1", "LLAMACPP_API_KEY", "LLAMACPP_BASE_URL", False
)

_SHIPPED = {
    provider.name: provider
    for provider in (
        OPENAI,
        PARETA,
        ORUEL,
        TENSORAS,
        GROQ,
        OPENROUTER,
        DEEPSEEK,
        OLLAMA,
        VLLM,
        LLAMACPP,
    )
}


def get(provider: str | Provider) -> Provider:
    """Return the provider of that name (case-insensitive), or the given provider itself.

    ValueError lists the known names if there is none of that name; TypeError if it is neither.
    """
    if isinstance(provider, Provider):
        return provider
    name: object = provider
    if not isinstance(name, str):
        kind = type(name).__name__
        raise TypeError(f"provider must be a name or a penstock.Provider, not {kind}")
    found = _SHIPPED.get(name.lower())
    if found is None:
        raise ValueError(
            # The name is not shown: it may be a key in the wrong place.
            f"unknown provider: give one of {', '.join(_SHIPPED)}, or a penstock.Provider"
        )
    return found
