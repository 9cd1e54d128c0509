"""The clients that are measured, by name. Each is imported only in the process that measures it."""

from __future__ import annotations

import importlib.util
from importlib import import_module

from .base import Driver

__all__ = ["available", "load"]

# The package without which there is no such client, and the module with its driver.
_DRIVERS = {
    "penstock": ("penstock", "penstock_client"),
    "penstock-observer": ("penstock", "penstock_observer"),
    "penstock-otel": ("opentelemetry", "penstock_otel"),
    "openai": ("openai", "openai_sdk"),
    "openai-aiohttp": ("openai", "openai_sdk_aiohttp"),
    "aiohttp": ("aiohttp", "aiohttp_by_hand"),
    "httpcore": ("httpcore", "httpcore_pool"),
    "httptools": ("httptools", "llhttp_by_hand"),
    "pyreqwest": ("pyreqwest", "pyreqwest_by_hand"),
    "wreq": ("wreq", "wreq_by_hand"),
    "raw": ("msgspec", "raw_sockets"),
}


def available(client: str) -> bool:
    """Whether this client, which may name an event loop, can be measured here."""
    name, _, loop = client.partition("@")
    needed = {_DRIVERS[name][0], *({loop} - {"", "asyncio"})}
    if name == "openai-aiohttp":
        needed.add("aiohttp")
    return all(importlib.util.find_spec(package) is not None for package in needed)


def load(name: str) -> Driver:
    """The driver of this client."""
    module = import_module(f".{_DRIVERS[name][1]}", __name__)
    driver: Driver = module.DRIVER
    return driver
