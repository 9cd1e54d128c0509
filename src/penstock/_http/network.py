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

from abc import ABC, abstractmethod
from typing import Protocol

__all__ = [
    "READ_SIZE",
    "ClosedLocally",
    "ConnectionFailed",
    "Deadline",
    "NetworkStream",
]

READ_SIZE = 65536


class ConnectionFailed(Exception):
    """The peer could not be reached, or the connection to it failed."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent
        """True where trying again cannot help, as with a certificate that does not verify."""


class ClosedLocally(Exception):
    """This side closed the stream, perhaps while another task was reading it."""


class Deadline(Protocol):
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
    async def receive(self, deadline: Deadline) -> bytes:
        """What has arrived, at least one byte; b"" when the peer has ended politely.

        Raises ConnectionFailed, ClosedLocally, or the error of `deadline`.
        """

    @abstractmethod
    def receive_nowait(self) -> bytes:
        """What has arrived so far, perhaps b""; raises nothing."""

    @abstractmethod
    async def send(self, data: bytes, deadline: Deadline) -> None:
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
