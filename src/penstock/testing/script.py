"""What a server does, as plain data: steps make a reply, a script gives each request its reply.

The same scripts are played by `MemoryNetwork` (no sockets, virtual time) and by `serve`
(real loopback sockets). Nothing here does I/O.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Send:
    """Send these bytes, as one segment: in memory, one read never crosses into the next Send."""

    data: bytes
    """The bytes."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """Send the same bytes several times."""

    data: bytes
    """The bytes."""
    times: int | None = None
    """How many times; None is for ever."""
    every: float = 0.0
    """Seconds before each."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Send nothing for a time."""

    seconds: float
    """How long."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Reset the connection with a RST; the client's read fails."""


@dataclass(frozen=True, slots=True)
class End:
    """Close the connection cleanly with a FIN; the client reads an end of file."""


@dataclass(frozen=True, slots=True)
class Stall:
    """Send nothing more, but hold the connection open until the client leaves."""


@dataclass(frozen=True, slots=True)
class StartTLS:
    """Continue inside TLS, as a proxy does after its answer to CONNECT (in memory: nothing)."""


Step: TypeAlias = Send | Repeat | Pause | Reset | End | Stall | StartTLS
"""One thing that a server does."""
Fault: TypeAlias = Reset | End | Stall
"""A step that ends a reply."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Steps played in order for one request.

    After the last step the connection is kept alive and the next request gets the next reply,
    unless a step ended it (`Reset`, `End`, `Stall`).
    """

    steps: tuple[Step, ...]
    """The steps."""

    @property
    def data(self) -> bytes:
        """All bytes that the reply sends (an endless Repeat counts once)."""
        return b"".join(
            step.data if isinstance(step, Send) else step.data * (step.times or 1)
            for step in self.steps
            if isinstance(step, Send | Repeat)
        )

    def then(self, *steps: Step) -> Reply:
        """Return this reply with more steps after it."""
        return Reply(self.steps + steps)

    def after(self, seconds: float) -> Reply:
        """Return this reply with a pause before it."""
        return Reply((Pause(seconds), *self.steps))


def reply(*steps: Step | bytes) -> Reply:
    """Make a Reply; bytes stand for `Send(bytes)`."""
    return Reply(tuple(Send(step) if isinstance(step, bytes) else step for step in steps))


def unroll(steps: Iterable[Step]) -> Iterator[Send | Pause | Reset | End | Stall | StartTLS]:
    """Yield the steps with each Repeat replaced by Sends and Pauses, lazily."""
    for step in steps:
        if not isinstance(step, Repeat):
            yield step
            continue
        for _ in itertools.count() if step.times is None else range(step.times):
            if step.every:
                yield Pause(step.every)
            yield Send(step.data)


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """One whole request, as the server saw it."""

    method: str
    """GET or POST, for instance."""
    target: str
    """The path, with the query."""
    headers: Mapping[str, str]
    """Values by lower-case names; values of a repeated name are joined with ", "."""
    body: bytes
    """The body, without framing."""
    raw_headers: tuple[tuple[bytes, bytes], ...] = ()
    """Names and values as they arrived."""
    connection: int = 0
    """The number of the connection, from 0."""
    time: float = 0.0
    """When its last byte arrived, on the event loop's clock."""

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


Answer: TypeAlias = "Reply | Callable[[RecordedRequest], Reply]"
"""One reply for all requests, or a function from request to reply."""
Script: TypeAlias = "Answer | Sequence[Answer]"
"""An answer for all requests, or a sequence of them, of which the last is for all the rest."""


class Player:
    """Gives each request its reply: by a function, or in order, the last one for all the rest."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._played = 0

    def reply_to(self, request: RecordedRequest) -> Reply:
        """Return the reply to the next request."""
        script = self._script
        if not (isinstance(script, Reply) or callable(script)):
            index = min(self._played, len(script) - 1)
            self._played += 1
            script = script[index]
        return script if isinstance(script, Reply) else script(request)
