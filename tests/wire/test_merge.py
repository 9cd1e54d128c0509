from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._wire.merge import Budget, Members

from .linear import growth


def merged(*pieces: dict[str, Any], increments: bool = True) -> dict[str, Any]:
    members = Members(Budget(), increments=increments)
    for piece in pieces:
        members.add(piece)
    return members.snapshot()


def of(*values: Any, increments: bool = True, name: str = "x") -> Any:
    return merged(*({name: value} for value in values), increments=increments)[name]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a", "b", "b", ""], "abb"),
        (["", "a"], "a"),
        ([None, "a", None], "a"),
        ([None], None),
        ([1, 2, 2.5, None, ""], 2.5),
        ([True, False], False),
        (["a", 5], 5),
        ([5, "a", "b"], "ab"),
        ([{"a": "x"}, {"a": "y", "b": 1}, {}], {"a": "xy", "b": 1}),
        ([{"a": {"b": ["x"]}}, {"a": {"b": ["x"]}}], {"a": {"b": ["x", "x"]}}),
        ([[1], [2, 2], [], [2]], [1, 2, 2, 2]),
        ([["a"], {"a": 1}], {"a": 1}),
        ([[[1]], [[1]]], [[1], [1]]),
    ],
)
def test_increments(values: list[Any], expected: Any) -> None:
    assert of(*values) == expected


@pytest.mark.parametrize(
    "name", ["id", "type", "name", "role", "call_id", "mime_type", "finish_reason", "format"]
)
@pytest.mark.parametrize("increments", [True, False])
def test_labels_are_never_joined(name: str, increments: bool) -> None:
    assert of("a", "a", increments=increments, name=name) == "a"
    assert of("a", "b", "", None, increments=increments, name=name) == "b"


@pytest.mark.parametrize("name", ["signature", "thought_signature", "url"])
def test_opaque_text_that_comes_again_is_not_joined(name: str) -> None:
    assert of("ab", "ab", name=name) == "ab"
    assert of("ab", "cd", name=name) == "abcd"


class TestBesideTheDeltas:
    def test_text_that_is_said_again(self) -> None:
        assert of("safe", "safe", increments=False) == "safe"
        assert of("a", "b", increments=False) == "ab"

    def test_lists_that_are_said_again_or_grow(self) -> None:
        pages = [["u1"], ["u1"], ["u1", "u2"], [], ["u1", "u2"]]
        assert of(*pages, increments=False) == ["u1", "u2"]
        results = [{"url": "u1", "title": "a"}]
        assert of(results, results, increments=False) == results
        assert of([1], [1], increments=False) == [1, 1]
        assert of(["a"], ["b"], increments=False) == ["a", "b"]

    def test_members_that_come_again_are_not_even_looked_at(self) -> None:
        members = Members(Budget(10), increments=False)
        for _ in range(20):
            members.add({"provider": "x", "filters": {"hate": {"severity": "safe"}}})
        assert members.snapshot()["filters"] == {"hate": {"severity": "safe"}}
        assert of([5], [5], [5], increments=False) == [5, 5, 5]

    def test_content_filters(self) -> None:
        safe = {"hate": {"filtered": False, "severity": "safe"}}
        low = {"hate": {"severity": "low"}, "violence": {"filtered": True}}
        assert of({}, safe, safe, low, increments=False) == {
            "hate": {"filtered": False, "severity": "low"},
            "violence": {"filtered": True},
        }


