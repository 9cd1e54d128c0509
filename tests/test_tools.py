"""Tools: what a function says about itself, and the calls that a model makes of it."""

from __future__ import annotations

import copy
import functools
import inspect
import pickle
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import pydantic
import pytest

import penstock
from penstock import Tool, ToolArgumentsError, ToolCall, tool, tool_message
from penstock.testing.answers import tool_calls_reply
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import sse_reply, tokens
from penstock.testing.script import RecordedRequest, Reply
from penstock.types import ChatCompletionMessage, Function
from tests.support.chat import MESSAGES, client_on

pytestmark = pytest.mark.anyio


class Place(msgspec.Struct):
    city: str
    country: str | None = None


class Size(pydantic.BaseModel):
    width: int = pydantic.Field(gt=0)


def weather(
    place: Annotated[str, msgspec.Meta(description="A city.")],
    unit: Literal["C", "F"] = "C",
    days: int = 1,
) -> str:
    """The weather in a city.

    It is a guess.

    Args:
        place: Not this.
        unit (str): Celsius or
            Fahrenheit.

    Returns:
        Words.
    """
    return f"{place} {unit} {days}"


async def later(seconds: float) -> str:
    return f"after {seconds}"


def call(name: str, arguments: str, id: str | None = "c1") -> ToolCall:
    return ToolCall(id=id, function=Function(name, arguments))


# --- what a function says about itself ---


def test_a_function_as_a_tool() -> None:
    made = tool(weather)
    assert made.name == "weather"
    assert made.description == "The weather in a city.\n\nIt is a guess.\n\nReturns:\n    Words."
    assert made.strict
    assert made.schema == {
        "type": "object",
        "properties": {
            "place": {"type": "string", "description": "A city."},
            "unit": {
                "type": "string",
                "enum": ["C", "F"],
                "description": 'Celsius or Fahrenheit. (default: "C")',
            },
            "days": {"type": "integer", "description": "(default: 1)"},
        },
        "required": ["place", "unit", "days"],
        "additionalProperties": False,
    }
    assert repr(made) == "<Tool weather(place, unit, days)>"


def test_a_tool_is_called_as_its_function() -> None:
    made = tool(weather)
    assert made("Oslo", days=3) == weather("Oslo", days=3)
    assert made.function is weather


def test_a_decorator_with_and_without_arguments() -> None:
    @tool
    def plain(n: int) -> int:
        return n

    @tool(name="other-name", description="Said here.")
    def named(n: int) -> int:
        """Said there."""
        return n

    assert (plain.name, plain.description) == ("plain", "")
    assert (named.name, named.description) == ("other-name", "Said here.")
    assert plain(1) == named(1) == 1


def test_in_a_request() -> None:
    def nothing() -> None:
        pass

    assert tool(nothing).for_json() == {
        "type": "function",
        "function": {
            "name": "nothing",
            "parameters": {
                "type": "object", "properties": {}, "required": [], "additionalProperties": False,
            },
            "strict": True,
        },
    }  # fmt: skip


def test_a_schema_without_strict_form_says_so() -> None:
    def anything(labels: dict[str, str]) -> None:
        pass

    made = tool(anything).for_json()["function"]
    assert made["strict"] is False
    labels = {"type": "object", "additionalProperties": {"type": "string"}}
    assert made["parameters"]["properties"]["labels"] == labels


class Node(msgspec.Struct):
    next: Node | None


def test_a_recursive_parameter_keeps_its_reference_alone() -> None:
    def walk(node: Node) -> None:
        """Walk.

        Args:
            node: Where to begin.
        """

    schema = tool(walk).schema
    assert schema["properties"]["node"] == {"$ref": "#/$defs/Node"}
    assert set(schema["$defs"]) == {"Node"}


def test_a_default_that_only_python_knows() -> None:
    def ask(n: int = object()) -> Any:  # type: ignore[assignment]
        return n

    made = tool(ask)
    assert made.schema["properties"]["n"] == {"type": "integer"}
    assert made.call(call("ask", "{}")) is inspect.signature(ask).parameters["n"].default


DOCS = {
    "no section": ("Say it.", "Say it.", {}),
    "only a section": ("\nArgs:\n    n: A number.", "", {"n": "A number."}),
    "in the middle": (
        "Say it.\n\nArgs:\n    n: A number.\n\n    m: Another.\n\nMore.",
        "Say it.\n\nMore.",
        {"n": "A number.", "m": "Another."},
    ),
    "types and stars": (
        "Say it.\n\nArguments:\n  n (int, optional): A number.\n  **m: Another.",
        "Say it.",
        {"n": "A number.", "m": "Another."},
    ),
    "on lines of their own": (
        "Say it.\nArgs:\n    n:\n        A number,\n        see: below.\n",
        "Say it.",
        {"n": "A number, see: below."},
    ),
    "of others": ("\nArgs:\n    x: Unknown.\n    n: A number.", "", {"n": "A number."}),
}


