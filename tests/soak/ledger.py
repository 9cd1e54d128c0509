"""Every request that was asked for, and how it ended: exactly once, and as both sides say.

What the user of the library saw is held against what the library's observer was told and against
what the server says it sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import penstock
from penstock.observing import Finished, RequestStarted

from .answers import text_of

__all__ = ["Entry", "Ledger"]

Outcome = Literal["completed", "error", "cancelled", "abandoned", "unsent"]
"""`abandoned`: left by break, closed from elsewhere, or beaten in a race."""

TIMEOUTS = {"ConnectTimeout", "ReadTimeout", "FirstTokenTimeout", "IdleTimeout", "TotalTimeout"}
FAILED = {"APIConnectionError"}
CUT = {"APIConnectionError", "StreamInterruptedError", "IncompleteStreamError", "APIResponseError"}
ERRORS: dict[str, set[str]] = {
    # An answer that is whole on the wire is never an error.
    "good": set(),
    "held": set(),
    "poison": set(),
    "huge": set(),
    "reset": CUT - {"IncompleteStreamError"},
    "end": CUT,
    "stall": set(),
    "busy": {"RateLimitError", "EndpointNotReadyError", "InternalServerError"},
    "failing": {"APIStatusError", "ConflictError", "InternalServerError"},
    "refused": {
        "BadRequestError", "AuthenticationError", "InsufficientCreditsError",
        "PermissionDeniedError", "NotFoundError", "UnprocessableEntityError",
    },
    "bad head": FAILED | {"APIResponseError"},
    "hang up": FAILED,
    "no stream": {"APIResponseError"},
    "error event": {"StreamError"},
    "bad JSON": {"APIResponseError"},
    "bad framing": {"APIResponseError"},
    "endless": set(),
}  # fmt: skip
"""What each kind of fault may be raised as, besides a timeout."""


@dataclass
class Entry:
    """One request."""

    id: str
    max_retries: int
    outcome: Outcome | None = None
    detail: str = ""
    text: str = ""
    """What was received, as far as it came."""
    leaving: bool = False
    """It may be closed by somebody else than its reader."""
    dropped: bool = False
    """It is left to the garbage collector, on purpose."""
    started: int = 0
    finished: list[str] = field(default_factory=list)
    attempts: int = 0


class Ledger:
    """The entries since the last settling. It is also the observer of the clients."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.violations: list[str] = []
        self.outcomes: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.requests = 0
        self.sent = 0
        self._names: dict[int, Entry] = {}

    def open(self, name: str, max_retries: int) -> Entry:
        assert name not in self.entries
        entry = self.entries[name] = Entry(name, max_retries)
        return entry

    def violation(self, what: str) -> None:
        self.violations.append(what)

    # --- what the user sees ---

    @contextmanager
    def watching(self, entry: Entry) -> Iterator[None]:
        """Within, the request is sent and read; an error of the library ends here."""
        try:
            yield
        except penstock.PenstockError as error:
            self.failed(entry, error)
        except Exception as error:
            self.violation(f"{entry.id}: {error!r} is no error of the library")
            raise
        except BaseException:  # a cancellation, of whichever event loop
            self.end(entry, "cancelled", again=True)
            raise

    def completed(self, entry: Entry, answer: penstock.ChatCompletion) -> None:
        """Read to the end; the pieces read, if they were, are in `entry.text`."""
        content = answer.choices[0].message.content if answer.choices else None
        if entry.text and content != entry.text:
            self.violation(f"{entry.id}: the pieces are not the whole")
        entry.text = content or ""
        if entry.text != text_of(entry.id):
            self.violation(f"{entry.id}: counted as completed with {entry.text!r}")
        self.end(entry, "completed")

    def failed(self, entry: Entry, error: BaseException) -> None:
        if isinstance(error, penstock.StreamClosedError) and entry.leaving:
            self.end(entry, "abandoned", "closed")
            return
        if not isinstance(error, penstock.PenstockError):
            self.violation(f"{entry.id}: {error!r} is no error of the library")
        partial = getattr(error, "partial", None)
        if partial is not None:
            content = partial.choices[0].message.content if partial.choices else None
            if entry.text and not (content or "").startswith(entry.text):
                self.violation(f"{entry.id}: what was read is not in the error's partial answer")
            entry.text = content or ""
        elif entry.text:
            self.violation(f"{entry.id}: {error!r} without the partial answer")
        if not text_of(entry.id).startswith(entry.text) and "and so on" not in entry.text:
            self.violation(f"{entry.id}: failed with {entry.text!r}")
        self.end(entry, "error", type(error).__name__)

    def end(self, entry: Entry, outcome: Outcome, detail: str = "", *, again: bool = False) -> None:
        """The request's outcome, once; `again`: it may have had one, which then stands."""
        if entry.outcome is None:
            entry.outcome, entry.detail = outcome, detail
        elif not again:
            self.violation(f"{entry.id}: {outcome} after {entry.outcome}")

    # --- what the library says ---

    def request_started(self, event: RequestStarted) -> None:
        assert event.model is not None
        entry = self.entries.get(event.model)
        if entry is None:
            self.violation(f"{event.model} was sent when all was quiet")
            return
        entry.started += 1
        self._names[event.id] = entry

    def finished(self, event: Finished) -> None:
        entry = self._names.pop(event.id, None)
        if entry is None:
            self.violation(f"{event.model}: {event.outcome} when all was quiet")
            return
        entry.finished.append(event.outcome)
        entry.attempts = event.attempts

    def warned(
        self, message: Warning | str, category: type[Warning], *where: Any, **more: Any
    ) -> None:
        """In place of `warnings.showwarning`."""
        text = str(message)
        for entry in self.entries.values():
            if entry.dropped and f"CompletionStream {entry.id!r} " in text:
                return
        if "garbage collected before it had been exhausted" in text:
            return  # trio says it of generators that were abandoned, which is done on purpose
        self.violation(f"{category.__name__}: {text}")

    # --- the balance ---

    def settle(self, sent: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Hold the entries against each other and against what the server sent; forget them."""
        for name in sent.keys() - self.entries.keys():
            self.violation(f"{name}: the server has a request that nobody asked for")
        for entry in self.entries.values():
            attempts = sent.get(entry.id, [])
            for what in _faults_of(entry, attempts):
                kinds = [attempt["kind"] for attempt in attempts]
                self.violation(f"{entry.id}: {what} ({entry}, sent {kinds})")
            self.faults.update(attempt["kind"] for attempt in attempts)
            self.sent += len(attempts)
            self.outcomes[f"{entry.outcome} {entry.detail}".strip()] += 1
        self.requests += len(self.entries)
        self.entries = {}
        self._names = {}


def _faults_of(entry: Entry, attempts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What does not go together."""
    last = attempts[-1] if attempts else None
    outcome = entry.outcome
    if outcome is None:
        yield "it never ended"
    unfinished = entry.started - len(entry.finished)
    if entry.started > 1 or unfinished not in (0, int(entry.dropped)):
        yield "the observer was not told of one beginning and one end"
    told = entry.finished[0] if entry.finished else None
    # A kept-alive connection that hangs up before any byte costs no retry.
    paid = [attempt for attempt in attempts[:-1] if not attempt["silent"]]
    if len(paid) > entry.max_retries or (told and len(attempts) > entry.attempts):
        yield "the server has more requests than were sent"
    if any(attempt["begun"] for attempt in attempts[:-1]):
        yield "it was sent again after a byte of the body"
    if outcome == "unsent" and (attempts or told):
        yield "it was sent after all"
    if outcome == "completed":
        if last is None or not last["whole"]:
            yield "completed, but the server had not sent it whole"
        if told != "completed":
            yield f"completed, but the observer was told {told}"
    if outcome == "error":
        if told != "failed":
            yield f"failed, but the observer was told {told}"
        if entry.detail in TIMEOUTS:
            pass
        elif last is None:
            if entry.detail not in FAILED:
                yield f"{entry.detail}, and nothing was sent"
        elif entry.detail not in ERRORS[last["kind"]] | FAILED:
            yield f"{last['kind']} is not {entry.detail}"
        elif entry.detail in FAILED and last["begun"]:
            yield f"{entry.detail}, although the body had begun"
