"""Sets and maps of 64-bit words, in 11 to 21 bytes a word and value.

Python's own need 60 to 100. Open addressing in arrays, split into shards that grow one by one, so
that growing needs no second copy of the whole.
"""

from __future__ import annotations

from array import array

__all__ = ["WordMap", "WordSet", "word_of"]

_SHARDS = 64
_SHARD_BITS = 6
_SMALLEST = 8
_MASK = (1 << 64) - 1


def word_of(text: str) -> int:
    """Return a word for a text, never 0; equal only for equal texts, but for chance (1 in 2^64)."""
    return hash(text) & _MASK or 1


class _Shard:
    __slots__ = ("keys", "mask", "room", "values")

    def __init__(self, capacity: int, *, mapping: bool) -> None:
        empty = bytes(8 * capacity)
        self.keys = array("Q", empty)
        self.values = array("Q", empty) if mapping else None
        self.mask = capacity - 1
        self.room = capacity * 3 // 4
        """How many more words may be put in."""

    def find(self, key: int) -> int:
        """Return where the key is, or the complement of where it belongs."""
        keys, mask = self.keys, self.mask
        at = key >> _SHARD_BITS & mask
        while True:
            found = keys[at]
            if found == key:
                return at
            if not found:
                return ~at
            at = (at + 1) & mask

    def grown(self) -> _Shard:
        """Return a shard of twice the size with the same words."""
        larger = _Shard(2 * len(self.keys), mapping=self.values is not None)
        for at, key in enumerate(self.keys):
            if key:
                to = ~larger.find(key)
                larger.keys[to] = key
                larger.room -= 1
                if self.values is not None and larger.values is not None:
                    larger.values[to] = self.values[at]
        return larger


class _Words:
    def __init__(self, *, mapping: bool) -> None:
        self._shards = [_Shard(_SMALLEST, mapping=mapping) for _ in range(_SHARDS)]
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: object) -> bool:
        return isinstance(key, int) and self._shards[key % _SHARDS].find(key) >= 0

    def _insert(self, key: int) -> tuple[_Shard, int]:
        """Return the place for a key that is not there yet."""
        shard = self._shards[key % _SHARDS]
        if not shard.room:
            shard = self._shards[key % _SHARDS] = shard.grown()
        at = ~shard.find(key)
        shard.keys[at] = key
        shard.room -= 1
        self._count += 1
        return shard, at


class WordSet(_Words):
    """A set of words, none of them 0."""

    def __init__(self) -> None:
        super().__init__(mapping=False)

    def add(self, key: int) -> bool:
        """Put a word in; return False if it was there."""
        if self._shards[key % _SHARDS].find(key) >= 0:
            return False
        self._insert(key)
        return True


class WordMap(_Words):
    """A map of words, none of them 0, to words."""

    def __init__(self) -> None:
        super().__init__(mapping=True)

    def get(self, key: int) -> int | None:
        """Return the word of a key; None if there is none."""
        shard = self._shards[key % _SHARDS]
        at = shard.find(key)
        return None if at < 0 or shard.values is None else shard.values[at]

    def put(self, key: int, value: int) -> None:
        """Set the word of a key."""
        shard = self._shards[key % _SHARDS]
        at = shard.find(key)
        if at < 0:
            shard, at = self._insert(key)
        assert shard.values is not None
        shard.values[at] = value
