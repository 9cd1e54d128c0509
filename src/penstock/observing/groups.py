"""Requests that belong together: those of one fan-out, race or batch."""

from __future__ import annotations

import contextvars
import itertools
import math
from collections.abc import Generator
from contextlib import contextmanager

from .events import GroupFinished, GroupKind, GroupStarted, Outcome
from .notifier import Notifier

__all__ = ["Group", "current_group"]

_numbers = itertools.count(1)
_current: contextvars.ContextVar[Group | None] = contextvars.ContextVar(
    "penstock_group", default=None
)


def current_group() -> Group | None:
    """Return the innermost group in whose context the caller runs."""
    return _current.get()


class Group:
    """One fan-out, race or batch, for the observers of the clients whose requests it makes.

    It learns of an observer by the first request on the observer's client: a fan-out of
    functions has no client of its own.
    """

    __slots__ = ("_context", "_notifiers", "decided", "id", "kind", "parent", "started")

    def __init__(self, kind: GroupKind) -> None:
        self.id: int = next(_numbers)
        """Its number in this process."""
        self.kind: GroupKind = kind
        """What it is."""
        self.started: float = math.nan
        """When it began, on the event loop's clock; NaN until then."""
        self.decided: bool = False
        """True from the first token in a race until its losers are closed."""
        self.parent: Group | None = _current.get()
        """The group that it was made in."""
        self._context = contextvars.copy_context()
        self._notifiers: list[Notifier] = []

    @contextmanager
    def entered(self) -> Generator[None]:
        """Make requests, and tasks started meanwhile, members of the group."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def begin(self, now: float) -> None:
        """Note when it begins."""
        self.started = now

    def join(self, notifier: Notifier) -> None:
        """Tell these observers that the group has begun, unless they know."""
        if notifier in self._notifiers:
            return
        if self.parent is not None:
            self.parent.join(notifier)
        self._notifiers.append(notifier)
        if notifier.wants("group_started"):
            parent = None if self.parent is None else self.parent.id
            event = GroupStarted(self.id, self.kind, parent, self.started)
            notifier.tell("group_started", event, self._context)

    def finish(self, outcome: Outcome, now: float) -> None:
        """Tell the observers that it is over; once."""
        notifiers, self._notifiers = self._notifiers, []
        for notifier in notifiers:
            if notifier.wants("group_finished"):
                event = GroupFinished(self.id, self.kind, outcome, self.started, now)
                notifier.tell("group_finished", event, self._context)
