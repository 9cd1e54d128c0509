"""penstock's OpenAI clients on a scripted network, and the ways to read their streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.compat.openai import AsyncOpenAI, OpenAI
from penstock.testing.memory import MemoryNetwork

from .chat import KEY, MESSAGES, URL

if TYPE_CHECKING:
    from penstock.testing.script import Script

REQUEST: dict[str, Any] = {"model": "test-model", "messages": MESSAGES}
STREAMED: dict[str, Any] = {**REQUEST, "stream": True}


def async_client(script: MemoryNetwork | Script, **options: Any) -> AsyncOpenAI:
    """Return a client whose connections go to a scripted network."""
    client = AsyncOpenAI(**_settings(script, options))
    # Otherwise the first request finds it out in a thread, for which virtual time does not wait.
    client._platform = "Linux"
    return client


def blocking_client(script: MemoryNetwork | Script, **options: Any) -> OpenAI:
    """The same, for threads that wait."""
    return OpenAI(**_settings(script, options))


def _settings(script: MemoryNetwork | Script, options: dict[str, Any]) -> dict[str, Any]:
    network = script if isinstance(script, MemoryNetwork) else MemoryNetwork(script)
    return {"api_key": KEY, "base_url": URL, **options, "network": network}


def text_of(chunks: list[Any]) -> str:
    """Return the text of choice 0 in chunks of the SDK."""
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


async def drain(stream: Any, into: list[Any] | None = None) -> list[Any]:
    """Read an async stream to its end; return what came, also in `into`."""
    got = [] if into is None else into
    async for item in stream:
        got.append(item)
    return got


def drain_blocking(stream: Any, into: list[Any]) -> None:
    """Read a blocking stream to its end, into a list."""
    for item in stream:
        into.append(item)
