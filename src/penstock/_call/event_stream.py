"""The server-sent events of any endpoint, with the guarantees of a completion stream."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import final

from .._http.exchange import Exchange
from .._wire.events import Event, EventDecoder
from .._wire.labels import Labels, labels_in
from .._wire.usage import usage_in
from ..errors import PenstockError
from ..types import Usage
from .base_stream import BaseStream
from .body import BodyReader
from .call import Call, Service

__all__ = ["EventStream"]


class EventReader(BodyReader[Event]):
    """Reads the events of one exchange."""

    __slots__ = ("_endings", "_labels", "_usage", "_wants_usage")

    def __init__(self, service: Service, call: Call, endings: Collection[str]) -> None:
        super().__init__(service, call)
        self._endings = endings
        self._usage: Usage | None = None
        self._labels = Labels()
        self._wants_usage = False

    def arrived(self, items: Sequence[Event]) -> PenstockError | None:
        """Note what the events say of the answer, where somebody asks for it."""
        if self._wants_usage:
            for event in items:
                self._usage = usage_in(event.data, self._usage)
                self._labels = labels_in(event.data, self._labels)
        return None

    def usage(self) -> Usage | None:
        """Return the tokens the answer has cost, as far as the server said."""
        return self._usage

    def labels(self) -> Labels:
        """Return what the events so far say of their answer."""
        return self._labels

    def new_decoder(self, exchange: Exchange) -> EventDecoder:
        """Return the decoder for a body whose head is in."""
        self._wants_usage = self.sender.wants_usage
        return EventDecoder(exchange.content_type, self._endings)


@final
class EventStream(BaseStream[Event]):
    """The events of one response as they arrive: an async iterator of `Event`.

    Made by `client.events(...)` without any I/O. The request is sent by `async with`, or by the
    first read when used without it. Iteration ends after the event that `done` names, at
    `[DONE]`, or, without names, at a proper end of the body; any other end is an error. An
    event that reports an error is raised as StreamError, after the events before it.

    Leaving `async with` closes the connection at once, unless the stream was complete. A
    cancelled read loses nothing and can be repeated. One task reads at a time; any task may
    close. `Timeouts.first_token` and `idle` count any event as progress.
    """

    __slots__ = ()

    def __init__(self, service: Service, call: Call, endings: Collection[str]) -> None:
        super().__init__(EventReader(service, call, endings))
