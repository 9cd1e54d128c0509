"""What type checkers make of structured output and tools. Nothing here is run.

`nox -s types` reads it with mypy and with pyright; `assert_type` is the test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, assert_type

import msgspec

from penstock import (
    AsyncClient,
    ChatCompletion,
    CompletionStream,
    ParsedCompletion,
    Tool,
    ToolCall,
    tool,
)


class Person(msgspec.Struct):
    name: str


@dataclass
class Point:
    x: int


class Entry(TypedDict):
    word: str


MESSAGES = [{"role": "user", "content": "Hello!"}]


async def parse(client: AsyncClient) -> None:
    completions = client.chat.completions
    person = await completions.parse(model="m", messages=MESSAGES, response_format=Person)
    assert_type(person, ParsedCompletion[Person])
    assert_type(person.choices[0].message.parsed, Person | None)
    assert_type(person.choices[0].finish_reason, str | None)
    point = await completions.parse(model="m", messages=MESSAGES, response_format=Point, seed=1)
    assert_type(point.choices[0].message.parsed, Point | None)
    entry = await completions.parse(model="m", messages=MESSAGES, response_format=Entry)
    assert_type(entry.choices[0].message.parsed, Entry | None)
    numbers = await completions.parse(model="m", messages=MESSAGES, response_format=list[int])
    assert_type(numbers.choices[0].message.parsed, list[int] | None)
    # No checker knows the type of a union's or a Literal's own value yet.
    letter = await completions.parse(model="m", messages=MESSAGES, response_format=Literal["a"])
    assert_type(letter, ParsedCompletion[Any])


async def stream(client: AsyncClient, request: dict[str, Any]) -> None:
    completions = client.chat.completions
    async with completions.stream(
        model="m", messages=MESSAGES, response_format=Person, max_tokens=9
    ) as typed:
        assert_type(typed, CompletionStream[ParsedCompletion[Person]])
        assert_type(typed.partial, ChatCompletion)
        async for call in typed.tool_calls:
            assert_type(call, ToolCall)
        whole = await typed.collect()
        assert_type(whole.choices[0].message.parsed, Person | None)
        takes_any_stream(typed)
    async with completions.stream(model="m", messages=MESSAGES) as plain:
        assert_type(plain, CompletionStream)
        assert_type(await plain.collect(), ChatCompletion)
    json_mode: dict[str, Any] = {"type": "json_object"}
    verbatim = completions.stream(model="m", messages=MESSAGES, response_format=json_mode)
    assert_type(verbatim, CompletionStream)
    takes_any_stream(completions.stream(**request))
    assert_type(await client.complete(request), ChatCompletion)


def takes_any_stream(_: CompletionStream) -> None:
    pass


@tool
def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


@tool(name="later")
async def wait(seconds: float) -> str:
    """Wait."""
    return str(seconds)


def half(n: int) -> float:
    return n / 2


async def tools(call: ToolCall) -> None:
    function: Callable[[int, int], int] = add
    assert_type(function(1, 2), int)
    assert_type(add(1), int)
    assert_type(tool(half)(n=1), float)
    assert_type(call.call(tool(half)), float)
    assert_type(call.call(add), int)
    assert_type(await wait.call(call), str)
    assert_type(await call.call(wait), str)
    assert_type(call.parse(Person), Person)
    assert_type(call.parse(dict[str, int]), dict[str, int])
    by_name: dict[str, Tool[..., Any]] = {made.name: made for made in (add, wait)}
    assert_type(call.call(by_name["add"]), Any)
    add("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
