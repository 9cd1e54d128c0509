"""The clients that the frameworks are given: penstock's, or the stock ones to compare with.

`PENSTOCK_FRAMEWORKS=stock` takes the SDK's own classes: then the checks have to fail where
penstock's are better, which shows that they can.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

__all__ = ["STOCK", "async_client", "async_http_client", "client"]

STOCK = os.environ.get("PENSTOCK_FRAMEWORKS", "penstock") == "stock"


def async_client(base_url: str, *, stock: bool = STOCK, **options: Any) -> Any:
    """Return an `AsyncOpenAI` for a server on this machine."""
    return _sdk(stock).AsyncOpenAI(base_url=base_url, api_key="a-key", **options)


def client(base_url: str, *, stock: bool = STOCK, **options: Any) -> Any:
    """Return an `OpenAI` for a server on this machine."""
    return _sdk(stock).OpenAI(base_url=base_url, api_key="a-key", **options)


def async_http_client(*, stock: bool = STOCK, **options: Any) -> Any:
    """Return an `httpx2.AsyncClient` for SDKs that take one."""
    if not stock:
        options["transport"] = import_module("penstock.compat.httpx2").AsyncTransport()
    return import_module("httpx2").AsyncClient(**options)


def _sdk(stock: bool) -> Any:
    return import_module("openai" if stock else "penstock.compat.openai")
