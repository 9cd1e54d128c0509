"""Text that a model wrote, as a value of a type: the value, or one of the library's errors.

The text is anything, also for types whose decoding is another library's or the user's own.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pydantic

from penstock._typed.decoding import decode_as
from penstock.errors import StructuredOutputError, ToolArgumentsError
from penstock.structured import OutputType
from penstock.tools import tool
from penstock.types import ChatCompletion, ChatCompletionMessage, Choice, Function, ToolCall

from ..compose import json_text
from ..reader import Reader
from ..target import Target


class Colour(enum.Enum):
    RED = "red"


class Inner(msgspec.Struct):
    a: int
    b: list[str] = []
    when: dt.datetime | None = None


class Outer(msgspec.Struct, tag="outer"):
    inner: Inner
    colour: Colour | None = None
    amount: Annotated[float, msgspec.Meta(ge=0, lt=100)] = 0.0
    more: dict[int, Inner] = {}


class Other(msgspec.Struct, tag="other"):
    name: Annotated[str, msgspec.Meta(pattern="^a", max_length=3)]


@dataclass
class Data:
    a: int
    at: dt.timedelta | None = None

    def __post_init__(self) -> None:
        if self.a == 7:
            raise ValueError("not\nseven")


class Typed(TypedDict, total=False):
    a: int
    b: bytes
    c: tuple[int, str]


class Sized(pydantic.BaseModel):
    a: int
    b: list[Sized] = []
    when: dt.date | None = None
    amount: decimal.Decimal | None = None

    @pydantic.field_validator("a")
    @classmethod
    def not_seven(cls, value: int) -> int:
        if value == 7:
            raise ValueError("not\nseven")
        return value


class Holder(msgspec.Struct):
    a: int
    more: Sized | None = None


KINDS: tuple[Any, ...] = (
    *(Inner, Outer | Other, Data, Typed, Sized, Holder, list[Sized], dict[str, float], Any),
    *(int, list[int | None], Literal["red", "blue"], uuid.UUID, decimal.Decimal, dt.time),
)
OUTPUTS = [OutputType[Any](kind) for kind in KINDS if kind is not Any]
SHAPE: dict[str, Any] = {
    "a": "whole",
    "b": ["text"],
    "c": ["any"],
    "type": "text",
    "inner": {"a": "whole", "b": ["text"], "when": "text"},
    "colour": "any",
    "amount": "number",
    "more": {"1": {"a": "whole"}, "a": "whole"},
    "name": "text",
    "when": "any",
    "at": "any",
    "value": "any",
}
REASONS = (None, "stop", "length", "content_filter", "tool_calls")


@tool
def act(a: int, /, inner: Inner, *, when: dt.date | None = None, b: list[str] = []) -> str:  # noqa: B006
    return f"{a} {inner.a} {when} {b}"


def check(data: bytes) -> None:
    reader = Reader(data)
    kind = reader.pick(KINDS)
    output = reader.pick(OUTPUTS)
    reason = reader.pick(REASONS)
    raw = json_text(reader, SHAPE) if reader.below(2) else reader.rest()
    text = raw.decode("utf-8", "surrogateescape")
    outcome(lambda: decode_as(kind, text), ValueError)
    message = ChatCompletionMessage(content=text, refusal=text if reader.below(8) == 1 else None)
    answer = ChatCompletion(choices=[Choice(message=message, finish_reason=reason)])
    found = outcome(lambda: output.completion(answer), StructuredOutputError)
    if isinstance(found, StructuredOutputError):
        assert found.completion is answer
    else:
        assert found.choices[0].message.content == text
        assert reason != "content_filter"
    call = ToolCall(id="c", function=Function(name="act", arguments=text))
    for use in (lambda: call.parse(kind), lambda: call.call(act)):
        found = outcome(use, ToolArgumentsError)
        if isinstance(found, ToolArgumentsError):
            assert found.call is call
            json.dumps(found.tool_message)


def outcome(use: Callable[[], Any], expected: type[Exception]) -> Any:
    """What this gives, or the error of that class that it raises."""
    try:
        return use()
    except expected as error:
        one_line(error)
        return error


def one_line(error: Exception) -> None:
    message = str(error)
    assert message
    assert len(message) < 500, message
    assert "\n" not in message, message


TARGET = Target(
    check,
    seeds=[
        bytes([kind, kind, 0, 0]) + text
        for kind, text in enumerate(
            (
                b'{"a":1,"b":["x"],"when":"2020-01-01T00:00:00Z"}',
                b'{"type":"outer","inner":{"a":1},"colour":"red","amount":5,"more":{"1":{"a":2}}}',
                b'{"a":7,"at":"PT1S"}',
                b'{"a":1,"b":"YQ==","c":[1,"x"]}',
                b'{"a":1,"b":[{"a":2}],"when":"2020-01-01","amount":"1.5"}',
                b'{"a":1,"more":{"a":7}}',
                b'[{"a":1},{"a":"2"}]',
                b'{"x":1e999}',
                b"[" * 200,
                b'{"value":1}',
                b"[1,null]",
                b'"red"',
                b'"00000000-0000-0000-0000-000000000000"',
                b'"1.5"',
                b'{"value":"01:02:03Z"}',
            )
        )
    ],
    words=[
        *(b'{"a":', b'"b":[', b'"c":[1,"x"]', b'"inner":{', b'"when":"2020-01-01', b'"amount":'),
        *(b'"type":"other"', b'"name":"', b'"value":', b'"more":{', b"T00:00:00Z", b"P1D", b"YQ=="),
        *(b"1e999", b"NaN", b"null", b"\\ud83d", b"00000000-0000-0000-0000-000000000000", b"\xff"),
    ],
    max_length=256,
)
