"""A real model answers by schema: llama.cpp makes a grammar of it, so even a small one complies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
import pytest

import penstock
from penstock import AsyncClient, ToolCall, tool, tool_message
from penstock.types import Function
from tests.support.real_server import real_server
from tests.support.sweeps import in_turn

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]


class Card(msgspec.Struct):
    """What something is."""

    name: Annotated[str, msgspec.Meta(max_length=12)]
    kind: Literal["person", "place", "animal", "thing"]
    size: Annotated[int, msgspec.Meta(ge=1, le=100)]


class Chain(msgspec.Struct):
    value: Literal[1]
    next: Chain  # it never ends


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    with real_server(2) as server:
        yield server.base_url


def request(prompt: str, **more: Any) -> dict[str, Any]:
    return {
        "model": "smollm2-135m-instruct",
        "messages": [{"role": "user", "content": prompt}],
        "seed": 1,
        **more,
    }


@in_turn(0, uvloop=False)
async def test_streamed_inside(base_url: str) -> None:
    async with AsyncClient(base_url) as client:
        whole = await client.chat.completions.parse(
            **request("Describe a whale."), response_format=Card
        )
    card = whole.choices[0].message.parsed
    assert isinstance(card, Card)
    # Every part of the schema has an end, so the answer has one without max_tokens.
    assert whole.choices[0].finish_reason == "stop"


@in_turn(1, uvloop=False)
async def test_read_as_it_comes(base_url: str) -> None:
    async with (
        AsyncClient(base_url) as client,
        client.chat.completions.stream(**request("Describe Oslo."), response_format=Card) as stream,
    ):
        text = "".join([piece async for piece in stream.text])
        whole = await stream.collect()
    assert whole.choices[0].message.parsed == msgspec.json.decode(text, type=Card)


@in_turn(2, uvloop=False)
async def test_not_streamed_and_wrapped(base_url: str) -> None:
    kind = Annotated[list[Annotated[int, msgspec.Meta(ge=1, le=9)]], msgspec.Meta(max_length=4)]
    async with AsyncClient(base_url) as client:
        whole = await client.chat.completions.create(
            **request("Three numbers, please."), response_format=kind
        )
    parsed = whole.choices[0].message.parsed
    assert all(1 <= number <= 9 for number in parsed)
    assert whole.usage is not None


@in_turn(3, uvloop=False)
async def test_a_schema_without_an_end_is_cut_by_the_token_limit(base_url: str) -> None:
    async with AsyncClient(base_url) as client:
        with pytest.raises(penstock.StructuredOutputError) as caught:
            await client.chat.completions.parse(
                **request("Count."), response_format=Chain, max_tokens=20
            )
    assert caught.value.reason == "length"
    assert caught.value.completion is not None
    assert (caught.value.completion.choices[0].message.content or "").startswith("{")


# --- an agent loop ---


@tool
async def get_weather(city: Literal["Oslo", "Rome"]) -> str:
    """The weather in a city."""
    return {"Oslo": "It rains.", "Rome": "The sun shines."}[city]


class Call(msgspec.Struct):
    """A call of a tool, as llama.cpp lets the model write it."""

    name: Literal["get_weather"]
    arguments: msgspec.Raw


class Reply(msgspec.Struct):
    umbrella: bool


@in_turn(4, uvloop=False)
async def test_an_agent_loop(base_url: str) -> None:
    """The embedded model's template knows no tools, so its calls are asked for by schema."""
    call_format = {
        "type": "json_schema",
        "json_schema": {
            "name": "call",
            "schema": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "enum": [get_weather.name]},
                    "arguments": get_weather.schema,
                },
                "required": ["name", "arguments"],
                "additionalProperties": False,
            },
        },
    }
    asked = request("Do I need an umbrella in Oslo?", tools=[get_weather])
    async with AsyncClient(base_url) as client:
        completion = await client.complete({**asked, "response_format": call_format})
        message = completion.choices[0].message
        wanted = msgspec.json.decode(message.content or "", type=Call)
        call = ToolCall("c1", function=Function(wanted.name, bytes(wanted.arguments).decode()))
        said = await call.call(get_weather)
        asked["messages"] += [message, tool_message(call, said)]
        answer = await client.chat.completions.parse(**asked, response_format=Reply)
    assert said in ("It rains.", "The sun shines.")
    assert isinstance(answer.choices[0].message.parsed, Reply)
