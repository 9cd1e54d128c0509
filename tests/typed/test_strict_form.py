"""JSON schemas, as any generator writes them, brought into the strict form."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._typed.strict_form import REFERENCE, StrictForm, closed, is_list, is_object, referred

STRING = {"type": "string"}
INTEGER = {"type": "integer"}
NULL = {"type": "null"}


def formed(schema: Any, **definitions: Any) -> tuple[Any, bool]:
    form = StrictForm(definitions)
    return form.root(schema), form.holds


def test_all_of_is_merged() -> None:
    schema = {
        "allOf": [
            {"$ref": "#/$defs/A"},
            {"properties": {"b": INTEGER}, "description": "Both."},
        ],
        "title": "AB",
    }
    merged = closed({"a": STRING, "b": INTEGER})
    definition = {"type": "object", "properties": {"a": STRING}}
    assert formed(schema, A=definition) == ({**merged, "description": "Both."}, True)


def test_a_description_beside_a_reference_wins() -> None:
    definition = {"type": "string", "description": "Of all."}
    schema = {"$ref": "#/$defs/A", "description": "Of this."}
    assert formed(schema, A=definition)[0] == {**STRING, "description": "Of this."}


def test_names_with_slashes() -> None:
    assert formed({"$ref": "#/$defs/a~1b~0c"}, **{"a/b~c": STRING})[0] == STRING


def test_nothing_stands_beside_a_recursive_reference() -> None:
    node = {
        "type": "object",
        "properties": {"next": {"$ref": "#/$defs/A", "description": "The next."}},
    }
    form = StrictForm({"A": node})
    assert form.root({"$ref": "#/$defs/A"}) == closed({"next": {"$ref": "#/$defs/A"}})


def test_a_recursive_reference_in_all_of() -> None:
    # So Pydantic before 2.9 wrote a field with a description.
    again = {"allOf": [{"$ref": "#/$defs/A"}], "description": "The next.", "default": None}
    node = {"type": "object", "properties": {"next": again}}
    form = StrictForm({"A": node})
    expected = closed({"next": {"$ref": "#/$defs/A"}})
    assert form.root({"$ref": "#/$defs/A"}) == expected
    assert (form.emitted, form.holds) == ({"A": expected}, True)


@pytest.mark.timeout(20)
def test_merging_with_itself_has_an_end() -> None:
    itself = {"$ref": "#/$defs/A"}
    for definition in (
        {"allOf": [itself]},
        {"allOf": [itself, itself]},
        {"anyOf": [{"allOf": [itself, {"description": "More."}]}, STRING]},
        {"properties": {"next": {"allOf": [itself, {"properties": {"b": STRING}}]}}},
    ):
        schema, strict = formed(itself, A=definition)
        assert not strict
        msgspec.json.encode(schema)


def test_several_types() -> None:
    schema = {"type": ["string", "null"], "maxLength": 3, "description": "Short."}
    assert formed(schema)[0] == {
        "anyOf": [{"type": "string", "maxLength": 3}, {"type": "null", "maxLength": 3}],
        "description": "Short.",
    }


@pytest.mark.timeout(20)
def test_a_reference_to_itself_has_an_end() -> None:
    assert not formed({"$ref": "#/$defs/A"}, A={"$ref": "#/$defs/A"})[1]


def test_what_has_no_keyword_is_said() -> None:
    schema = {"type": "array", "items": INTEGER, "uniqueItems": True, "description": "Some."}
    said = {"type": "array", "items": INTEGER, "description": "Some. (uniqueItems: true)"}
    assert formed(schema) == (said, True)


def test_const() -> None:
    assert formed({"const": 1})[0] == {"type": "integer", "enum": [1]}
    assert formed({"const": None})[0] == NULL
    assert formed({"const": [1]})[0] == {"type": "array", "enum": [[1]]}
    assert formed({"enum": [True, 1.5, None, 2, "a"]})[0]["anyOf"] == [
        {"type": "boolean", "enum": [True]},
        {"type": "number", "enum": [1.5]},
        NULL,
        {"type": "integer", "enum": [2]},
        {"type": "string", "enum": ["a"]},
    ]


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://elsewhere.test/schema"},
        {"$ref": "#/$defs/Nowhere"},
        {"type": "array"},
        {"type": "array", "items": True},
        {"description": "Anything."},
    ],
)
def test_what_cannot_be_held(schema: Any) -> None:
    assert not formed(schema)[1]


def test_a_closed_object_asks_for_all_its_members_in_their_order() -> None:
    assert closed({"b": STRING, "a": INTEGER}) == {
        "type": "object",
        "properties": {"b": STRING, "a": INTEGER},
        "required": ["b", "a"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        ({"$ref": "#/$defs/A"}, "A"),
        ({"$ref": "#/$defs/a~1b~0~1"}, "a/b~/"),
        ({"$ref": "#/$defs/~01"}, "~1"),  # RFC 6901, 4: in this order
        ({"$ref": "#/definitions/A"}, None),
        ({"$ref": 5}, None),
        ({}, None),
    ],
)
def test_what_a_schema_refers_to(schema: Any, name: str | None) -> None:
    assert referred(schema) == name


# --- whatever a generator writes ---

NAMES = st.sampled_from(["a", "b", "type", "$ref", "properties"])
REFERENCES = st.sampled_from(["A", "B", "0.C", "Nowhere"]).map(
    lambda name: {"$ref": REFERENCE + name}
)
WORDS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "description": st.sampled_from(["", "Said."]),
        "title": st.just("T"),
        "default": st.sampled_from([None, 1, []]),
        "format": st.sampled_from(["uuid", "path"]),
        "maxLength": st.just(3),
    },
)
TYPES = st.sampled_from(["string", "integer", "number", "boolean", "null", "array", "object"])
PLAIN: st.SearchStrategy[Any] = st.one_of(
    TYPES.map(lambda kind: {"type": kind}),
    st.lists(TYPES, min_size=1, max_size=2, unique=True).map(lambda kinds: {"type": kinds}),
    st.lists(st.sampled_from([None, True, 1, 1.5, "x", [1]]), min_size=1, max_size=3).map(
        lambda values: {"enum": values}
    ),
    st.sampled_from([None, 0, "x"]).map(lambda value: {"const": value}),
    st.just({}),
    REFERENCES,
)


def compound(schemas: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(schemas, min_size=1, max_size=3)
    objects = st.dictionaries(NAMES, schemas, max_size=3)
    return st.one_of(
        objects.map(lambda members: {"type": "object", "properties": members}),
        schemas.map(lambda items: {"type": "array", "items": items}),
        several.map(lambda places: {"type": "array", "prefixItems": places}),
        schemas.map(lambda values: {"type": "object", "additionalProperties": values}),
        several.map(lambda branches: {"anyOf": branches}),
        several.map(lambda branches: {"oneOf": branches}),
        several.map(lambda parts: {"allOf": parts}),
    )


SCHEMAS: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.builds(lambda schema, words: words | schema, PLAIN, WORDS),
    lambda inner: st.builds(lambda schema, words: words | schema, compound(inner), WORDS),
    max_leaves=6,
)
DEFINITIONS = st.fixed_dictionaries({"A": SCHEMAS, "B": SCHEMAS, "0.C": SCHEMAS})


def parts(schema: Any) -> Iterator[dict[str, Any]]:
    """The schema and all that are inside of it."""
    assert is_object(schema)
    yield schema
    values: list[Any] = [*schema.get("properties", {}).values(), *schema.get("anyOf", ())]
    values += [schema[key] for key in ("items", "additionalProperties") if key in schema]
    for value in [*values, *schema.get("prefixItems", ())]:
        if is_object(value):
            yield from parts(value)


@given(schema=SCHEMAS, definitions=DEFINITIONS)
def test_the_form_is_what_servers_expect_or_says_that_it_is_not(
    schema: dict[str, Any], definitions: dict[str, Any]
) -> None:
    given_ = copy.deepcopy((schema, definitions))
    form = StrictForm(definitions)
    root = form.root(schema)
    assert (schema, definitions) == given_  # they are their owner's
    msgspec.json.encode([root, form.emitted])
    for part in [each for whole in (root, *form.emitted.values()) for each in parts(whole)]:
        assert not {"title", "default", "oneOf", "allOf", "const"} & part.keys()
        if "$ref" in part:
            assert list(part) == ["$ref"]
            assert part["$ref"].removeprefix(REFERENCE) in form.emitted
        if not form.holds:
            continue
        assert len({"type", "anyOf", "$ref"} & part.keys()) == 1, part
        if is_list(part.get("type")) or part.get("type") == "object":
            assert part["required"] == list(part["properties"])
            assert part["additionalProperties"] is False
        if part.get("type") == "array" and "enum" not in part:
            assert is_object(part["items"])


@given(schema=SCHEMAS, definitions=DEFINITIONS)
def test_a_strict_form_is_its_own(schema: dict[str, Any], definitions: dict[str, Any]) -> None:
    form = StrictForm(definitions)
    root = form.root(schema)
    if form.holds and "$ref" not in root:
        again = StrictForm(form.emitted)
        assert again.root(root) == root
        assert again.holds
        assert again.emitted.keys() <= form.emitted.keys()
