from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._typed.forgiving import decode_forgivingly


@dataclass
class Point:
    x: int
    label: str


POINTS = st.builds(Point, st.integers(-9, 9), st.text("ab`<>{}\n", max_size=9))
PROSE = st.text("ab {}\n", max_size=9)


def as_json(point: Point) -> str:
    return json.dumps({"x": point.x, "label": point.label})


@given(POINTS, PROSE, PROSE, st.booleans(), st.booleans(), st.booleans())
def test_wrappings_come_off_in_any_combination(
    point: Point, thought: str, prose: str, thinks: bool, fenced: bool, twice: bool
) -> None:
    text = as_json(point)
    if twice:
        text = json.dumps(text)
    if fenced:
        text = f"{prose}\n```json\n{text}\n```\n{prose}"
    if thinks:
        text = f"<think>{thought}</think>\n{text}"
    assert decode_forgivingly(Point, text) == point


@given(st.text())
def test_a_text_that_is_wanted_stays_as_it_is(text: str) -> None:
    assert decode_forgivingly(str, json.dumps(text)) == text


@pytest.mark.parametrize(
    "text", ["", "no JSON", "<think>", "<think>{", "```json\n{\n```", '"{}"', '"twice"', "```"]
)
def test_what_is_not_valid_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        decode_forgivingly(Point, text)


def test_the_error_is_about_what_was_found() -> None:
    kind: Any = Point
    with pytest.raises(ValueError, match="label"):
        decode_forgivingly(kind, '<think>so</think>\n```json\n{"x": 1}\n```')
