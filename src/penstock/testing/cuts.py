"""Cut a reply's bytes: at a fault, at given positions, at every byte."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from .script import Fault, Reply, Send, Step

BytesOrReply = bytes | Reply


def cut_at(source: BytesOrReply, n: int, fault: Fault | Iterable[Step]) -> Reply:
    """Return the first `n` bytes, then the fault, then nothing more."""
    steps: list[Step] = []
    for step in _steps(source):
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
    """Return the same bytes, each in a segment of its own."""
    return split_at(source, range(len(_data(source))))


def two_pieces(source: BytesOrReply) -> Iterator[Reply]:
    """Return the same bytes in one more piece, for each place to cut them."""
    return (split_at(source, [n]) for n in range(1, len(_data(source))))


def _steps(source: BytesOrReply) -> tuple[Step, ...]:
    return (Send(source),) if isinstance(source, bytes) else source.steps


def _data(source: BytesOrReply) -> bytes:
    return source if isinstance(source, bytes) else source.data
