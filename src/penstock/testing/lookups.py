"""Name look-ups that take their time, as with a distant or overloaded resolver."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import anyio

__all__ = ["SlowLookups", "slow_lookups"]


class SlowLookups:
    """The look-ups made in a block of `slow_lookups`."""

    def __init__(self) -> None:
        self.names: list[str] = []
        """The names, in the order in which their look-ups began."""


@contextmanager
def slow_lookups(
    seconds: float, addresses: Mapping[str, str] | None = None
) -> Generator[SlowLookups]:
    """Make each name look-up of penstock clients take this long, in the whole process.

    `addresses` are the names that exist, by default every one is 127.0.0.1; another is a
    `socket.gaierror`. Addresses are not looked up. For real sockets; with `MemoryNetwork` there
    are no look-ups.
    """
    lookups = SlowLookups()
    real = anyio.getaddrinfo

    async def getaddrinfo(host: str, port: int, **options: Any) -> list[Any]:
        lookups.names.append(host)
        await anyio.sleep(seconds)
        address = "127.0.0.1" if addresses is None else addresses.get(host)
        if address is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        six = ipaddress.ip_address(address).version == 6
        family = socket.AF_INET6 if six else socket.AF_INET
        return [(family, socket.SOCK_STREAM, 6, "", (address, port))]

    anyio.getaddrinfo = getaddrinfo  # type: ignore[assignment]
    try:
        yield lookups
    finally:
        anyio.getaddrinfo = real
