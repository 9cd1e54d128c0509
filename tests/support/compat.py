"""Both generations of httpx, and clients of them on a transport of penstock."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx  # noqa: ASYNC127 - what is tested is httpx itself
import httpx2

import penstock.compat.httpx
import penstock.compat.httpx2

__all__ = ["GENERATIONS", "Generation", "client_on"]


class Generation(NamedTuple):
    """One of them, and the module of penstock for it."""

    httpx: Any
    ours: Any


GENERATIONS = (
    Generation(httpx, penstock.compat.httpx),
    Generation(httpx2, penstock.compat.httpx2),
)

BASE = "http://api.test/v1"


@asynccontextmanager
async def client_on(
    generation: Generation,
    network: Any,
    *,
    base_url: str = BASE,
    timeout: Any = None,
    **settings: Any,
) -> AsyncGenerator[Any]:
    """Yield an async client on this network, in memory."""
    transport = generation.ours.AsyncTransport(network=network, **settings)
    async with generation.httpx.AsyncClient(
        transport=transport, base_url=base_url, timeout=timeout
    ) as client:
        yield client
