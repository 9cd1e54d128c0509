from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock._wire.whole_object import WholeObject

from .linear import growth
from .work import calls_in


def whole(pieces: Iterable[str]) -> bool:
    text = WholeObject()
    for piece in pieces:
        text.feed(piece)
    return bool(text)


def decodes(text: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False


pieces = st.lists(
    st.text(st.sampled_from('{}[]",:\\ \n\xa0a1u0é'), max_size=6)
    | st.sampled_from(['{"a":1}', '{"a":"}"}', '"\\""', "\\", '{"a":', "{}"]),
    max_size=8,
)


@given(pieces)
@example(["{", "}"])
@example(['{"a', "\\", '"}', '":1}'])
@example(["{}", " ", "\n"])
@example(["{}", "}"])
@example([" {}", "x"])
@example(["[{}]"])
@example(["{]", "}"])
@example(["{}\xa0"])
@example(['{"\ud800":1}'])
def test_after_each_piece_it_is_what_a_decoder_says(parts: list[str]) -> None:
    text = WholeObject()
    assert not text
    for count, piece in enumerate(parts, 1):
        text.feed(piece)
        assert bool(text) is decodes("".join(parts[:count]))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), json_values), st.data(), st.booleans())
def test_an_object_in_any_pieces(value: dict[str, Any], data: st.DataObject, ascii: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii)
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=5).map(sorted))
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert whole(parts)
    assert not whole([text[:-1]])
    assert whole([" \t", *parts, "\r\n "])
    assert not whole([*parts, "x"])


@pytest.mark.parametrize("more", ["}", " ", "]", '"'])
def test_asking_after_each_piece_takes_linear_time(more: str) -> None:
    def work(count: int) -> None:
        text = WholeObject()
        text.feed('{"a":"' + "x" * count + '"')
        for _ in range(count // 100):
            text.feed(more)
            bool(text)

    assert growth(work, small=100_000) < 3


def test_nesting_of_any_depth_is_no_error() -> None:
    assert not whole(['{"a":' * 100_000, "0" + "}" * 100_000])


@pytest.mark.parametrize("sign", ["[", "[]", '""', "{", ',"'])
def test_brackets_and_quotes_without_end_cost_no_more_than_so_many(sign: str) -> None:
    def work(pieces: int) -> int:
        text = WholeObject()
        text.feed('{"a":')

        def feed() -> None:
            for _ in range(pieces):
                text.feed(sign * 1000)

        return calls_in(feed)

    # Once there are more than any arguments have, they are not looked at.
    assert work(2000) - work(1000) <= 5 * 1000
