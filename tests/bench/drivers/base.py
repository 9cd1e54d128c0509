"""What a workload asks of a client."""

from __future__ import annotations

import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NamedTuple

import anyio
import msgspec

__all__ = ["Address", "Driver", "Merging", "NoPause", "Pause", "Peer", "Received"]


class Address(NamedTuple):
    """Where the server is."""

    base_url: str
    ssl_context: ssl.SSLContext | None = None
    """With the server's authority; None without TLS, as the next one."""
    authority: Path | None = None
    """The PEM file of the authority, for clients with TLS of their own."""


class Received(NamedTuple):
    """One answer, as far as it was read."""

    events: int
    text: str


class Pause:
    """A point that all streams of a workload reach before any goes on.

    `after` is the number of events a stream reads before it; 0: there is none.
    """

    def __init__(self, after: int, streams: int) -> None:
        self.after = after
        self._missing = streams
        self.reached_by_all = anyio.Event()
        self.over = anyio.Event()

    def parts(self) -> list[str]:
        """Where a stream's contents go, one after the other."""
        return []

    async def wait(self) -> None:
        self._missing -= 1
        if not self._missing:
            self.reached_by_all.set()
        await self.over.wait()


class NoPause(Pause):
    def __init__(self) -> None:
        super().__init__(0, 0)  # and parts() may watch what comes


class Peer(ABC):
    """An open client. What it does with each event is the same for all: add the content of the
    typed chunk's first choice to a list.
    """

    @abstractmethod
    async def stream(self, model: str, pause: Pause) -> Received:
        """Read one streamed answer."""

    @abstractmethod
    async def create(self, model: str) -> Received:
        """Read one whole answer, which counts as one event."""

    @abstractmethod
    async def models(self) -> Received:
        """Read the list of models; it counts as one event, and the text is their names."""


class Merging(Peer):
    """A client that can do more than its peers."""

    @abstractmethod
    async def merged(
        self, models: list[str], warm_up: int, warm: Callable[[], None]
    ) -> list[Received]:
        """Read these answers merged into one loop; calls `warm` after so many events."""

    @abstractmethod
    async def collect(self, model: str) -> Received:
        """Read a streamed answer as a whole; it counts as one event."""

    @abstractmethod
    async def complete(self, model: str) -> Received:
        """The same without a stream in sight."""


class Driver(msgspec.Struct, frozen=True):
    """How a client is made."""

    open: Callable[[Address], AbstractAsyncContextManager[Peer]]
    loops: tuple[str, ...] = ("asyncio", "uvloop")
