"""Schemas have the strict form that servers expect, whatever library describes the type."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import itertools
import re
import uuid
from collections.abc import Iterator
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NotRequired,
    Optional,
    TypedDict,
    TypeVar,
    Union,
)

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._typed.schema import StrictSchema, schema_name, strict_schema

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Address(msgspec.Struct):
    """Where somebody lives."""

    street: str
    zip: Annotated[str, msgspec.Meta(pattern="^[0-9]+$", max_length=5, description="The code.")]


class Person(msgspec.Struct):
    name: str
    age: Annotated[int, msgspec.Meta(ge=0, le=150)] = 18
    home: Address | None = None
    colour: Colour = Colour.RED
    title: str = ""


class Node(msgspec.Struct):
    value: int
    children: list[Node] = []


class Left(msgspec.Struct, tag=True):
    right: Right | None


class Right(msgspec.Struct, tag=True):
    left: Left | None


class Box(msgspec.Struct, Generic[T]):
    content: T


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0


class Entry(TypedDict):
    word: str
    note: NotRequired[str]


@attrs.define
class Pair:
    left: int
    right: Entry


class Answer(TypedDict):
    thoughts: str
    answer: int


class Answers(msgspec.Struct):
    thinking: list[Answer | None]
    all: Annotated[Answer, msgspec.Meta(description="All.")]
    after: dict[str, Answer]


class Inner(pydantic.BaseModel):
    size: int = pydantic.Field(3, ge=0, description="How large.", examples=[1])
    title: Literal["only"] = "only"


class Outer(pydantic.BaseModel):
    """A model."""

    model_config = pydantic.ConfigDict(title="Something else")

    inner: Inner = pydantic.Field(description="The inner one.")
    either: Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]
    maybe: str | None = None


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]


class Tree(pydantic.BaseModel):
    branches: list[Tree] = []


class Words(pydantic.RootModel[list[str]]):
    pass


def closed(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def in_order(schema: Any) -> Any:
    """The schema with its branches sorted, whose order differs from msgspec to msgspec."""
    if isinstance(schema, list):
        return [in_order(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    ordered = {name: in_order(value) for name, value in schema.items()}
    if "anyOf" in ordered:
        ordered["anyOf"].sort(key=repr)
    return ordered


STRING, INTEGER, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
NULL = {"type": "null"}
ADDRESS = {
    "description": "Where somebody lives.",
    **closed(
        street=STRING,
        zip={
            "type": "string", "pattern": "^[0-9]+$", "maxLength": 5, "description": "The code.",
        },
    ),
}  # fmt: skip
SIZE = {"type": "integer", "minimum": 0, "description": "How large. (default: 3, examples: [1])"}
ONLY = {"type": "string", "enum": ["only"], "description": '(default: "only")'}


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        (
            Person,
            closed(
                name=STRING,
                age={
                    "type": "integer", "minimum": 0, "maximum": 150, "description": "(default: 18)",
                },
                home={"anyOf": [ADDRESS, NULL]},
                colour={
                    "type": "string", "enum": ["green", "red"], "description": '(default: "red")',
                },
                title=STRING,
            ),
        ),
        (Point, closed(x=NUMBER, y={**NUMBER, "description": "(default: 0.0)"})),
        (Entry, closed(word=STRING, note=STRING)),
        (Pair, closed(left=INTEGER, right=closed(word=STRING, note=STRING))),
        (Box[int], closed(content=INTEGER)),
        (
            Outer,
            {
                "description": "A model.",
                **closed(
                    inner={**closed(size=SIZE, title=ONLY), "description": "The inner one."},
                    either={
                        "anyOf": [
                            closed(kind={"type": "string", "enum": ["cat"]}),
                            closed(kind={"type": "string", "enum": ["dog"]}),
                        ]
                    },
                    maybe={"anyOf": [STRING, NULL]},
                ),
            },
        ),
    ],
)  # fmt: skip
def test_objects(kind: Any, schema: Any) -> None:
    form = strict_schema(kind)
    assert (in_order(form.schema), form.strict, form.wrapped) == (in_order(schema), True, False)


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        (int, INTEGER),
        (bool, {"type": "boolean"}),
        (list[int], {"type": "array", "items": INTEGER}),
        (int | str, {"anyOf": [INTEGER, STRING]}),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (Colour | None, {"anyOf": [{"type": "string", "enum": ["green", "red"]}, NULL]}),
        (Address | None, {"anyOf": [ADDRESS, NULL]}),
        (tuple[int, ...], {"type": "array", "items": INTEGER}),
        (
            tuple[float, float],
            {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
        ),
        (
            Annotated[list[int], msgspec.Meta(min_length=1, max_length=3, description="Some.")],
            {
                "type": "array", "items": INTEGER, "minItems": 1, "maxItems": 3,
                "description": "Some.",
            },
        ),
        (uuid.UUID, {"type": "string", "format": "uuid"}),
        (dt.date, {"type": "string", "format": "date"}),
        (decimal.Decimal, {"type": "string", "description": '(format: "decimal")'}),
        (bytes, {"type": "string", "description": '(contentEncoding: "base64")'}),
        (Words, {"type": "array", "items": STRING}),
        (list[Inner], {"type": "array", "items": closed(size=SIZE, title=ONLY)}),
        (Cat | None, {"anyOf": [closed(kind={"type": "string", "enum": ["cat"]}), NULL]}),
    ],
)  # fmt: skip
def test_anything_else_is_wrapped_in_an_object(kind: Any, schema: Any) -> None:
    form = strict_schema(kind)
    assert in_order(form.schema) == in_order(closed(value=schema))
    assert (form.strict, form.wrapped) == (True, True)


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        (dict[str, int], {"type": "object", "additionalProperties": INTEGER}),
        (dict, {"type": "object"}),
        (Any, closed(value={})),
        (list, closed(value={"type": "array", "items": {}})),
        (
            tuple[int, str],
            closed(
                value={
                    "type": "array", "prefixItems": [INTEGER, STRING], "items": False,
                    "minItems": 2, "maxItems": 2,
                },
            ),
        ),
    ],
)  # fmt: skip
def test_what_has_no_strict_form_stays_as_it_is(kind: Any, schema: Any) -> None:
    form = strict_schema(kind)
    assert form.schema == schema
    assert not form.strict


def test_members_keep_the_order_they_were_written_in() -> None:
    schema = strict_schema(Answers).schema
    assert list(schema["properties"]) == ["thinking", "all", "after"]
    assert list(schema["properties"]["all"]["properties"]) == ["thoughts", "answer"]


def test_recursion_stays_a_reference() -> None:
    node = closed(
        value=INTEGER,
        children={"type": "array", "items": {"$ref": "#/$defs/Node"}},
    )
    form = strict_schema(Node)
    assert form == StrictSchema({**node, "$defs": {"Node": node}}, strict=True, wrapped=False)
    assert strict_schema(list[Node]).schema["$defs"] == {"Node": node}


def test_recursion_through_two_types() -> None:
    form = strict_schema(Left)
    assert form.strict
    assert set(form.schema["$defs"]) == {"Left", "Right"}
    assert form.schema["properties"]["type"] == {"type": "string", "enum": ["Left"]}
    check_strict(form.schema)


def test_recursion_of_a_model_also_inside_of_others() -> None:
    class Grove(msgspec.Struct):
        first: Tree
        others: list[Tree]

    tree = closed(branches={"type": "array", "items": {"$ref": "#/$defs/Tree"}})
    assert strict_schema(Tree).schema == {**tree, "$defs": {"Tree": tree}}
    grove = strict_schema(Grove).schema
    assert grove == {
        **closed(first=tree, others={"type": "array", "items": tree}),
        "$defs": {"Tree": tree},
    }


def test_models_of_the_same_name_keep_apart() -> None:
    def tree(**fields: Any) -> Any:
        model = pydantic.create_model("Tree", **fields)
        model.model_rebuild(_types_namespace={"Tree": model})
        return model

    leafy = tree(leaf=(int, 0), branches=("list[Tree]", []))
    bare = tree(branches=("list[Tree]", []))
    schema = strict_schema(tuple[leafy, bare]).schema  # type: ignore[valid-type]
    first, second = schema["properties"]["value"]["prefixItems"]
    assert list(first["properties"]) == ["leaf", "branches"]
    assert list(second["properties"]) == ["branches"]
    inside = [
        schema["$defs"][part["properties"]["branches"]["items"]["$ref"].removeprefix("#/$defs/")]
        for part in (first, second)
    ]
    assert [list(part["properties"]) for part in inside] == [["leaf", "branches"], ["branches"]]


@pytest.mark.parametrize("kind", [complex, list[complex], object, 3, ..., "Nowhere", {1}])
def test_what_has_no_schema(kind: Any) -> None:
    with pytest.raises(TypeError, match=r".+ has no JSON schema: .+not supported"):
        strict_schema(kind)


def test_a_forward_reference_to_nowhere() -> None:
    kind = msgspec.defstruct("Lost", [("where", "Nowhere")])
    with pytest.raises(TypeError, match="Lost has no JSON schema: name 'Nowhere' is not defined"):
        strict_schema(kind)


def test_two_types_of_one_name() -> None:
    inner = msgspec.defstruct("Same", [("a", int)])
    outer = msgspec.defstruct("Same", [("inner", inner)])
    # Since version 0.22 or 0.23 msgspec can tell them apart.
    try:
        result = strict_schema(outer)
    except TypeError as error:
        assert "two of its types have the same name" in str(error)  # noqa: PT017 - or none
    else:
        check_strict(result.schema)
        assert result.strict
        described = result.schema["properties"]["inner"]
        if "$ref" in described:
            described = result.schema["$defs"][described["$ref"].rpartition("/")[2]]
        assert described["properties"] == {"a": {"type": "integer"}}


def test_a_msgspec_that_cannot_tell_them_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise KeyError("Same")

    monkeypatch.setattr(msgspec.json, "schema", fail)
    with pytest.raises(
        TypeError, match="Point has no JSON schema: two of its types have the same name"
    ):
        strict_schema(Point)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Person, "Person"),
        (Box[int], "Box"),
        (list[int], "list"),
        (int | None, "int_None"),
        (Optional[int], "int_None"),  # noqa: UP045 - the older way to write it
        (Union[int, list[str], Point], "int_list_Point"),  # noqa: UP007 - the older way
        (Annotated[Person | None, msgspec.Meta(description="x")], "Person_None"),
        (Annotated[int, msgspec.Meta(ge=0)], "int"),
        (type(None), "None"),
        (Literal["a", "b"], "Literal"),
        (pydantic.create_model("Größe"), "Gr_e"),
        (pydantic.create_model("大"), "response"),
        (pydantic.create_model("x" * 99), "x" * 64),
    ],
)
def test_names_are_those_that_servers_accept(kind: Any, name: str) -> None:
    assert schema_name(kind) == name
    assert re.fullmatch("[a-zA-Z0-9_-]{1,64}", name)


# --- whatever the type ---


def parts(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    inside = [
        *schema.get("properties", {}).values(),
        *schema.get("$defs", {}).values(),
        *schema.get("anyOf", ()),
        *([schema["items"]] if "items" in schema else ()),
    ]
    for part in inside:
        yield from parts(part)


def check_strict(schema: dict[str, Any]) -> None:
    assert schema["type"] == "object"
    for part in parts(schema):
        assert len({"type", "anyOf", "$ref"} & set(part)) == 1, part
        assert not {"title", "default", "oneOf", "allOf", "const", "discriminator"} & set(part)
        if "$ref" in part:
            assert list(part) == ["$ref"]
            assert part["$ref"].removeprefix("#/$defs/") in schema["$defs"]
        if part.get("type") == "object":
            assert part["required"] == list(part["properties"])
            assert part["additionalProperties"] is False
        if part.get("type") == "array":
            assert "items" in part


NAMES = st.sampled_from(["a", "b", "title", "default", "type", "properties", "ref"])
SIMPLE = st.sampled_from([int, str, float, bool, Colour, Point, Entry, Pair, Person, Inner, Node])


NUMBERS = itertools.count()


def structs(kinds: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(NAMES, kinds, max_size=4).map(
        lambda fields: msgspec.defstruct(f"Made{next(NUMBERS)}", list(fields.items()))
    )


def said_of(kind: Any) -> Any:
    return Annotated[kind, msgspec.Meta(description="Said.", title="T")]


def list_of(kind: Any) -> Any:
    return list[kind]


KINDS: st.SearchStrategy[Any] = st.recursive(
    SIMPLE | st.just(Literal["x", "y"]),
    lambda kinds: (
        kinds.map(list_of)
        | kinds.map(lambda kind: kind | None)
        | kinds.map(said_of)
        | structs(kinds)
    ),
    max_leaves=8,
)


@given(KINDS)
def test_every_schema_has_the_strict_form(kind: Any) -> None:
    form = strict_schema(kind)
    assert form.strict
    check_strict(form.schema)
    assert msgspec.json.decode(msgspec.json.encode(form.schema)) == form.schema
