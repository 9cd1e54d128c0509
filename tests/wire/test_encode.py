"""What can be written as JSON is, as `json.dumps` writes it; NaN and infinity are refused."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections import OrderedDict
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._wire.encode import encode_json


class Markup(str):
    """As markupsafe's and BeautifulSoup's strings are: text with its own ways to show itself."""

    __slots__ = ()

    def __str__(self) -> str:
        return "<other>"

    def __repr__(self) -> str:
        return "Markup()"


class Scalar(float):
    """As numpy.float64 is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"np.float64({float(self)})"


class Count(int):
    """An int with a repr of its own."""

    def __repr__(self) -> str:
        return "Count()"


class Colour(str, enum.Enum):  # noqa: UP042 - as much code has it
    RED = "red"


class Size(enum.StrEnum):
    BIG = "big"


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Row:
    score: Any


class Record(msgspec.Struct):
    score: Any


class Model(pydantic.BaseModel):
    score: float


class Open(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)

    score: Any
    secret: Any = None


@pytest.mark.parametrize(
    "value",
    [Markup("a<b>"), Scalar(0.25), Count(7), Colour.RED, Size.BIG, Level.HIGH],
    ids=lambda value: type(value).__name__,
)
def test_subclasses_are_written_as_json_dumps_writes_them(value: Any) -> None:
    for whole in (value, [value], {"a": {"b": value}}, {value: 1}):
        assert json.loads(encode_json(whole)) == json.loads(json.dumps(whole))


NUMBERS = [math.nan, math.inf, -math.inf, Scalar("nan"), Scalar("inf")]


@pytest.mark.parametrize("number", NUMBERS, ids=repr)
@pytest.mark.parametrize(
    ("holder", "path"),
    [
        (lambda n: {"temperature": n}, "temperature"),
        (lambda n: {"a": None, "logit_bias": {"50256": n}}, "logit_bias.50256"),
        (lambda n: {"logit_bias": {50256: n}}, "logit_bias.50256"),
        (lambda n: {"messages": [{"content": "null"}, {"x": [1.5, n]}]}, "messages.1.x.1"),
        (lambda n: {"x": (0.0, (n,))}, "x.1.0"),
        (lambda n: {"x": {n}}, "x.0"),
        (lambda n: {"x": Row(n)}, "x.score"),
        (lambda n: {"x": [Record(n)]}, "x.0.score"),
        (lambda n: {"x": Model(score=n)}, "x.score"),
        (lambda n: {"x": Open(score=n)}, "x.score"),
        (lambda n: {"x": Open(score=[{"y": n}], secret=pydantic.SecretStr("s"))}, "x.score.0.y"),
        (lambda n: {"x": Record(Open(score=n))}, "x.score.score"),
        (lambda n: {"x": {n: 1}}, "x.(key)"),
        (lambda n: {"x": [Row({n: None})]}, "x.0.score.(key)"),
        (lambda n: {"x": MappingProxyType({"y": n})}, "x.y"),
        (lambda n: OrderedDict(x=OrderedDict(y=n)), "x.y"),
        (lambda n: n, "the request"),
        (lambda n: [n], "0"),
    ],
)
def test_a_number_that_json_cannot_express_is_named(number: float, holder: Any, path: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        encode_json(holder(number))
    assert str(caught.value).startswith(f"{path} is ")
    assert str(caught.value).endswith(", which JSON cannot express")


def test_a_model_may_write_such_a_number_as_it_likes() -> None:
    class Lenient(pydantic.BaseModel):
        score: float
        nothing: list[None] = [None]

        @pydantic.field_serializer("score", when_used="json")
        def _text(self, score: float) -> str:
            return str(score)

    assert json.loads(encode_json({"x": Lenient(score=math.inf)})) == {
        "x": {"score": "inf", "nothing": [None]}
    }


def test_null_is_a_value() -> None:
    value = {"content": None, "text": "null NaN", "list": [None], "raw": msgspec.Raw(b"null")}
    assert json.loads(encode_json(value)) == {**value, "raw": None}


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text("an\u00e9"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_any_value_is_written_or_refused_as_the_standard_library_does(value: Any) -> None:
    try:
        expected = json.dumps(value, allow_nan=False)
    except ValueError:
        with pytest.raises(ValueError, match="JSON cannot express"):
            encode_json(value)
    else:
        assert json.loads(encode_json(value)) == json.loads(expected)


@pytest.mark.parametrize("value", [object(), {1, object()}, 1j, print, Model, Fraction(1, 3)])
def test_what_is_not_json_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError, match="cannot be written as JSON"):
        encode_json({"x": value})


def test_text_that_is_not_unicode_is_a_value_error() -> None:
    for value in ("\ud800", {"\udfff": 1}, Markup("\ud800")):
        with pytest.raises(ValueError, match="lone surrogate"):
            encode_json(value)


def test_what_contains_itself_is_a_value_error() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValueError, match="nested too deeply"):
        encode_json(loop)


def test_numbers_of_any_size() -> None:
    assert encode_json({"seed": 2**70}) == b'{"seed":1180591620717411303424}'
