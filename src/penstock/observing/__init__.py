"""What a client tells its observers about each request.

An observer is any object with some of the methods of `Observer`. Each method is called with a
frozen value, one of the events here:

    request_started ─> attempt_failed (each failure) ─> response_started ─> first_token ─> finished

A missing method costs nothing. `AsyncClient(observer=...)` takes one observer, or a list of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .events import AttemptFailed as AttemptFailed
    from .events import ClientMade as ClientMade
    from .events import Finished as Finished
    from .events import FirstToken as FirstToken
    from .events import GroupFinished as GroupFinished
    from .events import GroupKind as GroupKind
    from .events import GroupStarted as GroupStarted
    from .events import Outcome as Outcome
    from .events import RequestBody as RequestBody
    from .events import RequestStarted as RequestStarted
    from .events import ResponseStarted as ResponseStarted
    from .figures import Gaps as Gaps
    from .figures import StreamStatistics as StreamStatistics
    from .figures import Waits as Waits
    from .notifier import Observer as Observer
    from .notifier import add_observer as add_observer
    from .notifier import remove_observer as remove_observer
else:
    from .._exports import exports

    __getattr__, __dir__, __all__ = exports(
        __name__,
        {
            "events": (
                "AttemptFailed ClientMade Finished FirstToken GroupFinished GroupKind "
                "GroupStarted Outcome RequestBody RequestStarted ResponseStarted"
            ),
            "figures": "Gaps StreamStatistics Waits",
            "notifier": "Observer add_observer remove_observer",
        },
    )
