"""What an observer is told about a request, as frozen values.

An observer is any object with some of the methods `request_started`, `attempt_failed`,
`response_started`, `first_token` and `finished`; each is called synchronously with the
value of that name here. A method that is missing costs nothing, and an observer that
raises is logged and goes on being called: watching never changes what is watched.
Times are seconds on the clock of the event loop (`anyio.current_time`).
"""

from __future__ import annotations

import logging
from typing import Any, Literal

import msgspec

from .types import Usage

__all__ = [
    "AttemptFailed",
    "Finished",
    "FirstToken",
    "Notifier",
    "Outcome",
    "RequestStarted",
    "ResponseStarted",
]

Outcome = Literal["completed", "failed", "cancelled", "abandoned"]
"""How a request ended: left by a cancellation is cancelled, left otherwise is abandoned."""


class RequestStarted(msgspec.Struct, frozen=True):
    """A request is about to be sent for the first time."""

    id: int
    """Number of the request in this process; all events of one request share it."""
    model: str | None
    method: str
    path: str
    stream: bool
    time: float


class AttemptFailed(msgspec.Struct, frozen=True):
    """An attempt failed before the first byte of the body."""

    id: int
    attempt: int
    error: Exception
    retry_in: float | None
    """Seconds until it is sent again; None when the error is raised."""
    time: float


class ResponseStarted(msgspec.Struct, frozen=True):
    """The head of a success response has come."""

    id: int
    attempt: int
    status_code: int
    request_id: str | None
    """The server's own id."""
    time: float


class FirstToken(msgspec.Struct, frozen=True):
    """The first delta with content, reasoning, refusal or a piece of a tool call has come."""

    id: int
    time: float


class Finished(msgspec.Struct, frozen=True):
    """The request is over and its connection settled or about to be."""

    id: int
    model: str | None
    outcome: Outcome
    error: Exception | None
    usage: Usage | None
    attempts: int
    request_id: str | None
    started: float
    time: float


_logger = logging.getLogger("penstock")


class Notifier:
    """Calls the methods an observer has."""

    __slots__ = ("_methods",)

    def __init__(self, observer: object) -> None:
        names = ("request_started", "attempt_failed", "response_started", "first_token", "finished")
        self._methods: dict[str, Any] = {
            name: method for name in names if callable(method := getattr(observer, name, None))
        }
        if not self._methods:
            kind = type(observer).__name__
            raise TypeError(f"the observer, {kind}, has none of the methods {', '.join(names)}")

    def wants(self, name: str) -> bool:
        """Whether anybody listens, so that nothing is computed for nobody."""
        return name in self._methods

    def tell(self, name: str, event: object) -> None:
        """Hand the event over."""
        try:
            self._methods[name](event)
        except Exception:
            _logger.exception("observer method %s raised", name)
