from __future__ import annotations

import math
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._wire.json_values import (
    any_text,
    as_number,
    as_object,
    as_text,
    content_text,
    count,
    objects,
    scrub,
    whole,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("", ""), ("a", "a"), (5, "5"), (1.5, "1.5"), (True, None), (None, None), ([], None)],
)
def test_text(value: Any, expected: str | None) -> None:
    assert as_text(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1), (1.5, 1.5), (-(2**63), -(2**63)), (2**63, None), (10**400, None),
        (math.inf, None), (math.nan, None), (True, None), ("1", None), (None, None),
    ],
)  # fmt: skip
def test_number(value: Any, expected: float | None) -> None:
    assert as_number(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1), (-1, -1), (1.9, 1), ("12", 12), ("-1", None), ("1.5", None), ("٣", None),
        ("9" * 5000, None), (1e300, None), (math.inf, None), (False, None), (None, None),
    ],
)  # fmt: skip
def test_whole(value: Any, expected: int | None) -> None:
    assert whole(value) == expected


def test_count() -> None:
    values: list[Any] = [3, 2.0, -1, None, "x", {}]
    assert [count(value) for value in values] == [3, 2, 0, 0, 0, 0]


def test_objects() -> None:
    assert objects([{"a": 1}, None, []]) == [{"a": 1}]
    assert objects({"a": 1}) == objects(None) == []
    assert as_object({"a": 1}) == {"a": 1}
    assert as_object([1]) == {}


def test_scrub() -> None:
    payload = {"a\ud800": ["\udfffb", {"c": "\U0001f600"}, 1, None]}
    assert scrub(payload) == {"a\ufffd": ["\ufffdb", {"c": "\U0001f600"}, 1, None]}


@pytest.mark.parametrize(
    ("content", "kind", "expected"),
    [
        ("a", "text", "a"),
        ("a", "thinking", None),
        (["a", {"type": "output_text", "text": "b"}], "text", "ab"),
        ([{"type": "thinking", "thinking": ["a", {"text": "b"}]}], "thinking", "ab"),
        ([{"type": "thinking", "thinking": "a"}], "text", None),
        ([{"thinking": "a"}], "thinking", "a"),
        ([{"type": "reasoning", "reasoning": "a"}], "thinking", "a"),
        ([{"type": "refusal", "refusal": "a"}], "refusal", "a"),
        ([{"type": "refusal", "refusal": "a"}], "text", None),
        ([{"type": "image_url", "image_url": {}}], "text", None),
        ([], "text", None),
        (None, "text", None),
    ],
)
def test_text_of_content(
    content: Any, kind: Literal["text", "thinking", "refusal"], expected: str | None
) -> None:
    assert content_text(content, kind) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", "a"),
        (["a", ["b"], {"text": "c"}, {"x": 1}, None], "abc"),
        ({"text": None, "content": "a"}, "a"),
        ({}, None),
        ([], None),
        (None, None),
    ],
)
def test_any_text(value: Any, expected: str | None) -> None:
    assert any_text(value) == expected


@given(st.text(st.characters(exclude_categories=[])))
def test_scrubbed_text_can_be_encoded_and_other_text_is_the_same(text: str) -> None:
    scrubbed = scrub(text)
    scrubbed.encode()  # raises nothing
    assert len(scrubbed) == len(text)
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    assert scrubbed == text
