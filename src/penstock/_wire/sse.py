"""Server-sent events: from bytes to events, without I/O.

The rules are WHATWG HTML, "Server-sent events", 9.2.5 and 9.2.6
(https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream):

- Lines end with LF, CR or CRLF and nothing else; one BOM at the start is dropped.
- An empty line dispatches the event made of the lines before it.
- `field: value`, the one space optional; a line starting with a colon is a comment.
- Values of several `data` lines are joined with LF; the last `event` line names the event.
- An event that no empty line ends is never dispatched.

Two things differ. Data stays bytes: line ends are ASCII, so a JSON decoder can decode it after
splitting. An event with empty data is dropped, and `id` and `retry`, which serve reconnecting,
are not kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "LARGE_EVENT",
    "MAX_EVENT_BYTES",
    "MAX_LINES",
    "EventStreamDecoder",
    "EventTooLargeError",
    "NamedEvent",
]

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""Bound on one event in bytes, its comments and other fields included."""

LARGE_EVENT = 64 * 1024
"""Bytes of an event beyond which a reader may want to look at it before decoding it."""
MAX_LINES = 65_536
"""Bound on the lines of one event, unless they have 16 bytes each on average."""

_DONE = b"[DONE]"
_BOM = b"\xef\xbb\xbf"
# Numbers, because `13 in data` is six times as fast as `b"\r" in data`, which first tries to
# convert its left side to a number.
_LF, _CR = b"\n\r"


class NamedEvent(NamedTuple):
    """An event with a name other than "message", the default."""

    event: str
    """Its name."""
    data: bytes
    """Its data lines, joined with LF."""
    id: str | None = None
    """Its id, where ids are kept."""


class EventTooLargeError(ValueError):
    """An event is over the size bound; `events` are those before it in the same `feed`."""

    def __init__(self, message: str, events: Sequence[bytes | NamedEvent]) -> None:
        super().__init__(message)
        self.events = events


