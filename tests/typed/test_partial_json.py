from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._typed.partial_json import PartialJSON

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
)
DUMPED = st.tuples(VALUES, st.booleans(), st.sampled_from([None, 1])).map(
    lambda each: (each[0], json.dumps(each[0], ensure_ascii=each[1], indent=each[2]))
)


def begins(value: Any, whole: Any) -> bool:
    """Whether a value is one that the whole can grow from."""
    if isinstance(whole, dict) and isinstance(value, dict):
        names = list(whole)[: len(value)]
        return list(value) == names and all(begins(value[each], whole[each]) for each in names)
    if isinstance(whole, list) and isinstance(value, list):
        pairs = zip(value, whole, strict=False)
        return len(value) <= len(whole) and all(begins(*pair) for pair in pairs)
    if isinstance(whole, str) and isinstance(value, str):
        return whole.startswith(value)
    return type(value) is type(whole) and bool(value == whole)


@given(DUMPED, st.data())
def test_any_prefix_is_a_value_that_the_whole_begins_with(
    dumped: tuple[Any, str], data: st.DataObject
) -> None:
    whole, text = dumped
    reader = PartialJSON()
    for end in sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8))):
        value = reader.value(text[:end])
        assert value is None or begins(value, whole)
        assert value == PartialJSON().value(text[:end])  # however often it was asked before
    assert reader.value(text + "\n") == whole


@given(TEXTS.map(lambda text: {"a": text}), st.booleans())
def test_a_text_grows_by_each_character(whole: dict[str, str], ascii_only: bool) -> None:
    text = json.dumps(whole, ensure_ascii=ascii_only)
    reader = PartialJSON()
    seen = {reader.value(text[:end])["a"] for end in range(len('{"a": "'), len(text))}
    assert seen == {whole["a"][:end] for end in range(len(whole["a"]) + 1)}


@given(st.text())
def test_any_text_at_all_raises_nothing(text: str) -> None:
    reader = PartialJSON()
    for end in range(len(text) + 1):
        reader.value(text[:end])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("  ", None),
        ("tru", None),
        ("{", {}),
        ('{"na', {}),
        ('{"name"', {}),
        ('{"name":', {}),
        ('{"name": "Os', {"name": "Os"}),
        ('{"name": "Os\\', {"name": "Os"}),
        ('{"name": "Os\\u00e', {"name": "Os"}),
        ('{"name": "\\ud83d', {"name": ""}),
        ('{"name": "\\ud83d\\ude00', {"name": "\U0001f600"}),
        ('{"name": "Oslo", "people": 71', {"name": "Oslo"}),
        ('{"name": "Oslo", "people": 71,', {"name": "Oslo", "people": 71}),
        ('{"of": [1, [2, {"a": true', {"of": [1, [2, {}]]}),
        ("[1, 2} 3", [1, 2]),
        ('{"a": 1} and more', {"a": 1}),
        ("[01, 2]", []),
        ("[" * 100_000, None),
    ],
)
def test_what_is_there(text: str, value: Any) -> None:
    assert PartialJSON().value(text) == value
