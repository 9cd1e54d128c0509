"""What one call tells the client's observers; made only where there are some."""

from __future__ import annotations

import contextvars
import itertools
from collections.abc import Callable, Sequence

import msgspec

from .._http.dial import Dialer
from .._limiter.home_loop import HomeLoop
from .._logs import logger
from .._wire.credentials import shown_target
from .._wire.labels import Labels
from .._wire.request import checked_headers
from ..observing.events import (
    AttemptFailed,
    Finished,
    FirstToken,
    Outcome,
    RequestBody,
    RequestStarted,
    ResponseStarted,
)
from ..observing.figures import StreamStatistics
from ..observing.groups import current_group
from ..observing.notifier import Notifier
from ..types import ChatCompletion, TextCompletion, Usage
from .call import Call, Service

__all__ = ["Reports", "Summary"]


_numbers = itertools.count(1)


class Summary(msgspec.Struct, frozen=True):
    """What is known about an answer once the call is over."""

    statistics: StreamStatistics
    """Times, counts and gaps."""
    usage: Usage | None = None
    """Token counts, if the server reported them."""
    answer: ChatCompletion | TextCompletion | None = None
    """The answer so far; None for calls that do not ask for a completion."""
    labels: Labels = Labels()
    """Who answered, and why the answer ended."""


class _Body(msgspec.Struct, gc=False):
    """What is looked for in the body of a request to any endpoint."""

    model: str | None = None


def _asked_model(call: Call) -> str | None:
    """Return the model of a call, also of one whose body the caller has made."""
    if call.model is not None:
        return call.model
    try:
        return msgspec.json.decode(call.outgoing.body, type=_Body).model
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


class Reports:
    """The events of one call, under one number, the end of it once."""

    __slots__ = (
        "_call",
        "_context",
        "_dialer",
        "_event",
        "_finished",
        "_group",
        "_home",
        "_notifier",
        "_number",
        "_provider",
        "_retries",
        "_told",
        "added_headers",
        "server",
        "shown_id",
    )

    def __init__(
        self, notifier: Notifier, call: Call, dialer: Dialer, provider: str | None = None
    ) -> None:
        self._notifier = notifier
        self._told = notifier
        """Calls all who know of the request."""
        self._call = call
        self._dialer = dialer
        self._provider = provider
        self._number = next(_numbers)
        self._context = contextvars.copy_context()
        self._group = current_group()
        self._home = HomeLoop()
        self._event: RequestStarted | None = None
        """What was told at the start; None until then."""
        self._retries: list[AttemptFailed] = []
        self._finished = False
        self.added_headers: Sequence[tuple[bytes, bytes]] = ()
        """The header lines that the observers add to the request."""
        self.shown_id: tuple[str, str | None] | None = None
        """The server's id of the request, and the same without secrets."""
        self.server: str = ""
        """Base URL of the server of the current attempt."""

    def move(self, call: Call, service: Service, notifier: Notifier | None) -> None:
        """The next attempt goes to another server, which may have other observers.

        They are told that the request has started, and like all that know of it, its end.
        """
        self._call = call
        self._dialer = service.connections.dialer
        self._provider = service.provider
        self.server = service.server
        if notifier is self._notifier:
            return
        self._notifier = Notifier() if notifier is None else notifier
        if self._event is None:
            self._told = self._notifier
            return
        new = self._notifier.without(self._told)
        self._told = Notifier.joined(self._told, self._notifier)
        if self._group is not None:
            self._group.join(self._notifier)
        new.tell("request_started", self._started_event(self._event.time), self._context)

    def request_started(self, now: float) -> None:
        """The call begins."""
        self._home.move_here(in_use=False)
        if self._group is not None:
            self._group.join(self._notifier)
        self._event = event = self._started_event(now)
        self._tell("request_started", event)

    def _started_event(self, now: float) -> RequestStarted:
        call, origin = self._call, self._dialer.origin
        return RequestStarted(
            self._number,
            _asked_model(call),
            call.outgoing.method,
            shown_target(call.outgoing.target),
            call.streaming,
            now,
            host=origin.host,
            port=origin.port,
            provider=self._provider,
            group=None if self._group is None else self._group.id,
            body=RequestBody(call.outgoing.body),
            server=self.server,
        )

    def ask_for_headers(self) -> None:
        """Ask the observers for header lines that they add to the request."""
        if self._event is None or not self._notifier.wants("request_headers"):
            return
        try:
            added = checked_headers(self._notifier.headers(self._event, self._context))
        except (TypeError, ValueError) as error:
            logger("observer").error(
                "observer method request_headers gave headers not to be sent: %s", error
            )
            return
        self.added_headers = list(added.values())

    def attempt_failed(
        self, attempt: int, error: Exception, retry_in: float | None, now: float
    ) -> None:
        """An attempt failed before the first byte of its answer's body."""
        event = AttemptFailed(self._number, attempt, error, retry_in, now, self.server)
        if retry_in is not None:
            self._retries.append(event)
        self._tell("attempt_failed", event)

    def forget_body(self, call: Call) -> None:
        """Keep the call, and what was told at its start, without the request's body."""
        self._call = call
        if self._event is not None:
            self._event = msgspec.structs.replace(self._event, body=RequestBody(b""))

    def response_started(
        self, attempt: int, status_code: int, request_id: str | None, now: float
    ) -> None:
        """A success head is in."""
        if self._notifier.wants("response_started"):
            event = ResponseStarted(
                self._number, attempt, status_code, request_id, now, self.server
            )
            self._tell("response_started", event)

    def first_token(self, now: float) -> None:
        """The first token has come."""
        if self._notifier.wants("first_token"):
            self._tell("first_token", FirstToken(self._number, now))

    def finished(
        self,
        outcome: Outcome,
        error: Exception | None,
        summary: Callable[[float], Summary],
        *,
        attempts: int,
        request_id: str | None,
        now: float,
    ) -> None:
        """The call is over; nothing when it had not begun, or was over already."""
        begun = self._event
        if self._finished or begun is None:
            return
        self._finished = True
        if not self._told.wants("finished"):
            return
        known = summary(now)
        labels = known.labels
        event = Finished(
            id=self._number,
            model=begun.model,
            outcome=outcome,
            error=error,
            usage=known.usage,
            attempts=attempts,
            request_id=request_id,
            started=begun.time,
            time=now,
            statistics=known.statistics,
            finish_reasons=labels.finish_reasons,
            response_id=labels.id,
            response_model=labels.model,
            retries=tuple(self._retries),
            lost_race=self._lost(outcome),
            group=begun.group,
            answer=known.answer,
            server=self.server,
        )
        self._told.tell("finished", event, self._context)

    @property
    def over(self) -> bool:
        """Whether the end has been told, or no beginning."""
        return self._finished or self._event is None

    def _lost(self, outcome: Outcome) -> bool:
        decided = self._group is not None and self._group.decided
        return decided and outcome in ("cancelled", "abandoned")

    def soon(self, report: Callable[[], None]) -> None:
        """Report from a finalizer: an observer's locks may be held by this very thread.

        The loop of the call does it, or this thread where that loop has ended.
        """
        if self._event is not None and not self._finished and not self._home.run_there(report):
            report()

    def _tell(self, name: str, event: object) -> None:
        self._notifier.tell(name, event, self._context)
