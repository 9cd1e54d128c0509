"""What the rooms above ask of a network stream, whatever carries its bytes.

Rules that every stream keeps:

- Nothing is lost by cancelling: bytes leave a stream only after the last await of
  `receive`, so a cancelled one leaves them for the next.
- A deadline wakes the reader with an error of its own; it is no cancellation and cannot
  be mistaken for one.
- `close` is synchronous and cuts the connection at once, so that cleaning up needs no
  await that a second cancellation could break off.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

__all__ = [
    "READ_SIZE",
    "ClosedLocally",
    "ConnectionFailed",
    "Limits",
    "NetworkStream",
    "enable_keepalive",
    "event_loop_clock",
    "fd_is_readable",
    "in_trio",
    "shutdown_fd",
]

READ_SIZE = 65536

# Seconds of silence after which the kernel probes whether the peer is still there, as
# OpenAI's own client sets them: streams may be silent for minutes behind a NAT.
KEEPALIVE_IDLE = 60
KEEPALIVE_INTERVAL = 60
KEEPALIVE_PROBES = 5


class ConnectionFailed(Exception):
    """The peer could not be reached, or the connection to it failed."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent
        """True where trying again cannot help, as with a certificate that does not verify."""


class ClosedLocally(Exception):
    """This side closed the stream, perhaps while another task was reading it."""


class Limits(Protocol):
    """How long a wait for the network may take; see `penstock._policy.deadlines`."""

    def begin(self, now: float) -> float: ...
    def end(self, now: float) -> None: ...
    def check(self, now: float) -> None: ...
    def byte_arrived(self) -> None: ...
    def error(self) -> Exception: ...


class NetworkStream(ABC):
    """A connected stream of bytes."""

    __slots__ = ("__weakref__",)

    @abstractmethod
    async def receive(self, limits: Limits) -> bytes:
        """What has arrived, at least one byte; b"" when the peer has ended politely.

        Raises ConnectionFailed, ClosedLocally, or the error of `limits`.
        """

    @abstractmethod
    def receive_nowait(self) -> bytes:
        """What has arrived so far, perhaps b""; raises nothing."""

    @abstractmethod
    async def send(self, data: bytes, limits: Limits) -> None:
        """Hand the bytes to the network. Raises as `receive` does."""

    @abstractmethod
    def is_clean(self) -> bool:
        """Whether an idle connection can take a request.

        It has to be open, belong to the event loop that runs now, and nothing may have
        arrived: bytes that nobody asked for would be taken for the next answer.
        """

    @abstractmethod
    def close(self) -> None:
        """Cut the connection now; a blocked reader gets ClosedLocally. Any number of times.

        Safe from `__del__` and from any thread.
        """

    @abstractmethod
    async def aclose(self, grace: float | None) -> None:
        """Close gracefully within `grace` seconds, then return when nothing is open any more."""


def in_trio() -> bool:
    """Whether the calling task runs under trio, without importing trio to find out."""
    trio = sys.modules.get("trio")
    return trio is not None and bool(trio.lowlevel.in_trio_task())


def event_loop_clock() -> Callable[[], float]:
    """The running event loop's clock: `anyio.current_time` without its look-ups."""
    if in_trio():
        import trio

        return trio.current_time
    return asyncio.get_running_loop().time


def fd_is_readable(fd: int) -> bool:
    """Whether the descriptor has bytes, an end or an error waiting; one system call."""
    if fd < 0:
        return True
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([fd], [], [], 0)[0])


def shutdown_fd(fd: int) -> None:
    """Tell the peer that this connection is over, whoever owns the descriptor."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)


def enable_keepalive(sock: socket.socket) -> None:
    """Have the kernel notice a peer that vanished, as far as the platform has the options."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (
            ("TCP_KEEPIDLE", KEEPALIVE_IDLE),
            ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL),
            ("TCP_KEEPCNT", KEEPALIVE_PROBES),
        ):
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
