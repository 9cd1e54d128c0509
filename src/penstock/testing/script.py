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


@dataclass(frozen=True, slots=True)
class Repeat:
    """Send `data` `times` times (None: for ever), waiting `every` seconds before each."""

    data: bytes
    times: int | None = None
    every: float = 0.0


@dataclass(frozen=True, slots=True)
class Pause:
    """Send nothing for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reset:
    """Break the connection off with a RST; the client's read fails."""


@dataclass(frozen=True, slots=True)
class End:
    """Close the connection politely with a FIN; the client reads an end of file."""


@dataclass(frozen=True, slots=True)
class Stall:
    """Send nothing more, but hold the connection open until the client leaves."""


@dataclass(frozen=True, slots=True)
class StartTLS:
    """Go on inside TLS: what a proxy does after its answer to CONNECT (in memory: nothing)."""


Step: TypeAlias = Send | Repeat | Pause | Reset | End | Stall | StartTLS
Fault: TypeAlias = Reset | End | Stall


@dataclass(frozen=True, slots=True)
class Reply:
    """Steps played in order for one request.

    After the last step the connection is kept alive and the next request gets the next reply,
    unless a step ended it (`Reset`, `End`, `Stall`).
    """

    steps: tuple[Step, ...]

    @property
    def data(self) -> bytes:
        """Every byte the reply sends (an endless Repeat counts once)."""
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
    """Put Sends and Pauses in the place of each Repeat, lazily."""
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
    target: str
    """The path, with the query."""
    headers: Mapping[str, str]
    """Names in lower case; repeated ones joined with ", "."""
    body: bytes
    """Without any framing."""
    raw_headers: tuple[tuple[bytes, bytes], ...] = ()
    """As they came."""
    connection: int = 0
    """The number of the connection, from 0."""
    time: float = 0.0
    """When its last byte arrived, on the event loop's clock."""

    @property
    def json(self) -> Any:
        """Return the decoded body."""
        return json.loads(self.body)


Answer: TypeAlias = "Reply | Callable[[RecordedRequest], Reply]"
Script: TypeAlias = "Answer | Sequence[Answer]"
"""One reply for all requests, a function from request to reply, or a list of these in order."""


class Player:
    """Gives each request its reply: by a function, or in order, the last one for all the rest."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._played = 0

    def reply_to(self, request: RecordedRequest) -> Reply:
        """What to play for this request, which is the next one."""
        script = self._script
        if not (isinstance(script, Reply) or callable(script)):
            index = min(self._played, len(script) - 1)
            self._played += 1
            script = script[index]
        return script if isinstance(script, Reply) else script(request)
