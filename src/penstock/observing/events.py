"""Events of a request, as frozen values. Times are seconds on the clock of the event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from ..types import ChatCompletion, TextCompletion, Usage
from .figures import NOTHING, StreamStatistics

if TYPE_CHECKING:
    from .._client.statistics import ClientStatistics
    from .._limiter.limiter import LimiterStatistics

__all__ = [
    "AttemptFailed",
    "ClientMade",
    "Finished",
    "FirstToken",
    "GroupFinished",
    "GroupKind",
    "GroupStarted",
    "Outcome",
    "RequestBody",
    "RequestStarted",
    "ResponseStarted",
]

Outcome = Literal["completed", "failed", "cancelled", "abandoned"]
"""How a request ended. Left early, it is "cancelled" by a cancellation, else "abandoned"."""

GroupKind = Literal["fan_out", "fan_out_chunks", "fan_out_channels", "race", "batch"]
"""What several requests were made for."""


class RequestBody:
    """The body of a request as it was sent. `repr()` does not show it: it may be private."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __bytes__(self) -> bytes:
        """The bytes, without secrets masked."""
        return self._data

    def __len__(self) -> int:
        """The number of bytes."""
        return len(self._data)

    def json(self) -> Any:
        """Return the body decoded from JSON; None if it is not JSON. Decodes it at each call."""
        try:
            return msgspec.json.decode(self._data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return None

    def __repr__(self) -> str:
        return f"<{len(self._data)} bytes>"


class ClientMade(msgspec.Struct, frozen=True):
    """A client was made with this observer."""

    host: str
    """Host of its server, for instance "api.openai.com"."""
    port: int
    """Port of its server, for instance 443."""
    provider: str | None
    """Name of its provider, for instance "openai"."""
    statistics: Callable[[], ClientStatistics | None]
    """Returns the client's figures of the moment; None once it is closed or gone."""
    limiter_statistics: Callable[[], LimiterStatistics | None]
    """Returns those of its limiter; None without one, or once the client is closed or gone."""
    limiter: int | None = None
    """Number of its limiter, the same for all clients that share it; None without one."""


class RequestStarted(msgspec.Struct, frozen=True):
    """A request is about to be sent for the first time."""

    id: int
    """Number of the request in this process; all events of one request share it."""
    model: str | None
    """The requested model, or None for an endpoint without one."""
    method: str
    """The HTTP method, for instance "POST"."""
    path: str
    """Path and query of the URL, for instance "/v1/chat/completions"."""
    stream: bool
    """Whether the answer is streamed."""
    time: float
    """When it was about to be sent."""
    host: str = ""
    """Host of the server, for instance "api.openai.com"."""
    port: int = 0
    """Port of the server, for instance 443."""
    provider: str | None = None
    """Name of the provider whose rules the client follows, for instance "openai"."""
    group: int | None = None
    """Number of the fan-out, race or batch that it was made for, as in `GroupStarted`."""
    body: RequestBody = RequestBody(b"")
    """The body that is sent; empty where there is none."""
    server: str = ""
    """Base URL of the server; of the first one if a `Spread` sends it to several."""


class AttemptFailed(msgspec.Struct, frozen=True):
    """An attempt failed before the first byte of the body."""

    id: int
    """Number of the request, as in `RequestStarted`."""
    attempt: int
    """Number of the attempt, from 1."""
    error: Exception
    """Why it failed."""
    retry_in: float | None
    """Seconds until the request is sent again; None if the error is raised instead."""
    time: float
    """When it failed."""
    server: str = ""
    """Base URL of the server of this attempt."""


class ResponseStarted(msgspec.Struct, frozen=True):
    """The status and headers of a 2xx response have arrived."""

    id: int
    """Number of the request, as in `RequestStarted`."""
    attempt: int
    """Number of the attempt, from 1."""
    status_code: int
    """The HTTP status, 200 to 299."""
    request_id: str | None
    """The server's id of the request, or None."""
    time: float
    """When they arrived."""
    server: str = ""
    """Base URL of the server that answers."""


class FirstToken(msgspec.Struct, frozen=True):
    """The first token of a stream has arrived; `Timeouts` says what counts as a token."""

    id: int
    """Number of the request, as in `RequestStarted`."""
    time: float
    """When it arrived."""


class Finished(msgspec.Struct, frozen=True):
    """The request is over. Its connection is idle or closed, or about to be."""

    id: int
    """Number of the request, as in `RequestStarted`."""
    model: str | None
    """The requested model, or None for an endpoint without one."""
    outcome: Outcome
    """How it ended."""
    error: Exception | None
    """What was raised if the outcome is "failed", otherwise None."""
    usage: Usage | None
    """Token counts, if the server reported them."""
    attempts: int
    """How often the request was sent."""
    request_id: str | None
    """The server's id of the last attempt, or None."""
    started: float
    """When the first attempt began."""
    time: float
    """When it ended."""
    statistics: StreamStatistics = NOTHING
    """Times, counts and gaps; `statistics.waits` adds up to `time - started`."""
    finish_reasons: tuple[str, ...] = ()
    """The finish_reason of each choice that had one, in order; `stop_reason` of a message."""
    response_id: str | None = None
    """The id of the answer, or None."""
    response_model: str | None = None
    """The model that answered, as the server said, or None."""
    retries: tuple[AttemptFailed, ...] = ()
    """The failed attempts after which the request was sent again, with reason and wait."""
    lost_race: bool = False
    """Whether it was given up because another attempt of its race had a token first."""
    group: int | None = None
    """Number of the fan-out, race or batch that it was made for, as in `GroupStarted`."""
    answer: ChatCompletion | TextCompletion | None = None
    """The answer as far as it was received; None for other endpoints, and where none began.
    `repr()` does not show it."""

    server: str = ""
    """Base URL of the last server that it was sent to."""

    def __repr__(self) -> str:
        fields = (name for name in self.__struct_fields__ if name != "answer")
        return f"Finished({', '.join(f'{name}={getattr(self, name)!r}' for name in fields)})"


class GroupStarted(msgspec.Struct, frozen=True):
    """The first request of a fan-out, race or batch is about to begin on this observer's client."""

    id: int
    """Number of the group in this process."""
    kind: GroupKind
    """What it is."""
    parent: int | None
    """Number of the group that it was made in, or None."""
    time: float
    """When the group began."""


class GroupFinished(msgspec.Struct, frozen=True):
    """A fan-out, race or batch is over, as are all its requests."""

    id: int
    """Number of the group, as in `GroupStarted`."""
    kind: GroupKind
    """What it is."""
    outcome: Outcome
    """How its block was left: "failed" if it raised, "abandoned" if results were left unread."""
    started: float
    """When the group began."""
    time: float
    """When it ended."""
