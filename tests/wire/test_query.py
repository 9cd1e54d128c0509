"""Queries are merged by name, and what cannot be a parameter is refused."""

from __future__ import annotations

import enum
import urllib.parse
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._wire.query import Query


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (None, ""),
        ({}, ""),
        ({"api-version": "2024-10-21"}, "api-version=2024-10-21"),
        ({"a": 1, "b": 2.5, "c": True, "d": False}, "a=1&b=2.5&c=true&d=false"),
        ({"a": None, "b": []}, ""),
        ({"a": ["x", "y"], "b": ("z",)}, "a=x&a=y&b=z"),
        ({"a b": "c&d=e", "\u00e9": "/?#"}, "a%20b=c%26d%3De&%C3%A9=%2F%3F%23"),
        ({"a": "\r\nX: 1"}, "a=%0D%0AX%3A%201"),
    ],
)
def test_a_mapping_as_a_query(values: Any, text: str) -> None:
    assert str(Query.of(values, "extra_query")) == text


@pytest.mark.parametrize(
    ("values", "kind", "reason"),
    [
        ("a=b", TypeError, "extra_query must be a mapping, not str"),
        ([("a", "b")], TypeError, "must be a mapping, not list"),
        ({1: "b"}, TypeError, "a name that is not a string"),
        ({"a": b"b"}, TypeError, "a value of type bytes"),
        ({"a": {"b": "c"}}, TypeError, "a value of type dict"),
        ({"a": [None]}, TypeError, "a value of type NoneType"),
        ({"a": float("nan")}, ValueError, "not a finite number"),
        ({"a": "\ud800"}, ValueError, "lone surrogate"),
    ],
)
def test_what_is_not_a_query(values: Any, kind: type[Exception], reason: str) -> None:
    with pytest.raises(kind, match=reason):
        Query.of(values, "extra_query")


@pytest.mark.parametrize(
    ("first", "second", "merged"),
    [
        ("a=1&b=2", "", "a=1&b=2"),
        ("", "a=1", "a=1"),
        ("a=1&b=2&a=3", "a=4", "b=2&a=4"),
        ("a%2Db=1", "a-b=2", "a-b=2"),
        ("x&y=%2B", "z", "x&y=%2B&z"),
        ("&a=1&&", "&b=2", "a=1&b=2"),
    ],
)
def test_merging(first: str, second: str, merged: str) -> None:
    assert str(Query.parse(first).merged(Query.parse(second))) == merged


pairs = st.dictionaries(st.text(min_size=1, max_size=3), st.text(max_size=3), max_size=4)


@given(pairs, pairs)
def test_what_goes_in_comes_out(first: dict[str, str], second: dict[str, str]) -> None:
    try:
        query = Query.of(first, "q").merged(Query.of(second, "q"))
    except ValueError:
        return  # lone surrogates
    assert dict(urllib.parse.parse_qsl(str(query), keep_blank_values=True)) == {**first, **second}
    assert all("!" <= char <= "~" and char != "#" for char in str(query))
    assert Query.parse(str(query)) == query


def test_no_value_is_shown() -> None:
    assert "secret" not in repr(Query.of({"key": "secret"}, "q"))
    assert "secret" not in repr(list(Query.parse("key=secret").__rich_repr__()))


class Level(int, enum.Enum):
    HIGH = 3


class Share(float, enum.Enum):
    HALF = 0.5


class Colour(str, enum.Enum):  # noqa: UP042 - as much code has it
    RED = "red"


def test_members_of_an_enum_are_their_values() -> None:
    query = Query.of({"a": Level.HIGH, "b": Share.HALF, "c": Colour.RED}, "extra_query")
    assert [part for _, part in query.parts] == ["a=3", "b=0.5", "c=red"]
