"""Messages of earlier answers, as they go back to a server."""

from __future__ import annotations

from typing import Any

from penstock.types import ChatCompletionMessage

__all__ = ["outgoing_messages", "provider_at"]

# Hosts whose rules are known whatever name the caller gave the provider.
_HOSTS = {
    "api.cerebras.ai": "cerebras",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "openrouter.ai": "openrouter",
}


def provider_at(host: str, name: str | None = None) -> str | None:
    """Return the name of the provider at this host; if that is unknown, the name given."""
    return _HOSTS.get(host.lower(), name)


def outgoing_messages(messages: list[Any], provider: str | None) -> list[Any]:
    """Return the messages with those of earlier answers as this provider wants them."""
    return [
        message.for_request(provider=provider)
        if isinstance(message, ChatCompletionMessage)
        else message
        for message in messages
    ]
