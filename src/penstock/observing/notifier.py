"""Who is told, and how a call tells them."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast
from weakref import WeakKeyDictionary

from .._logs import logger
from .added import added
from .events import (
    AttemptFailed,
    ClientMade,
    Finished,
    FirstToken,
    GroupFinished,
    GroupStarted,
    RequestStarted,
    ResponseStarted,
)

__all__ = ["METHODS", "Notifier", "Observer", "add_observer", "remove_observer"]


class Observer(Protocol):
    """What an observer may have; any object with some of these methods is one.

    Each method is called synchronously in the task that makes the request, so it must not
    block. It runs in a copy of the context (`contextvars`) in which the request was made. An
    exception in it is logged the first time, and never changes the outcome of a request.

    Derive from this class to have a type checker compare signatures. A method that is not
    overridden is not called, and costs nothing.
    """

    def client_made(self, event: ClientMade, /) -> None:
        """A client was made with this observer."""
        return

    def request_started(self, event: RequestStarted, /) -> None:
        """A request is about to be sent for the first time."""
        return

    def request_headers(self, event: RequestStarted, /) -> Mapping[str, str] | None:
        """Return headers to add to the request, for instance a trace context; or None.

        Called once for a request, after `request_started`. Headers that the request has
        already are not replaced.
        """
        return None

    def attempt_failed(self, event: AttemptFailed, /) -> None:
        """An attempt failed before the first byte of the body."""
        return

    def response_started(self, event: ResponseStarted, /) -> None:
        """The status and headers of a 2xx response have arrived."""
        return

    def first_token(self, event: FirstToken, /) -> None:
        """The first token of a stream has arrived."""
        return

    def finished(self, event: Finished, /) -> None:
        """The request is over. Called once for every request that has started."""
        return

    def group_started(self, event: GroupStarted, /) -> None:
        """The first request of a fan-out, race or batch is about to begin."""
        return

    def group_finished(self, event: GroupFinished, /) -> None:
        """A fan-out, race or batch is over, as are all its requests."""
        return


METHODS = (
    "client_made",
    "request_started",
    "request_headers",
    "attempt_failed",
    "response_started",
    "first_token",
    "finished",
    "group_started",
    "group_finished",
)


# The methods of each observer that have raised, in whatever client.
_raised: WeakKeyDictionary[object, set[str]] = WeakKeyDictionary()


def add_observer(observer: object) -> None:
    """Have every client that is made from now on call this observer, too.

    For instrumentation of a whole process. TypeError if it has none of the methods.
    """
    _methods_of(observer)
    added.append(observer)


def remove_observer(observer: object) -> None:
    """Undo `add_observer` for clients that are made from now on; nothing if it was not added."""
    if observer in added:
        added.remove(observer)


class _Method:
    """A method of an observer. Equal to the same method, as another client knows it."""

    __slots__ = ("_function", "_raised")

    def __init__(self, function: Callable[[Any], object], raised: set[str]) -> None:
        self._function = function
        self._raised = raised

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Method) and self._function == other._function

    def call(self, name: str, event: object, context: contextvars.Context | None) -> object:
        """Return what it returns; None if it raises, which is logged the first time."""
        try:
            # A copy: one context cannot be entered twice, for instance by two threads.
            return (
                self._function(event)
                if context is None
                else context.copy().run(self._function, event)
            )
        except Exception:  # noqa: BLE001 - logged below
            if name not in self._raised:
                self._raised.add(name)
                logger("observer").exception(
                    "observer method %s raised; further errors in it are not logged", name
                )
            return None


class Notifier:
    """Calls the methods that one or several observers have. TypeError if one has none."""

    __slots__ = ("_methods",)

    def __init__(self, *observers: object) -> None:
        self._methods: dict[str, list[_Method]] = {}
        for observer in observers:
            raised = _raised_of(observer)
            for name, function in _methods_of(observer).items():
                self._methods.setdefault(name, []).append(_Method(function, raised))

    @classmethod
    def of(cls, observer: object) -> Notifier | None:
        """Return what calls a client's observer, a list of them, and those of the process.

        None if there is none at all.
        """
        given: list[Any] = [] if observer is None else [observer]
        if isinstance(observer, (list, tuple)):
            given = list(cast("list[Any]", observer))
        observers = [*given, *added]
        return cls(*observers) if observers else None

    @classmethod
    def joined(cls, *notifiers: Notifier) -> Notifier:
        """Return one that calls the observers of all, each once."""
        joined = cls()
        for notifier in notifiers:
            for name, methods in notifier._methods.items():
                known = joined._methods.setdefault(name, [])
                known += [method for method in methods if method not in known]
        return joined

    def tells_as(self, other: Notifier | None) -> bool:
        """Return True if the other one calls the same observers."""
        return other is not None and self._methods == other._methods

    def without(self, other: Notifier) -> Notifier:
        """Return one that calls only the observers which the other one does not call."""
        rest = Notifier()
        for name, methods in self._methods.items():
            known = other._methods.get(name, [])
            new = [method for method in methods if method not in known]
            if new:
                rest._methods[name] = new
        return rest

    def wants(self, name: str) -> bool:
        """Return whether an observer has this method; if not, the caller computes nothing."""
        return name in self._methods

    def tell(self, name: str, event: object, context: contextvars.Context | None = None) -> None:
        """Call the methods of this name with the event. An exception in one is not raised."""
        for method in self._methods.get(name, ()):
            method.call(name, event, context)

    def headers(self, event: RequestStarted, context: contextvars.Context) -> dict[Any, Any]:
        """Return the headers that the observers ask for, unchecked."""
        headers: dict[Any, Any] = {}
        for method in self._methods.get("request_headers", ()):
            given = method.call("request_headers", event, context)
            if isinstance(given, Mapping):
                headers.update(dict(given))  # pyright: ignore[reportUnknownArgumentType]
        return headers


def _raised_of(observer: object) -> set[str]:
    try:
        return _raised.setdefault(observer, set())
    except TypeError:  # not hashable, or it takes no weak references: once for each client
        return set()


def _methods_of(observer: object) -> dict[str, Any]:
    """Return the methods that an observer has, without those it only inherits from `Observer`."""
    methods = {
        name: method
        for name in METHODS
        if callable(method := getattr(observer, name, None))
        and getattr(method, "__func__", None) is not getattr(Observer, name)
    }
    if not methods:
        kind = type(observer).__name__
        raise TypeError(f"the observer, {kind}, has none of the methods {', '.join(METHODS)}")
    return methods
