"""Where the API key of each attempt comes from."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from .._wire.request import checked_key

__all__ = ["APIKey", "key_source"]

APIKey = str | Callable[[], str] | Callable[[], Awaitable[str]]


def key_source(api_key: APIKey | None) -> Callable[[], Awaitable[str | None]]:
    """What gives the key for each attempt: a fixed one is checked now, others when they come."""
    if api_key is None or not callable(api_key):
        fixed = None if api_key is None else checked_key(api_key)

        async def known() -> str | None:
            return fixed

        return known

    async def asked() -> str | None:
        # In no variable: tools that report crashes show them.
        return checked_key(await _given(api_key()))

    return asked


async def _given(key: Any) -> object:
    return await key if inspect.isawaitable(key) else key
