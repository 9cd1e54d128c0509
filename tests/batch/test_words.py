"""Sets and maps of words."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from penstock.batch.words import WordMap, WordSet, word_of

WORDS = st.integers(1, 2**64 - 1) | st.integers(1, 200)


@given(st.lists(WORDS))
def test_a_set(words: list[int]) -> None:
    ours, model = WordSet(), set[int]()
    for word in words:
        assert ours.add(word) == (word not in model)
        model.add(word)
        assert len(ours) == len(model)
    assert all(word in ours for word in words)
    assert all((word in ours) == (word in model) for word in range(1, 50))


@given(st.lists(st.tuples(WORDS, st.integers(0, 2**64 - 1))))
def test_a_map(pairs: list[tuple[int, int]]) -> None:
    ours, model = WordMap(), dict[int, int]()
    for key, value in pairs:
        assert ours.get(key) == model.get(key)
        ours.put(key, value)
        model[key] = value
    assert len(ours) == len(model)
    assert all(ours.get(key) == value for key, value in model.items())


def test_words_that_follow_each_other_are_found() -> None:
    ours = WordSet()
    assert all(ours.add(word) for word in range(1, 20_000))
    assert not any(ours.add(word) for word in range(1, 20_000))


def test_a_word_takes_at_most_22_bytes() -> None:
    ours = WordSet()
    for number in range(50_000):
        ours.add(word_of(f"row {number}"))
    bytes_ = sum(sys.getsizeof(shard.keys) for shard in ours._shards)
    assert bytes_ <= 22 * len(ours)


def test_a_word_of_a_text_is_never_0() -> None:
    assert word_of("") == 1
    assert word_of("a") == word_of("a") != word_of("b")
    assert 0 < word_of("a") < 2**64