@pytest.mark.parametrize("doc", DOCS.values(), ids=DOCS)
def test_docstrings(doc: tuple[str, str, dict[str, str]]) -> None:
    def count(n: int, m: int) -> None:
        pass

    count.__doc__, summary, explained = doc
    made = tool(count)
    assert made.description == summary
    properties = made.schema["properties"]
    found = {name: said["description"] for name, said in properties.items() if len(said) > 1}
    assert found == explained


def test_methods_and_wrapped_functions() -> None:
    @dataclass
    class Counter:
        value: int

        def add(self, n: int) -> int:
            self.value += n
            return self.value

    @functools.wraps(weather)
    def wrapped(*args: Any, **kwargs: Any) -> str:
        return weather(*args, **kwargs).upper()

    counter = Counter(1)
    assert tool(counter.add).call(call("add", '{"n": 2}')) == 3
    assert tool(wrapped).call(call("weather", '{"place": "Oslo"}')) == "OSLO C 1"


def untyped(n) -> None:  # type: ignore[no-untyped-def]
    pass


def lost(n: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821
    pass


def complex_number(n: complex) -> None:
    pass


def variadic(*numbers: int) -> None:
    pass


def keywords(**numbers: int) -> None:
    pass


class Owner:
    def method(self, n: int) -> None:
        pass


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (untyped, r"the parameter n of untyped\(\) has no annotation"),
        (Owner.method, r"the parameter self of Owner\.method\(\) .*bound methods"),
        (lost, r"an annotation of lost\(\) cannot be resolved: name 'Nowhere'"),
        (complex_number, r"complex_number has no JSON schema: .*complex"),
        (variadic, r"variadic\(\) takes \*numbers"),
        (keywords, r"keywords\(\) takes \*\*numbers"),
        (lambda: None, r"'<lambda>' is not a valid tool name"),
        (Place, "a tool needs a function, not <class"),
        (len, "a tool needs a function, not <built-in"),
        ("weather", "a tool needs a function, not 'weather'"),
    ],
)
def test_what_cannot_be_a_tool(function: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        tool(function)


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "größe"])
def test_names_that_servers_do_not_take(name: str) -> None:
    with pytest.raises(TypeError, match="is not a valid tool name"):
        tool(weather, name=name)


# --- calls ---


def test_arguments_as_a_value() -> None:
    made = call("f", '{"city": "Oslo"}')
    assert made.parse(Place) == Place("Oslo")
    assert made.parse(dict[str, str]) == {"city": "Oslo"}
    assert call("f", '{"width": 2}').parse(Size) == Size(width=2)


@pytest.mark.parametrize("nothing", ["", " ", "{}"])
def test_no_arguments(nothing: str) -> None:
    assert call("f", nothing).parse(dict[str, int]) == {}


def test_a_call_of_a_tool() -> None:
    made = tool(weather)
    asked = call("weather", '{"days": 2, "place": "Oslo", "unit": "F"}')
    assert asked.call(made) == made.call(asked) == "Oslo F 2"
    assert call("weather", '{"place": "Oslo"}').call(made) == "Oslo C 1"


async def test_a_call_of_an_async_tool_is_awaited() -> None:
    made = tool(later)
    assert await call("later", '{"seconds": 1}').call(made) == "after 1.0"
    assert await made(2) == "after 2"


def test_values_of_the_parameters_types() -> None:
    def measure(place: Place, sizes: list[Size], /, *, at: Place | None = None) -> Any:
        return place, sizes, at

    arguments = '{"place": {"city": "Oslo"}, "sizes": [{"width": 1}], "at": null}'
    assert call("measure", arguments).call(tool(measure)) == (Place("Oslo"), [Size(width=1)], None)


def test_positions_that_are_left_out() -> None:
    def add(a: int, b: int = 2, c: int = 3, /, *, d: int = 4) -> tuple[int, ...]:
        return a, b, c, d

    made = tool(add)
    assert made.call(call("add", '{"a": 1}')) == (1, 2, 3, 4)
    assert made.call(call("add", '{"a": 1, "b": 5, "d": 6}')) == (1, 5, 3, 6)
    assert made.call(call("add", '{"a": 1, "c": 5}')) == (1, 2, 5, 4)


def test_a_default_is_the_functions_own() -> None:
    def collect(n: int, into: list[int] = []) -> list[int]:  # noqa: B006
        into.append(n)
        return into

    made = tool(collect)
    made.call(call("collect", '{"n": 1}'))
    assert made.call(call("collect", '{"n": 2}')) == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ('{"place": 5}', r"Expected `str`, got `int` - at `\$\.place`"),
        ('{"place": "Oslo", "days": "2"}', r"Expected `int`, got `str` - at `\$\.days`"),
        ('{"place": "Oslo", "unit": "K"}', r"Invalid enum value 'K'"),
        ('{"place": "Oslo", "hour": 3}', r"unknown field `hour`"),
        ("{}", "missing required field `place`"),
        ('{"place": "Os', "truncated"),
        ("Oslo", "malformed"),
        ("[]", "Expected `object`, got `array`"),
    ],
)
def test_bad_arguments_can_be_told_to_the_model(arguments: str, says: str) -> None:
    asked = call("weather", arguments)
    with pytest.raises(ToolArgumentsError, match=says) as caught:
        asked.call(tool(weather))
    error = caught.value
    assert isinstance(error, ValueError)
    assert error.call is asked
    assert error.tool_message == {
        "role": "tool",
        "tool_call_id": "c1",
        "content": f"Error: the arguments for weather are not valid: {error.__cause__}",
    }
    for twin in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert twin.tool_message == error.tool_message


