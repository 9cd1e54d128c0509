"""Text into values: strict, with a reason in one line, Pydantic only where the caller has it."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Annotated, Any, Literal, TypedDict

import attrs
import msgspec
import pydantic
import pytest

from penstock._typed.decoding import decode_as, is_model, is_value, name_of


class Person(msgspec.Struct):
    name: str
    age: Annotated[int, msgspec.Meta(ge=0)]


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Entry(TypedDict):
    word: str
    count: int


@attrs.define
class Pair:
    left: int
    right: str


class Model(pydantic.BaseModel):
    size: int = pydantic.Field(ge=0)
    inner: Model | None = None


class Holder(msgspec.Struct):
    models: list[Model]


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (Person, '{"name": "Ada", "age": 36}', Person("Ada", 36)),
        (Person, ' {"age":36,"name":"Ada","more":[1]}\n', Person("Ada", 36)),
        (Point, '{"x": 1}', Point(1)),
        (Entry, '{"word": "a", "count": 2}', {"word": "a", "count": 2}),
        (Pair, '{"left": 1, "right": "r"}', Pair(1, "r")),
        (list[int], "[1, 2]", [1, 2]),
        (int | str, '"1"', "1"),
        (Literal["a", "b"], '"b"', "b"),
        (dict[str, Person], '{"a": {"name": "B", "age": 1}}', {"a": Person("B", 1)}),
        (Any, "[null]", [None]),
        (Model, '{"size": 1, "inner": {"size": 2}}', Model(size=1, inner=Model(size=2))),
        (list[Model], '[{"size": 1}]', [Model(size=1)]),
        (Model | None, "null", None),
        (Holder, '{"models": [{"size": 1}]}', Holder([Model(size=1)])),
    ],
)
def test_values(kind: Any, text: str, expected: Any) -> None:
    assert decode_as(kind, text) == expected


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        (Person, '{"name": "Ada", "age": "36"}', r"Expected `int`, got `str` - at `\$\.age`"),
        (Person, '{"name": "Ada"}', "missing required field `age`"),
        (Person, '{"name": "Ada", "age": -1}', "`int` >= 0"),
        (Person, '{"name": "Ad', "truncated"),
        (Person, "", "truncated"),
        (Person, "I am Ada.", "malformed"),
        (Person, "```json\n{}\n```", "malformed"),
        (Model, '{"size": -1}', "size Input should be greater than or equal to 0"),
        (Holder, '{"models": [{"size": "x"}]}', r"valid integer.* - at `\$\.models\[0\]`"),
        (Any, "[" * 100_000, "nested too deeply"),
        (str, '"\ud800"', "lone surrogate"),
    ],
)
def test_what_is_not_valid(kind: Any, text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        decode_as(kind, text)
    said = str(caught.value)
    assert "\n" not in said
    assert "http" not in said
    assert len(said) < 310
    assert caught.value.__cause__ is not None


def test_a_long_reason_is_cut() -> None:
    with pytest.raises(ValueError, match=r"\.\.\.\Z"):
        decode_as(Model, '{"size": "' + "x y" * 50 + '", "inner": {"size": "' + "y" * 500 + '"}}')


class Grumpy(msgspec.Struct):
    mood: str

    def __post_init__(self) -> None:
        raise ValueError(f"not in the mood: {self.mood}")


def test_a_types_own_check_is_a_reason() -> None:
    with pytest.raises(ValueError, match="not in the mood: bad"):
        decode_as(Grumpy, '{"mood": "bad"}')


class Holed(msgspec.Struct):
    hole: complex


@pytest.mark.parametrize("kind", [complex, Holed, 3, "Person", list["Nowhere"]])  # type: ignore[name-defined]  # noqa: F821
def test_what_is_no_type_to_decode_into(kind: Any) -> None:
    with pytest.raises(TypeError, match=r"no answer can be decoded into .+: .+"):
        decode_as(kind, '{"hole": 1}')


def test_models_are_known_by_their_methods() -> None:
    known = [is_model(kind) for kind in (Model, Model(size=1), Person, Point, list[Model], None)]
    assert known == [True, False, False, False, False, False]


def test_values_are_not_types() -> None:
    assert all(map(is_value, (None, Person("a", 1), Point(1), Model(size=1))))
    assert not any(map(is_value, (Person, Point, Model, Entry, list[int], int | str, Any)))


def test_names() -> None:
    assert name_of(Person) == "Person"
    assert name_of(int | None) == "int | None"
    assert name_of(Literal["a"]) == "Literal['a']"


def test_pydantic_is_not_imported() -> None:
    code = (
        "import sys, msgspec, penstock.structured, penstock.tools\n"
        "penstock.structured.OutputType(list[int]).decode('{\"value\": [1]}')\n"
        "print({'pydantic', 'attrs'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
