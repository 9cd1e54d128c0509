"""Where OpenAI-compatible servers live, and which environment variables name their keys."""

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
    """A server's address and the environment variables that configure it.

    One of your own is a line: `Provider("acme", "https://llm.acme.test/v1", "ACME_API_KEY")`.
    """

    name: str
    base_url: str
    api_key_env: str | None = None
    """Variable that holds the key; None where the server asks for none."""
    base_url_env: str | None = None
    """Variable that, when set and not empty, replaces `base_url`."""
    key_required: bool = True
    """Whether `AsyncClient.from_env` refuses to start without a key."""


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
    """The provider of that name (case does not matter), or the given one itself.

    Raises ValueError with the names there are when none fits.
    """
    if isinstance(provider, Provider):
        return provider
    found = _SHIPPED.get(provider.lower())
    if found is None:
        raise ValueError(
            # What was given is not shown: it may be a key in the wrong place.
            f"there is no provider of that name; there are {', '.join(_SHIPPED)},"
            " or give a penstock.providers.Provider of your own"
        )
    return found
