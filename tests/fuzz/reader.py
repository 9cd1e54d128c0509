"""Choices read from a fuzzer's bytes, front to back; when they are used up, each choice is 0.

A part of what atheris.FuzzedDataProvider does, so that a target needs nothing but bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TypeVar

T = TypeVar("T")


class Reader:
    """Takes decisions and raw pieces off the front of an input."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._position

    def take(self, size: int) -> bytes:
        """The next bytes as they are, fewer at the end."""
        start = self._position
        self._position = min(start + size, len(self._data))
        return self._data[start : self._position]

    def rest(self) -> bytes:
        return self.take(self.left)

    def byte(self) -> int:
        return self.take(1)[0] if self.left else 0

    def below(self, bound: int) -> int:
        """A number from 0 up to the bound, which is at most 256."""
        return self.byte() % bound

    def pick(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]

    def places(self) -> list[int]:
        """Up to seven places to cut something at, for `ways`."""
        return [int.from_bytes(self.take(2), "big") for _ in range(self.below(8))]


def cut(stream: bytes, places: Sequence[int]) -> list[bytes]:
    """The stream in pieces, some perhaps empty."""
    cuts = sorted(place % (len(stream) + 1) for place in places)
    return [stream[a:b] for a, b in pairwise([0, *cuts, len(stream)])]


def ways(stream: bytes, places: Sequence[int], most: int = 256) -> Iterator[list[bytes]]:
    """The stream whole, byte by byte (or in so many pieces at most), and cut at these places."""
    yield [stream]
    size = len(stream) // most + 1
    yield [stream[i : i + size] for i in range(0, len(stream), size)]
    yield cut(stream, places)
