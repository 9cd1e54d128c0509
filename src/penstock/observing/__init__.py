"""What a client tells its observers about each request.

An observer is any object with some of the methods of `Observer`. Each method is called with a
frozen value, one of the events here:

    request_started ─> attempt_failed (each failure) ─> response_started ─> first_token ─> finished

A missing method costs nothing. `AsyncClient(observer=...)` takes one observer, or a list of them.
"""

from .events import (
    AttemptFailed,
    ClientMade,
    Finished,
    FirstToken,
    GroupFinished,
    GroupKind,
    GroupStarted,
    Outcome,
    RequestBody,
    RequestStarted,
    ResponseStarted,
)
from .figures import Gaps, StreamStatistics, Waits
from .notifier import Observer, add_observer, remove_observer

__all__ = [
    "AttemptFailed",
    "ClientMade",
    "Finished",
    "FirstToken",
    "Gaps",
    "GroupFinished",
    "GroupKind",
    "GroupStarted",
    "Observer",
    "Outcome",
    "RequestBody",
    "RequestStarted",
    "ResponseStarted",
    "StreamStatistics",
    "Waits",
    "add_observer",
    "remove_observer",
]
