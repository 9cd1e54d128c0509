from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._typed.members import EXTRA, RAW, flattened, is_list, is_object, set_aside, shape_of
from penstock.types import ChatCompletion, ChatCompletionChunk, Part


class Inner(Part):
    a: int = 0


class Outer(Part):
    one: Inner | None = None
    many: list[Inner] = msgspec.field(default_factory=list)
    renamed: Any = msgspec.field(default=None, name="other")


def test_the_shape_of_a_type() -> None:
    shape = shape_of(Outer)
    assert shape.known == {"one", "many", "other"}
    assert [name for name, _ in shape.inner] == ["one", "many"]
    assert all(inner.known == {"a"} for _, inner in shape.inner)


def test_members_without_a_field_are_set_aside_at_each_level() -> None:
    payload = {
        "x": 1,
        "one": {"a": 1, "y": 2},
        "many": [{"z": 3}, {"a": 4}, None],
        "other": {"w": 1},
    }
    assert set_aside(payload, shape_of(Outer))
    assert payload == {
        "one": {"a": 1, EXTRA: {"y": 2}},
        "many": [{EXTRA: {"z": 3}}, {"a": 4}, None],
        "other": {"w": 1},
        EXTRA: {"x": 1},
    }


def test_there_are_none() -> None:
    payload = {"one": {"a": 1}, "many": []}
    assert not set_aside(payload, shape_of(Outer))
    assert payload == {"one": {"a": 1}, "many": []}


@pytest.mark.parametrize("name", [EXTRA, RAW])
def test_a_server_cannot_name_its_members_like_ours(name: str) -> None:
    payload: dict[str, Any] = {name: {"a": 1}}
    assert set_aside(payload, shape_of(Outer))
    assert payload == {EXTRA: {name: {"a": 1}}}
    assert flattened(payload) == {name: {"a": 1}}


values = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
names = st.sampled_from(["choices", "delta", "message", "usage", "tool_calls", "function", "x"])
payloads = st.dictionaries(names, st.dictionaries(names, values) | st.lists(values), max_size=4)


@given(payloads, st.sampled_from([ChatCompletion, ChatCompletionChunk]))
def test_flattened_is_the_reverse(payload: dict[str, Any], kind: type[Part]) -> None:
    before = flattened(payload)
    assert before == payload
    set_aside(payload, shape_of(kind))
    assert flattened(payload) == before


def test_objects_and_lists() -> None:
    assert is_object({})
    assert not is_object([])
    assert is_list([])
    assert not is_list({})
