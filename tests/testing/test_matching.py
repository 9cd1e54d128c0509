"""Requests are compared as values, and where they differ is said in few words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._typed.members import is_object
from penstock.testing.matching import (
    default_match,
    differences,
    json_of,
    key_of,
    nearest,
    origin_form,
)
from penstock.testing.script import RecordedRequest

TWO_THEN_ONE = (
    'text is ..."xxxxxxxxxxxxxxxxxxx two yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"..., '
    'recorded ..."xxxxxxxxxxxxxxxxxxx one yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"...'
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


def request(body: Any, method: str = "POST", target: str = "/v1/x") -> RecordedRequest:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return RecordedRequest(method, target, {}, data)


def key(body: Any) -> str:
    return key_of(default_match(request(body)))


@given(values, values)
def test_there_is_a_difference_just_where_the_keys_differ(one: Any, other: Any) -> None:
    found = differences(request(one), request(other))
    assert bool(found) == (key(one) != key(other))
    assert all(len(each) < 500 and "\n" not in each for each in found)


@given(values)
def test_the_order_of_members_does_not_matter(value: Any) -> None:
    def turned(value: Any) -> Any:
        if is_object(value):
            return {name: turned(value[name]) for name in reversed(value)}
        return value

    assert key(value) == key(turned(value))


def test_numbers_and_booleans_are_different_things() -> None:
    assert len({key(1), key(True), key("1"), key(None)}) == 4


def test_what_is_not_json_is_compared_as_it_is() -> None:
    assert key(b"\xff") != key(b"\xfe")
    assert key(b"[" * 100_000) != key(b"[" * 100_001)
    for body in (b'"\\ud800"', b"", b"{"):
        with pytest.raises(ValueError):  # noqa: PT011 - of json, or of utf-8
            json_of(body)


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ({"n": 1}, {}, ["n is missing, recorded 1"]),
        ({}, {"n": [1]}, ["n is [1], not recorded"]),
        ({"n": 1}, {"n": 2}, ["n is 2, recorded 1"]),
        ([1, 2], [1], ["the body has 1 items, recorded 2"]),
        ({"a": [{"b": 1}]}, {"a": [{"b": "x"}]}, ['a[0].b is "x", recorded 1']),
        (1, 2, ["the body is 2, recorded 1"]),
        (
            {"text": "x" * 100 + " one " + "y" * 100},
            {"text": "x" * 100 + " two " + "y" * 100},
            [TWO_THEN_ONE],
        ),
    ],
)
def test_the_words(one: Any, other: Any, words: list[str]) -> None:
    assert differences(request(one), request(other)) == words


def test_method_and_target_differ_too() -> None:
    assert differences(request(1), request(1, "PUT", "/v1/y")) == [
        'method is "PUT", recorded "POST"',
        'target is "/v1/y", recorded "/v1/x"',
    ]


def test_the_nearest_differs_least() -> None:
    sent = request({"a": 1, "b": 2, "c": 3})
    recorded = [request({}), request({"a": 1, "b": 0, "c": 3}), request({"a": 1})]
    assert nearest(recorded, sent) == (1, ["b is 2, recorded 0"])
    assert nearest([], sent) is None


def test_the_target_behind_a_proxy() -> None:
    assert origin_form("http://api.test/v1/x?a=1") == "/v1/x?a=1"
    assert origin_form("http://api.test") == "/"
    assert origin_form("/v1/x") == "/v1/x"
