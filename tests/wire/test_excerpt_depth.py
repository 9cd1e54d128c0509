from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

from penstock._wire.excerpt import MAX_DEPTH, is_too_deep
from penstock._wire.stream_error import stream_error
from penstock.errors import StreamError


def nested(depth: int, kind: str) -> Any:
    """So many lists or objects inside each other."""
    value: Any = 0
    for _ in range(depth):
        value = [value, 1] if kind == "lists" else {"a": 1, "b": value}
    return value


@pytest.mark.parametrize("kind", ["lists", "objects"])
def test_the_bound(kind: str) -> None:
    for depth in (0, 1, 5, MAX_DEPTH - 1, MAX_DEPTH):
        assert not is_too_deep(nested(depth, kind)), depth
    for depth in (MAX_DEPTH + 1, MAX_DEPTH + 2, 400, 100_000):
        value = nested(depth, kind)
        assert is_too_deep(value), depth
        while value != 0:  # taken apart by hand: CPython 3.11 frees deep values by recursion
            value = value[0] if isinstance(value, list) else value["b"]


@pytest.mark.parametrize("kind", ["lists", "objects"])
def test_wherever_it_is_deep(kind: str) -> None:
    deep = nested(MAX_DEPTH, kind)
    for siblings in ([deep, [1], {"a": 1}], [[1], deep, [1]], [{"a": 1}, [1], deep]):
        assert is_too_deep(siblings)
        assert is_too_deep(dict(zip("abc", siblings, strict=True)))


def test_what_is_within_the_bound_can_be_walked() -> None:
    error = StreamError("x", body=nested(MAX_DEPTH, "objects"))
    assert vars(pickle.loads(pickle.dumps(error))) == vars(copy.deepcopy(error)) == vars(error)


@pytest.mark.parametrize("payload", [None, 0, "text", [], {}, [[]], {"a": {}}, ["a"] * 1000])
def test_plain_values(payload: Any) -> None:
    assert not is_too_deep(payload)


def test_an_error_keeps_the_text_of_what_is_too_deep() -> None:
    deep = {"error": {"message": "no", "code": 7, "more": nested(MAX_DEPTH, "lists")}}
    data = json.dumps(deep).encode()
    error = stream_error(deep, data)
    assert (str(error), error.code) == ("7: no", 7)
    assert error.body == data.decode()
    assert stream_error({"error": {"message": "no"}}, b"").body == {"error": {"message": "no"}}