def test_an_error_without_a_call_has_a_message_too() -> None:
    assert ToolArgumentsError("no").tool_message == {"role": "tool", "content": "Error: no"}


def test_a_call_of_another_tool_is_the_programs_mistake() -> None:
    with pytest.raises(ValueError, match="the call is for 'later', not for 'weather'") as caught:
        call("later", "{}").call(tool(weather))
    assert not isinstance(caught.value, penstock.PenstockError)


def test_an_error_of_the_function_comes_out_as_it_is() -> None:
    def fail(n: int) -> None:
        raise ValueError("the function's own")

    with pytest.raises(ValueError, match="the function's own") as caught:
        call("fail", '{"n": 1}').call(tool(fail))
    assert type(caught.value) is ValueError


def test_a_type_that_nothing_can_be_decoded_into() -> None:
    with pytest.raises(TypeError, match="complex"):
        call("f", "{}").parse(complex)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("sunny", "sunny"),
        ("", ""),
        (None, "null"),
        (21.5, "21.5"),
        ({"a": [1]}, '{"a":[1]}'),
        (Place("Oslo"), '{"city":"Oslo","country":null}'),
        (Size(width=1), '{"width":1}'),
        ([Size(width=1)], '[{"width":1}]'),
    ],
)
def test_the_answer_to_a_call(content: Any, text: str) -> None:
    answer = tool_message(call("weather", "{}"), content)
    assert answer == {"role": "tool", "tool_call_id": "c1", "content": text}


def test_the_answer_to_a_call_without_an_id() -> None:
    answer = tool_message(call("weather", "{}", id=None), "sunny")
    assert answer == {"role": "tool", "name": "weather", "content": "sunny"}


def test_an_answer_that_is_no_json() -> None:
    with pytest.raises(TypeError, match="JSON"):
        tool_message(call("weather", "{}"), object())


# --- in requests ---


async def test_tools_go_into_requests_as_they_are() -> None:
    network = MemoryNetwork(sse_reply(tokens("ok")))
    made = tool(weather)
    plain = {"type": "function", "function": {"name": "plain"}}
    async with client_on(network) as client:
        await client.complete({"model": "m", "messages": MESSAGES, "tools": [made, plain]})
    assert network.requests[0].json["tools"] == [made.for_json(), plain]


def agent(request: RecordedRequest) -> Reply:
    """A model that asks twice, the second time rightly, and then answers with what it was told."""
    said = [message["content"] for message in request.json["messages"] if message["role"] == "tool"]
    if not said:
        return tool_calls_reply(
            ("c1", "weather", '{"city": "Oslo"}'), ("c2", "later", '{"seconds": 1}')
        )
    if len(said) == 2:
        return tool_calls_reply(("c3", "weather", '{"place": "Oslo"}'))
    return sse_reply(tokens(" | ".join(said)))


async def test_an_agent_loop() -> None:
    network = MemoryNetwork(agent)
    tools: dict[str, Tool[..., Any]] = {made.name: made for made in (tool(weather), tool(later))}
    messages: list[Any] = [*MESSAGES]
    async with client_on(network) as client:
        while True:
            request: dict[str, Any] = {
                "model": "m",
                "messages": messages,
                "tools": list(tools.values()),
            }
            async with client.chat.completions.stream(**request) as stream:
                answers: list[Any] = []
                async for asked in stream.tool_calls:
                    try:
                        result = asked.call(tools[asked.function.name])
                        if inspect.isawaitable(result):
                            result = await result
                        answers.append(tool_message(asked, result))
                    except ToolArgumentsError as error:
                        answers.append(error.tool_message)
                message = (await stream.collect()).choices[0].message
            messages += [message, *answers]
            if not answers:
                break
    assert isinstance(message, ChatCompletionMessage)
    wrong, after, right = (message.content or "").split(" | ")
    assert wrong.startswith("Error: the arguments for weather are not valid: Object")
    assert (after, right) == ("after 1.0", "Oslo C 1")
    roles = [message["role"] for message in network.requests[-1].json["messages"]]
    assert roles == ["user", "assistant", "tool", "tool", "assistant", "tool"]
    assert network.requests[1].json["messages"][1]["tool_calls"] == [
        {
            "id": "c1",
            "type": "function",
            "function": {"name": "weather", "arguments": '{"city": "Oslo"}'},
        },
        {
            "id": "c2",
            "type": "function",
            "function": {"name": "later", "arguments": '{"seconds": 1}'},
        },
    ]
