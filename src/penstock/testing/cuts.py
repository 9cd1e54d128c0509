"""Faults in a reply: cut it anywhere, split it, slow it down.

Each function takes a reply (or bytes) and returns another, so they can be combined. A cut keeps
what is before it and replaces the rest with a fault: `Reset()` (the default) resets the
connection, `End()` closes it cleanly, `Stall()` sends nothing more, and a list of steps does
anything else, for instance `[Send(b"<html>"), End()]`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from .script import Fault, Pause, Repeat, Reply, Reset, Send, Step, unroll

BytesOrReply: TypeAlias = bytes | Reply

_INTERIM = re.compile(rb"HTTP/1\.[01] 1\d\d\b")
_SIZE_LINE = re.compile(rb"([0-9a-fA-F]+)[^\r\n]*\r\n")
_BLANK_LINE = re.compile(rb"(?>\r\n|\r|\n)(?>\r\n|\r|\n)")


def cut_at(source: BytesOrReply, n: int, fault: Fault | Iterable[Step] = Reset()) -> Reply:  # noqa: B008 - frozen
    """Return the first `n` bytes, then the fault, then nothing more.

    With `n=0` the server sends nothing at all. Pauses before the cut are kept.
    """
    steps: list[Step] = []
    for step in unroll(_steps(source)):
        if not isinstance(step, Send):
            steps.append(step)
            continue
        if n <= len(step.data):
            if n:
                steps.append(Send(step.data[:n]))
            break
        n -= len(step.data)
        steps.append(step)
    end = tuple(fault) if isinstance(fault, Iterable) else (fault,)
    return Reply((*steps, *end))


def cut_in_head(source: BytesOrReply, fault: Fault | Iterable[Step] = Reset()) -> Reply:  # noqa: B008
    """Cut in the middle of the response's head."""
    return cut_at(source, head_size(_data(source)) // 2, fault)


def cut_after_head(source: BytesOrReply, fault: Fault | Iterable[Step] = Reset()) -> Reply:  # noqa: B008
    """Cut after the head: the client knows the status, but nothing of the body."""
    return cut_at(source, head_size(_data(source)), fault)


def cut_after_events(
    source: BytesOrReply,
    n: int,
    fault: Fault | Iterable[Step] = Reset(),  # noqa: B008
) -> Reply:
    """Cut an event stream after its n-th event.

    Comments (pings) are not counted. The first event of `text_reply("a", "b")` has only the
    role, so with 2 the client gets "a". ValueError if there are fewer events.
    """
    return cut_at(source, 0 if n == 0 else _end_of_event(source, n), fault)


def split_at(source: BytesOrReply, positions: Iterable[int]) -> Reply:
    """Return the same bytes with segments that end at these positions as well."""
    cuts = sorted(set(positions))
    steps: list[Step] = []
    start = 0
    for step in _steps(source):
        if not isinstance(step, Send):
            steps.append(step)
            continue
        end = start + len(step.data)
        inner = [cut - start for cut in cuts if start < cut < end]
        edges = [0, *inner, len(step.data)]
        steps.extend(Send(step.data[a:b]) for a, b in itertools.pairwise(edges))
        start = end
    return Reply(tuple(steps))


def every_byte(source: BytesOrReply) -> Reply:
    """Return the same bytes, one in each segment."""
    return split_at(source, range(len(_data(source))))


def two_pieces(source: BytesOrReply) -> Iterator[Reply]:
    """Return the same bytes split in two, once for each place to split them."""
    return (split_at(source, [n]) for n in range(1, len(_data(source))))


def drip(source: BytesOrReply, every: float, *, size: int = 1) -> Reply:
    """Return the same bytes, `size` at a time, with `every` seconds before each piece."""
    steps: list[Step] = []
    for step in _steps(source):
        if not isinstance(step, Send):
            steps.append(step)
            continue
        for start in range(0, len(step.data), size):
            steps += [Pause(every), Send(step.data[start : start + size])]
    return Reply(tuple(steps))


def _steps(source: BytesOrReply) -> tuple[Step, ...]:
    return (Send(source),) if isinstance(source, bytes) else source.steps


def _data(source: BytesOrReply) -> bytes:
    return source if isinstance(source, bytes) else source.data


def head_size(data: bytes | bytearray) -> int:
    """Return where the head of the final response ends, after any 1xx."""
    start = 0
    while (end := data.find(b"\r\n\r\n", start)) >= 0:
        if not _INTERIM.match(data, start):
            return end + 4
        start = end + 4
    raise ValueError("the reply has no whole head")


def _end_of_event(source: BytesOrReply, n: int) -> int:
    """Return where the n-th event ends, in bytes of the reply."""
    # An endless repetition has as many events as needed.
    data = b"".join(
        step.data * (n if step.times is None else step.times)
        if isinstance(step, Repeat)
        else step.data
        for step in _steps(source)
        if isinstance(step, Send | Repeat)
    )
    places = payload_places(data)
    payload = b"".join(data[start:end] for start, end in places)
    start = 0
    for blank in _BLANK_LINE.finditer(payload):
        block = payload[start : blank.start()].lstrip(b"\r\n\xef\xbb\xbf")
        start = blank.end()
        if block and not all(line.startswith(b":") for line in block.splitlines()):
            n -= 1
        if n == 0:
            return _place_of(places, start)
    raise ValueError("the reply has fewer events")


def payload_places(data: bytes | bytearray) -> list[tuple[int, int]]:
    """Return the places of the body in a response, without the chunked framing."""
    start = head_size(data)
    if b"\r\ntransfer-encoding: chunked\r\n" not in data[:start].lower():
        return [(start, len(data))]
    places: list[tuple[int, int]] = []
    while (size_line := _SIZE_LINE.match(data, start)) is not None:
        size = int(size_line[1], 16)
        if size == 0:
            break
        start = size_line.end()
        places.append((start, min(start + size, len(data))))
        start += size + 2
    return places


def _place_of(places: list[tuple[int, int]], end: int) -> int:
    """Return where in the data the first `end` bytes of the payload end."""
    for first, last in places:
        if end <= last - first:
            return first + end
        end -= last - first
    raise AssertionError("the payload ends before")
