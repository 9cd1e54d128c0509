"""What the other modules ask of a network stream, whatever carries its bytes.

Rules that every stream keeps:

- A cancelled call loses nothing. Bytes leave a stream only after the last await of
  `receive`, so a cancelled `receive` leaves them for the next one.
- A deadline raises an error of its own. It is not a cancellation and cannot be mistaken
  for one.
- `close` is synchronous and closes the connection at once, so that cleaning up needs no
  await that a second cancellation could interrupt.
- A stream belongs to the process that made it. In a forked child `close` and `aclose` leave
  the connection alone, because the parent still uses it.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import ClassVar, Protocol, TypeVar

__all__ = [
    "READ_SIZE",
    "WRITE_SIZE",
    "ClosedLocally",
    "ConnectionFailed",
    "Deadline",
    "LazyDeadline",
    "NetworkStream",
    "Taken",
    "Tap",
    "Upload",
    "without_frames",
]

READ_SIZE = 40960
"""Bytes that are read at once: what a stream holds in bytes while its consumer stalls.

See `Exchange.read` for what it holds decoded. Smaller reads cost more (with 24 KiB, 8 % of an
event in a long drain).
"""

WRITE_SIZE = 262144
"""Bytes of an upload that are written at once; between two writes other tasks run."""


class ConnectionFailed(Exception):
    """The peer could not be reached, or the connection to it failed."""

    def __init__(self, message: str, *, permanent: bool = False, ended: bool = False) -> None:
        super().__init__(message)
        self.ended: bool = ended
        """True if the peer ended the connection by the rules of TCP, but too early for HTTP."""
        self.permanent: bool = permanent
        """True if another attempt cannot help, as with a certificate that does not verify."""


class ClosedLocally(Exception):
    """This side closed the stream, perhaps while another task was reading it."""


E = TypeVar("E", bound=BaseException)


def without_frames(error: E) -> E:
    """Return the error without its frames and its causes' frames, so that it may be kept.

    The frames are of those who were waiting, and lead back to the stream that is being read.
    Whoever keeps them, the call itself or an observer, would keep a stream alive that its user
    has dropped.
    """
    left: list[BaseException | None] = [error]
    seen: set[int] = set()
    while left:
        each = left.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            each.__traceback__ = None
            left += (each.__cause__, each.__context__)
    return error


class Deadline(Protocol):
    """How long waits for the network may take; see `penstock._policy.deadlines`."""

    def begin(self, now: float) -> float:
        """Note that a wait begins; return the time at which it must end."""
        ...

    def end(self, now: float) -> None:
        """Note that the wait is over."""
        ...

    def check(self, now: float) -> None:
        """Raise `error()` if the time is up although there was no wait."""
        ...

    def byte_arrived(self) -> None:
        """Note that bytes moved in either direction, which ends the silence."""
        ...

    def error(self) -> Exception:
        """Return the error of the deadline that the last wait was given."""
        ...


class LazyDeadline(Deadline, Protocol):
    """A deadline that never comes nearer from one wait to the next.

    So a wait need not ask for it while a timer is set for an earlier one.
    """

    since: float
    """When the present wait began; set in place of a `begin`."""

    def due(self) -> float:
        """Return the time at which the present wait must end."""
        ...


class Upload:
    """Bytes that the network has not taken yet. True while there are any."""

    __slots__ = ("_left",)

    def __init__(self, data: bytes) -> None:
        self._left = memoryview(data)

    def __len__(self) -> int:
        return len(self._left)

    @property
    def begun(self) -> bool:
        """True once the network has taken any of them."""
        return len(self._left) < len(memoryview(self._left.obj))

    def peek(self) -> memoryview:
        """Return the next bytes, WRITE_SIZE at most, without taking them."""
        return self._left[:WRITE_SIZE]

    def advance(self, count: int) -> None:
        """Drop this many bytes: the network has taken them."""
        self._left = self._left[count:]

    def write(self, stream: NetworkStream, deadline: Deadline) -> Awaitable[bool]:
        """Write it all to the stream, as `NetworkStream.upload` does, and return the same."""
        return stream.upload(self, deadline)


class Taken(enum.Enum):
    """What became of bytes that a tap was given."""

    NOTHING = "nothing"
    """They are for `receive`, and the wait is over."""
    ENDS = "ends"
    """The tap has taken them, and the wait is over."""
    GOES_ON = "goes on"
    """The tap has taken them, and the task goes on waiting, with a wait that began now."""


Tap = Callable[[bytes, float], Taken]
"""Gets bytes where they arrive, with the time of that: see `NetworkStream.wait`."""


class NetworkStream(ABC):
    """A connected stream of bytes."""

    __slots__ = ("__weakref__",)

    closes_at_once: ClassVar[bool] = True
    """False if only `aclose` closes it altogether; `close` then ends its use."""

    @abstractmethod
    async def receive(self, deadline: Deadline) -> bytes:
        """Return what has arrived, at least one byte; b"" once the peer has ended properly.

        Raises ConnectionFailed, ClosedLocally, or the error of `deadline`.
        """

    @abstractmethod
    def receive_nowait(self) -> bytes:
        """Return what has arrived so far, or the first of it; b"" if nothing. Raises nothing."""

    def wait(self, deadline: LazyDeadline, tap: Tap) -> Awaitable[object] | None:
        """Begin a wait for the next bytes, which `tap` gets where they arrive.

        Returns what the task awaits, and no error but a cancellation comes of it. If the tap
        took bytes and ended the wait, its `deadline` is over, too. Else call `stop_waiting`:
        then `receive` has the bytes, the end or the error. Returns None where `receive` has
        something already, or where only `receive` can read.
        """
        return None

    def stop_waiting(self, deadline: Deadline) -> None:  # noqa: B027 - as in `wait`
        """End the wait, if it is not over. Idempotent."""

    def take_in(self) -> None:  # noqa: B027 - most streams need nothing
        """Have `receive_nowait` return what the event loop has not read from the socket yet.

        Streams whose `receive_nowait` reads the socket itself need nothing for that.
        """

    @abstractmethod
    async def send(self, data: bytes, deadline: Deadline) -> None:
        """Write all the bytes. Raises as `receive` does."""

    @abstractmethod
    async def upload(self, upload: Upload, deadline: Deadline) -> bool:
        """Write until nothing is left, or until the peer sends something or ends.

        Returns True if everything is written; else call it again with the same `upload`,
        unless the response makes that pointless. A small upload is one write, as with
        `send`. Every byte that the network takes ends the silence that `deadline` measures.
        A cancelled call loses nothing. Raises as `receive` does.
        """

    @abstractmethod
    def is_clean(self) -> bool:
        """Return True if an idle connection can take a request.

        It must be open and belong to this process and to the running event loop, and
        nothing may have arrived: those bytes would be taken for the next response.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the connection now; a blocked reader gets ClosedLocally. Idempotent.

        Safe from `__del__` and from any thread.
        """

    @abstractmethod
    async def aclose(self, grace: float | None) -> None:
        """Close gracefully within `grace` seconds; return when nothing is open any more."""
