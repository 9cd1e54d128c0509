"""Events of a request for an observer, as frozen values.

An observer is any object with some of the methods `request_started`, `attempt_failed`,
`response_started`, `first_token` and `finished`. Each method is called synchronously with the
event of that name. A missing method costs nothing. An exception in a method is logged and
otherwise ignored: an observer never changes the outcome of a request.
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
"""How a request ended. Left early, it is "cancelled" by a cancellation, else "abandoned"."""


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


_logger = logging.getLogger("penstock")


class Notifier:
    """Calls the methods that an observer has. TypeError if it has none."""

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
        """Return whether the observer has this method; if not, the caller computes nothing."""
        return name in self._methods

    def tell(self, name: str, event: object) -> None:
        """Call the method with the event. An exception in it is logged, not raised."""
        try:
            self._methods[name](event)
        except Exception:
            _logger.exception("observer method %s raised", name)