class EventStreamDecoder:
    """Takes a stream of events in pieces of any size, in time linear in their bytes.

    `max_event_bytes` bounds the lines of one event, comments and other fields included. The
    buffer exceeds the bound by at most one piece.

    With `objects` each event is a JSON object or `[DONE]`. Then events that careless servers
    separate by single line ends are told apart: a line that ends with } and a next one that
    begins with { are no JSON together.
    """

    __slots__ = (
        "_after_cr",
        "_at_start",
        "_closed",
        "_examined",
        "_keep_ids",
        "_objects",
        "_rest",
        "_small",
        "careless",
        "dispatched",
        "max_event_bytes",
    )

    def __init__(
        self,
        max_event_bytes: int = MAX_EVENT_BYTES,
        *,
        keep_ids: bool = False,
        objects: bool = False,
    ) -> None:
        self._objects = objects
        self.careless = False
        """Events were separated by single line ends: from then on each line ends one."""
        # Of the lines of the unfinished event: how far they were examined, and where the last
        # data line ended if that may have been the event's end; else 0.
        self._examined = 0
        self._closed = 0
        self.max_event_bytes = max_event_bytes
        self._small = min(max_event_bytes, LARGE_EVENT)
        self.dispatched = 0
        """Bytes that the last events had together; less than LARGE_EVENT if it was not counted."""
        # Then an event with an id is a NamedEvent, "message" by default.
        self._keep_ids = keep_ids
        # The lines of the unfinished event, with LF for every line end; None while each read was
        # one whole event.
        self._rest: bytearray | None = None
        self._at_start = True
        # The last byte was a CR; a following LF belongs to the same line end.
        self._after_cr = False

    @property
    def at_rest(self) -> bool:
        """True between two events that are separated as they should be."""
        return not (self._rest or self._at_start or self._after_cr or self.careless)

    def feed(self, data: bytes) -> Sequence[bytes | NamedEvent]:
        """Take the next bytes of the stream and return the events they complete.

        Plain bytes are the data of an event without a name. Raises EventTooLargeError; the
        decoder is unusable after that.
        """
        if self._at_start:
            if self._rest:
                data = bytes(self._rest) + data
                self._rest = None
            if len(data) < len(_BOM) and _BOM.startswith(data):
                self._rest = bytearray(data)
                return []
            self._at_start = False
            data = data.removeprefix(_BOM)
        if self._after_cr or _CR in data:
            data = self._with_lf_only(data)
        rest = self._rest
        # One whole event of one line, the usual read of a live stream (saves 6 % of such a
        # read).
        if (
            not rest
            and 8 < len(data) <= self._small
            and data.startswith(b"data: ")
            and data.find(b"\n") == len(data) - 2
            and data[-1] == _LF
        ):
            return [data[6:-2]]
        if rest is None:
            rest = self._rest = bytearray()
        # A piece of a long line. Searching for one byte is eighty times as fast as searching
        # for two, which the checks below do several times (half the time of 1 MiB events).
        if _LF not in data:
            rest += data
            if len(rest) > self.max_event_bytes:
                self._check_size(rest, [])
            return []
        # Join only when an event ends; joining at every piece is quadratic.
        if rest and (b"\n\n" in data or (rest[-1] == _LF and data.startswith(b"\n"))):
            data = b"".join((rest, data))
            rest.clear()
        end = len(data) - 2 if data.endswith(b"\n\n") else data.rfind(b"\n\n")
        if end < 0:
            events: Sequence[bytes | NamedEvent] = []
            rest += data
        else:
            self.dispatched = end
            events = self._dispatch(data[:end])
            rest += data[end + 2 :]
            self._examined = self._closed = 0
        if rest and self._objects and (separated := self._separate(rest)):
            events = [*events, *separated]
        if len(rest) > self.max_event_bytes:
            self._check_size(rest, events)
        return events

    def _dispatch(self, text: bytes) -> Sequence[bytes | NamedEvent]:
        """Return the events of these blocks of lines, which empty lines separate."""
        # The usual batch consists of events of one `data: ` line each. It does if there are no
        # line ends besides those that separate such events; then splitting is all the work
        # (40 % less time than examining each block).
        if text.startswith(b"data: ") and len(text) <= self.max_event_bytes:
            if _LF not in text:
                return [text[6:]] if len(text) > 6 else []
            batch = text.split(b"\n\ndata: ")
            if text.count(b"\n") == 2 * len(batch) - 2:
                batch[0] = batch[0][6:]
                return batch if all(batch) else list(filter(None, batch))
        events: list[bytes | NamedEvent] = []
        for block in text.split(b"\n\n"):
            if len(block) > self._small:
                self._check_size(block, events)
                self._check_lines(block, events)
            # Most events are one line: one look for a line end, then for one behind an event.
            if self._objects and (
                self.careless or (_LF in block and (b"}\n" in block or b"]\n" in block))
            ):
                events += self._separate(bytearray(block + b"\n"), ended=True)
                continue
            event = _event(block, self._keep_ids)
            if event is not None:
                events.append(event)
        return events

    def _separate(self, lines: bytearray, *, ended: bool = False) -> list[bytes | NamedEvent]:
        """Take out of these lines the events that only single line ends separate.

        `ended`: an empty line follows, which ends what is left.
        """
        events: list[bytes | NamedEvent] = []
        begin, start = 0, 0 if ended else self._examined
        closed = 0 if ended else self._closed

        def take(end: int) -> int:
            event = _event(bytes(lines[begin:end]), self._keep_ids)
            if event is not None:
                events.append(event)
            return end + 1

        while (end := lines.find(b"\n", start)) >= 0:
            if lines.startswith(b"data:", start):
                value = bytes(lines[start + 5 : end]).strip()
                if closed and (value.startswith(b"{") or value == _DONE):
                    self.careless = True
                    begin = take(closed)
                closed = end if value.endswith(b"}") or value == _DONE else 0
                if closed and self.careless:
                    begin = take(closed)
                    closed = 0
            start = end + 1
        if ended:
            take(len(lines))
        else:
            self.dispatched = max(self.dispatched, begin)
            del lines[:begin]
            self._examined, self._closed = start - begin, max(closed - begin, 0)
        return events

    def _check_size(self, block: bytes | bytearray, events: Sequence[bytes | NamedEvent]) -> None:
        # Further empty lines at the edges of a block do not belong to the event.
        if len(block.strip(b"\n")) > self.max_event_bytes:
            raise EventTooLargeError(f"an event of more than {self.max_event_bytes} bytes", events)

    def _check_lines(self, block: bytes, events: Sequence[bytes | NamedEvent]) -> None:
        # Each line is an object, whatever its length.
        lines = block.count(b"\n")
        if lines > max(MAX_LINES, len(block) // 16):
            raise EventTooLargeError(f"an event of {lines} lines", events)

    def _with_lf_only(self, data: bytes) -> bytes:
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if data.endswith(b"\r"):
            self._after_cr = True
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _event(block: bytes, keep_ids: bool) -> bytes | NamedEvent | None:
    """Return the event of these lines, if any. Empty lines are only at the edges."""
    name = b""
    event_id: str | None = None
    values: list[bytes] = []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            values.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
        elif field == b"id" and keep_ids and b"\0" not in value:
            event_id = value.removeprefix(b" ").decode("utf-8", "replace")
    data = b"\n".join(values)
    if not data:
        return None
    if event_id is None and name in (b"", b"message"):
        return data
    return NamedEvent(name.decode("utf-8", "replace") or "message", data, event_id)