class TestElementsWithAnIndex:
    def test_are_pieces_of_one(self) -> None:
        pieces = [
            [{"index": 0, "type": "reasoning.text", "text": "Let me ", "format": "v1"}],
            [{"index": 1, "type": "reasoning.text", "text": "Or"}],
            [{"index": 0, "type": "reasoning.text", "text": "think", "format": "v1"}],
            [{"index": 0, "signature": "SIG", "id": "r1"}],
        ]
        assert of(*pieces) == [
            {
                "index": 0,
                "type": "reasoning.text",
                "text": "Let me think",
                "format": "v1",
                "signature": "SIG",
                "id": "r1",
            },
            {"index": 1, "type": "reasoning.text", "text": "Or"},
        ]

    def test_of_another_type_or_id_are_others(self) -> None:
        summary = {"index": 0, "type": "reasoning.summary", "summary": "S"}
        sealed = {"index": 0, "type": "reasoning.encrypted", "data": "D", "id": "a"}
        other = {"index": 0, "type": "reasoning.encrypted", "data": "E", "id": "b"}
        assert of([summary, sealed], [other], [summary]) == [
            {"index": 0, "type": "reasoning.summary", "summary": "SS"},
            sealed,
            other,
        ]

    def test_may_have_any_index(self) -> None:
        assert of([{"index": 10**30}, {"index": -1}, {"index": "0"}], [{"index": -1, "a": 1}]) == [
            {"index": 10**30},
            {"index": -1, "a": 1},
            {"index": "0"},
        ]


def test_padding_is_left_out() -> None:
    assert merged({"obfuscation": "x", "p": "abc", "a": 1}) == {"a": 1}


def test_a_snapshot_does_not_change() -> None:
    members = Members(Budget(), increments=True)
    piece = {"a": "x", "b": [{"index": 0, "c": "x"}], "d": {"e": [1]}}
    members.add(piece)
    first = members.snapshot()
    members.add(piece)
    assert first == piece
    first["b"][0].clear()
    first["d"].clear()
    assert members.snapshot() == {
        "a": "xx", "b": [{"index": 0, "c": "xx"}], "d": {"e": [1, 1]},
    }  # fmt: skip
    assert piece == {"a": "x", "b": [{"index": 0, "c": "x"}], "d": {"e": [1]}}


def test_the_number_of_members_is_bounded() -> None:
    budget = Budget(5)
    members = Members(budget, increments=True)
    for number in range(10):
        members.add({f"a{number}": [1]})
        members.add({"a0": [number]})
    assert budget.left < 0
    found = members.snapshot()
    assert len(found) + sum(map(len, found.values())) == 5


def test_time_is_linear() -> None:
    def text(size: int) -> None:
        members = Members(Budget(), increments=True)
        for _ in range(size):
            members.add({"audio": {"data": "AAAA"}})
        assert len(members.snapshot()["audio"]["data"]) == 4 * size

    def elements(size: int) -> None:
        members = Members(Budget(), increments=True)
        for number in range(size):
            members.add({"a": [{"index": 0, "id": str(number)}, {"index": number}, 1]})
        members.snapshot()

    def said_again(size: int) -> None:
        members = Members(Budget(), increments=False)
        for number in range(size):
            members.add({"a": [str(number)], "b": "x" * 10})
        members.snapshot()

    for work in (text, elements, said_again):
        assert growth(work, small=5_000) < 3


def objects_of(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(["text", "data", "more", "type", "id"]), inner)


texts = st.text("ab\u2028é", min_size=1, max_size=6)
values = st.recursive(
    texts | st.integers() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | objects_of(inner),
    max_leaves=8,
)


def split(value: Any, data: st.DataObject, name: str) -> list[Any]:
    """Pieces that an honest server may send for this value of a delta."""
    if isinstance(value, str) and name not in ("type", "id"):
        cut = data.draw(st.integers(0, len(value)))
        return [value[:cut], value[cut:]]
    if isinstance(value, list):
        cut = data.draw(st.integers(0, len(value)))
        return [value[:cut], value[cut:]]
    if isinstance(value, dict):
        parts = {inner: split(item, data, inner) for inner, item in value.items()}
        width = max((len(part) for part in parts.values()), default=1)
        return [
            {inner: part[n] for inner, part in parts.items() if n < len(part)} for n in range(width)
        ]
    return [value]


@given(objects_of(values), st.data())
def test_any_member_in_any_pieces(value: dict[str, Any], data: st.DataObject) -> None:
    assert of(*split(value, data, "x")) == value


@given(objects_of(values), objects_of(values))
def test_batches_make_no_difference(one: dict[str, Any], other: dict[str, Any]) -> None:
    pieces = [one, other, one]
    members = Members(Budget(), increments=True)
    for piece, look in itertools.zip_longest(pieces, [True, False, True]):
        members.add(piece)
        if look:
            members.snapshot()
    assert members.snapshot() == merged(*pieces)
