"""Name look-ups, shared by the connections that need the same one at the same time.

asyncio looks names up in a few threads. With a look-up for each connection, hundreds of
connections wait in line for those threads until they time out.
"""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Callable
from itertools import chain, zip_longest
from typing import Any

import anyio
import anyio.lowlevel

from .._loops import in_trio
from .._wire.url import Origin
from .network import ConnectionFailed

__all__ = ["Lookups", "literal_address"]

# A name may resolve to thousands of addresses. If none of the first ones answers, the rest
# will not.
MAX_ADDRESSES = 16


def literal_address(hop: Origin) -> list[tuple[str, int]]:
    """Return the (address, family) of a host that is an address itself; [] of a name."""
    try:
        literal = ipaddress.ip_address(hop.host.partition("%")[0])
    except ValueError:
        return []
    import socket

    return [(hop.host, socket.AF_INET6 if literal.version == 6 else socket.AF_INET)]


class Lookups:
    """The look-ups in progress of one client, by event loop and host.

    Results are not kept: a look-up that begins later asks again.
    """

    def __init__(self) -> None:
        self._running: dict[tuple[object, str, int], _Lookup] = {}

    async def resolve(self, hop: Origin, shown: str = "") -> list[tuple[str, int]]:
        """Return (address, family) pairs, in which the families take turns (RFC 8305, 4).

        Raises ConnectionFailed, which names the hop as `shown`, or else by its host. A cancelled
        call does not disturb the others that wait for the same look-up; the last one to leave
        cancels it.
        """
        key = (anyio.lowlevel.current_token(), hop.host, hop.port)
        lookup = self._running.get(key)
        if lookup is None:
            lookup = self._running[key] = _Lookup(hop)
        lookup.waiting += 1
        try:
            await lookup.done.wait()
        finally:
            lookup.waiting -= 1
            if not lookup.waiting:
                lookup.cancel()
                # Another one may have begun since this one ended.
                if self._running.get(key) is lookup:
                    del self._running[key]
        return lookup.addresses(shown or hop.host)


class _Lookup:
    """One look-up in a task of its own, which ends when its result is in or nobody waits."""

    def __init__(self, hop: Origin) -> None:
        self.waiting = 0
        self.done = anyio.Event()
        self._hop = hop
        self._found: list[Any] = []
        self._error: Exception | None = None
        self.cancel: Callable[[], object]
        if in_trio():
            import trio

            scope = trio.CancelScope()
            trio.lowlevel.spawn_system_task(self._run_within, scope)
            self.cancel = scope.cancel
        else:
            import asyncio

            self.cancel = asyncio.get_running_loop().create_task(self._run()).cancel

    async def _run_within(self, scope: Any) -> None:
        with scope:
            await self._run()

    async def _run(self) -> None:
        hop = self._hop
        try:
            self._found = await _look_up(hop)
        except Exception as error:  # noqa: BLE001 - raised in each task that waits
            self._error = error
        finally:
            self.done.set()

    def addresses(self, shown: str) -> list[tuple[str, int]]:
        """Return what was found; an exception of its own for each caller."""
        if isinstance(self._error, (OSError, UnicodeError)):
            raise ConnectionFailed(f"cannot resolve {shown}: {self._error}") from self._error
        if self._error is not None:
            raise self._error
        by_family: dict[int, list[tuple[str, int]]] = {}
        for family, _, _, _, address in self._found:
            by_family.setdefault(family, []).append((address[0], family))
        turns = chain.from_iterable(zip_longest(*by_family.values()))
        return list(dict.fromkeys(pair for pair in turns if pair is not None))[:MAX_ADDRESSES]


async def _look_up(hop: Origin) -> list[Any]:
    import socket

    try:
        return await anyio.getaddrinfo(hop.host, hop.port, type=socket.SOCK_STREAM)
    except RuntimeError:
        # While the handlers of `atexit` run, no thread pool takes a job any more.
        if threading.main_thread().is_alive():
            raise
        return list(socket.getaddrinfo(hop.host, hop.port, type=socket.SOCK_STREAM))
