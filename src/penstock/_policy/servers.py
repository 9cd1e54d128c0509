"""Which of several servers gets an attempt, as a function of what happened and of the time.

    in ──failed──> out ──out_for──> due ──chosen──> probed ──answered──> in
                    ^                                 │
                    └─────────────failed──────────────┘

- A server that is in gets a request if it has the fewest in flight; among equals they take turns.
- A session goes to the first server that is in, of an order that is the session's own (rendezvous
  hashing): the same in every process, and a server more or less moves only its own sessions.
- A server that failed is out for a growing while. Then one request at a time is let through, the
  probe: its answer takes the server back in. A request that could not be sent again is no probe.
- If all are out, the next request goes to the one that is due first. There is no waiting.

What an attempt tells counts only if nothing was learned since it began (`epoch`): attempts that
fail together put a server out once, and an answer on an old connection takes none back in.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Sequence

from ..errors import (
    APIConnectionError,
    APIStatusError,
    PenstockError,
    SlotTimeout,
    StreamInterruptedError,
    TotalTimeout,
)

__all__ = ["OUT_FIRST", "OUT_LAST", "Place", "Server", "Servers", "is_failure", "out_for"]

OUT_FIRST = 1.0
"""Seconds that a server is out after its first failure."""
OUT_LAST = 30.0
"""Seconds that a server is out at most, unless it asks for more."""
JITTER = 0.25
"""Up to a quarter is taken off, so that clients do not probe together."""

# What a gateway says of a server behind it that cannot be reached, and a server that is starting.
_NOT_THERE = (502, 503, 504)


def is_failure(error: PenstockError) -> bool:
    """Return True if the error, before the first byte, says that the server cannot be used."""
    if isinstance(error, APIStatusError):
        return error.status_code in _NOT_THERE
    if isinstance(error, (StreamInterruptedError, SlotTimeout, TotalTimeout)):
        return False
    return isinstance(error, APIConnectionError)


def out_for(failures: int, random: float) -> float:
    """Return the seconds that a server is out after this many failures in a row."""
    doubled: float = OUT_FIRST * 2 ** min(failures - 1, 16)
    return min(doubled, OUT_LAST) * (1 - JITTER * random)


class Server:
    """What is known of one server."""

    __slots__ = (
        "epoch",
        "failures",
        "index",
        "name",
        "out_until",
        "places",
        "probe",
        "rests_until",
    )

    def __init__(self, index: int, name: str) -> None:
        self.index: int = index
        """Its position among the servers."""
        self.name: str = name
        """What sessions are assigned by."""
        self.failures: int = 0
        """Failures in a row; it is in while there are none."""
        self.out_until: float = -math.inf
        """When the next probe is due, if it is out."""
        self.rests_until: float = -math.inf
        """Until then it has asked for no requests; others go first."""
        self.epoch: int = 0
        """Counts the times that it went out or came back."""
        self.places: set[Place] = set()
        """The attempts in flight. A set, as any thread may take one out."""
        self.probe: Place | None = None
        """The attempt that will tell whether it is back."""


class Place:
    """One attempt's place at a server."""

    __slots__ = ("epoch", "server")

    def __init__(self, server: Server) -> None:
        self.server: Server = server
        self.epoch: int = server.epoch

    def release(self) -> None:
        """Give it back. Idempotent, and safe in any thread."""
        server = self.server
        server.places.discard(self)
        if server.probe is self:
            server.probe = None


def _never(index: int) -> bool:
    return False


class Servers:
    """The servers, and the choice among them. All times are on one clock."""

    __slots__ = ("_turn", "all")

    def __init__(self, names: Sequence[str]) -> None:
        self.all: list[Server] = []
        for index, name in enumerate(names):
            # Two clients of one server are told apart by their order.
            earlier = sum(server.name.partition("\0")[0] == name for server in self.all)
            self.all.append(Server(index, f"{name}\0{earlier}" if earlier else name))
        self._turn = 0

    # --- choosing ---

    def take(
        self,
        now: float,
        *,
        session: str | None = None,
        tried: Collection[int] = (),
        may_probe: bool = True,
        closed: Callable[[int], bool] = _never,
        waits: Callable[[int], bool] = _never,
    ) -> Place | None:
        """Return a place at the server for the next attempt; None if all are closed.

        `tried` are the servers that have failed this request; they come last. `may_probe` says
        whether the request may be sent again if it fails. A server that is `closed` gets none,
        one that `waits` (for its limiter) comes after those that do not.
        """
        server = self._choose(now, session, tried, may_probe, closed, waits)
        return None if server is None else self._place(server)

    def again(self, server: Server) -> Place:
        """Return another place at the same server."""
        return self._place(server)

    def has_another(
        self,
        now: float,
        *,
        session: str | None,
        tried: Collection[int],
        may_probe: bool,
        closed: Callable[[int], bool] = _never,
        waits: Callable[[int], bool] = _never,
    ) -> bool:
        """Return True if the next attempt would go to a usable server that is not `tried`."""
        server = self._choose(now, session, tried, may_probe, closed, waits)
        if server is None or server.index in tried or waits(server.index):
            return False
        if server.failures:
            return server.out_until <= now and server.probe is None
        return server.rests_until <= now

    def _choose(
        self,
        now: float,
        session: str | None,
        tried: Collection[int],
        may_probe: bool,
        closed: Callable[[int], bool],
        waits: Callable[[int], bool],
    ) -> Server | None:
        usable = [server for server in self.all if not closed(server.index)]
        if not usable:
            return None
        some_in = any(not server.failures for server in usable)

        def takes(server: Server) -> bool:
            if not server.failures:
                return True
            due = server.out_until <= now and server.probe is None
            return due and (may_probe or not some_in) and server.index not in tried

        candidates = [server for server in usable if takes(server)]
        if not candidates:
            return min(
                usable,
                key=lambda server: (server.index in tried, bool(server.probe), server.out_until),
            )
        if session is not None:
            return max(candidates, key=lambda server: _weight(session, server.name))
        count = len(self.all)
        return min(
            candidates,
            key=lambda server: (
                not server.failures,  # a probe goes first
                waits(server.index) or server.rests_until > now,
                server.index in tried,
                len(server.places),
                (server.index - self._turn) % count,
            ),
        )

    def _place(self, server: Server) -> Place:
        self._turn = server.index + 1
        place = Place(server)
        server.places.add(place)
        if server.failures and server.probe is None:
            server.probe = place
        return place

    # --- learning ---

    def answered(self, place: Place) -> None:
        """Note that the server has answered: it is in."""
        server = place.server
        if server.failures and place.epoch == server.epoch:
            server.failures = 0
            server.out_until = -math.inf
            server.epoch += 1

    def failed(self, place: Place, now: float, random: float, pause: float = 0.0) -> None:
        """Note that the server failed: it is out, for `pause` seconds at least."""
        server = place.server
        if place.epoch == server.epoch:
            server.failures += 1
            server.out_until = now + max(out_for(server.failures, random), pause)
            server.epoch += 1

    def rests(self, place: Place, now: float, seconds: float) -> None:
        """Note that the server wants no request for so many seconds."""
        server = place.server
        server.rests_until = max(server.rests_until, now + seconds)


def _weight(session: str, name: str) -> bytes:
    text = f"{session}\0{name}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=8).digest()
