"""Server-sent events of any endpoint: from bytes to `Event`s, and where the stream ends.

Which event ends a stream properly is the endpoint's own: the Responses API sends
`response.completed`, Anthropic's Messages API `message_stop`. So the caller names them. `[DONE]`
ends every stream. With no names, a proper end of the body is an end.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from penstock.errors import APIResponseError, IncompleteStreamError, PenstockError, StreamError
from penstock.types import decode_json

from .json_values import is_object
from .sse import MAX_EVENT_BYTES, EventStreamDecoder, EventTooLargeError, NamedEvent
from .stream_error import is_event_stream, stream_error, unstreamed_error
from .unstreamed import looks_like_events

__all__ = ["Event", "EventDecoder"]

_DONE = b"[DONE]"
_HEAD = 64 * 1024  # bytes of another kind of body that are kept for the error


class Event(msgspec.Struct, frozen=True):
    """One server-sent event."""

    event: str
    """Its name; "message" where the server gave none."""
    data: bytes
    """Its data lines, joined with LF."""
    id: str | None = None
    """The last id the server gave, to this event or to one before it."""

    def json(self) -> Any:
        """Return the data parsed as JSON; APIResponseError when it is not JSON.

        The error does not show the data, in which a server may have sent a key back.
        """
        try:
            return decode_json(self.data)
        except ValueError as error:
            reason = str(error)
        raise APIResponseError(
            f"the data of an event of {len(self.data)} bytes is not JSON: {reason}"
        )


class EventDecoder:
    """Takes the body of one event stream, its transfer coding removed."""

    __slots__ = (
        "_content_type",
        "_endings",
        "_head",
        "_id",
        "_sse",
        "done",
        "error",
        "events",
        "finished_all",
        "token_seen",
    )

    def __init__(
        self,
        content_type: str | None,
        endings: Collection[str] = (),
        *,
        max_event_bytes: int = MAX_EVENT_BYTES,
    ) -> None:
        self._content_type = content_type
        self._endings = endings
        self._sse = EventStreamDecoder(max_event_bytes, keep_ids=True)
        # What has come while it is open whether it is an event stream; None once it is one.
        self._head: bytearray | None = None if is_event_stream(content_type) else bytearray()
        self._id: str | None = None
        self.done = False
        """The stream has ended properly; whatever follows is ignored."""
        self.error: PenstockError | None = None
        """The stream failed, after the events given so far; whatever follows is ignored."""
        self.token_seen = False
        """The last `feed` gave an event: any event is progress."""
        self.finished_all = False
        """Only the end itself says that nothing more is to come."""
        self.events = 0
        """Events so far, `[DONE]` not counted."""

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes and return the events they complete. Never raises; see `error`."""
        self.token_seen = False
        if self._is_over():
            return []
        if self._head is not None:
            self._head += data
            looks = looks_like_events(self._head)
            if not looks:
                if looks is False and len(self._head) >= _HEAD:
                    self.error = unstreamed_error(bytes(self._head[:_HEAD]), self._content_type)
                return []
            data, self._head = bytes(self._head), None
        too_large: APIResponseError | None = None
        try:
            raw = self._sse.feed(data)
        except EventTooLargeError as error:
            raw = error.events
            too_large = APIResponseError(str(error))
        events = self._handed_out(raw)
        self.events += len(events)
        self.token_seen = bool(events)
        if too_large is not None and not self._is_over():
            self.error = too_large
        return events

    def end(self) -> list[Event]:
        """Take a proper end of the body. Sets `done` or `error`."""
        self.token_seen = False
        if self._is_over():
            return []
        if self._head is not None:
            self.error = unstreamed_error(bytes(self._head), self._content_type)
        elif self._endings and not any(_is_done(item) for item in self._sse.feed(b"\n\n")):
            names = ", ".join(sorted(self._endings))
            self.error = IncompleteStreamError(
                f"the body ended after {self.events} events, without [DONE] and without {names}"
            )
        else:
            self.done = True
        return []

    def _is_over(self) -> bool:
        return self.done or self.error is not None

    def _handed_out(self, raw: Sequence[bytes | NamedEvent]) -> list[Event]:
        events: list[Event] = []
        for item in raw:
            event = self._event(item)
            if event is not None:
                events.append(event)
            if self._is_over():
                break
        return events

    def _event(self, item: bytes | NamedEvent) -> Event | None:
        """The event to hand out; None where the stream ends instead."""
        if _is_done(item):
            self.done = True
            return None
        if isinstance(item, NamedEvent):
            name, data = item.event, item.data
            self._id = self._id if item.id is None else item.id
        else:
            name, data = "message", item
        # Looked for only where it can be: an event is not parsed for nothing.
        if name == "error" or b'"error"' in data:
            self.error = _reported(name, data)
            if self.error is not None:
                return None
        self.done = name in self._endings
        return Event(name, data, self._id)


def _is_done(item: bytes | NamedEvent) -> bool:
    return (item.data if isinstance(item, NamedEvent) else item).strip() == _DONE


def _reported(name: str, data: bytes) -> StreamError | None:
    """The error that an event reports: by its name, a truthy `error`, or the type "error"."""
    try:
        payload = decode_json(data)
    except ValueError:
        return stream_error(data.decode("utf-8", "replace"), data) if name == "error" else None
    if name == "error":
        return stream_error(payload, data)
    if is_object(payload) and (payload.get("error") or payload.get("type") == "error"):
        return stream_error(payload, data)
    return None
