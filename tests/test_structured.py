"""Answers as values of a type: what is asked for, what comes, and what is said when it does not."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Annotated, Any, Literal, TypedDict

import anyio
import msgspec
import pydantic
import pytest

import penstock
from penstock import (
    AsyncClient,
    CompletionStream,
    ParsedChoice,
    ParsedCompletion,
    ParsedMessage,
    ResultEvent,
    StructuredOutputError,
    fan_out_chunks,
)
from penstock._many.race import race
from penstock.structured import OutputType
from penstock.testing.answers import tool_calls_reply
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import completion, json_reply, sse_reply, tokens
from penstock.testing.script import Pause, Reply, Reset
from penstock.types import ChatCompletion, ChatCompletionMessage, Choice, Function, ToolCall
from tests.support.chat import MESSAGES, REQUEST, client_on

pytestmark = pytest.mark.anyio


class Person(msgspec.Struct):
    name: str
    age: Annotated[int, msgspec.Meta(ge=0)]


class Entry(TypedDict):
    word: str


class Model(pydantic.BaseModel):
    size: int = 3


ADA = '{"name": "Ada", "age": 36}'
PERSON = {
    "type": "json_schema",
    "json_schema": {
        "name": "Person",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
            "required": ["name", "age"],
            "additionalProperties": False,
        },
    },
}


def answer(text: str, *, finish: str = "stop", streamed: bool = True) -> Reply:
    if not streamed:
        return json_reply(completion(text, finish=finish), headers={"x-request-id": "r1"})
    middle = len(text) // 2
    events = tokens(text[:middle], text[middle:], finish=finish)
    return sse_reply(events, headers={"x-request-id": "r1"})


def changed(streamed: bool, finish: str = "stop", **message: Any) -> Reply:
    """An answer with other members than content."""
    if streamed:
        first, last = tokens(finish=finish)
        first["choices"][0]["delta"] = {"role": "assistant", **message}
        return sse_reply([first, last])
    whole = completion(finish=finish)
    whole["choices"][0]["message"] = {"role": "assistant", "content": None, **message}
    return json_reply(whole)


# --- the ways to ask ---


async def by_parse(client: AsyncClient, kind: Any) -> Any:
    return await client.chat.completions.parse(**REQUEST, response_format=kind)


async def by_stream(client: AsyncClient, kind: Any) -> Any:
    async with client.chat.completions.stream(**REQUEST, response_format=kind) as stream:
        return await stream.collect()


async def by_text_then_collect(client: AsyncClient, kind: Any) -> Any:
    async with client.chat.completions.stream(**REQUEST, response_format=kind) as stream:
        text = "".join([piece async for piece in stream.text])
        whole = await stream.collect()
    assert text == whole.choices[0].message.content
    assert await stream.collect() == whole
    return whole


async def by_complete(client: AsyncClient, kind: Any) -> Any:
    return await client.complete({**REQUEST, "response_format": kind})


async def by_create(client: AsyncClient, kind: Any) -> Any:
    return await client.chat.completions.create(**REQUEST, response_format=kind)


async def by_create_with_stream(client: AsyncClient, kind: Any) -> Any:
    stream: Any = await client.chat.completions.create(**REQUEST, stream=True, response_format=kind)
    assert isinstance(stream, CompletionStream)
    return await stream.collect()


async def by_fan_out(client: AsyncClient, kind: Any) -> Any:
    async with fan_out_chunks(client, [{**REQUEST, "response_format": kind}]) as events:
        (result,) = [event async for event in events if isinstance(event, ResultEvent)]
    return result.unwrap()


async def by_race(client: AsyncClient, kind: Any) -> Any:
    async with race(client, [{**REQUEST, "response_format": kind}]) as stream:
        return await stream.collect()


WAYS = [
    by_parse,
    by_stream,
    by_text_then_collect,
    by_complete,
    by_create,
    by_create_with_stream,
    by_fan_out,
    by_race,
]
every_way = pytest.mark.parametrize("ask", WAYS)


@every_way
async def test_an_answer_is_a_value(ask: Any) -> None:
    network = MemoryNetwork(answer(ADA, streamed=ask is not by_create))
    async with client_on(network) as client:
        whole = await ask(client, Person)
    (choice,) = whole.choices
    assert choice.message.parsed == Person("Ada", 36)
    assert choice.message.content == ADA
    assert (choice.finish_reason, whole.id) == ("stop", "chatcmpl-1")
    kinds = (type(whole), type(choice), type(choice.message))
    assert kinds == (ParsedCompletion, ParsedChoice, ParsedMessage)
    (request,) = network.requests
    assert request.json["response_format"] == PERSON
    assert request.json.get("stream", False) == (ask is not by_create)


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (Entry, '{"word": "a"}', {"word": "a"}),
        (Model, '{"size": 4}', Model(size=4)),
        (list[Model], '{"value": [{"size": 4}]}', [Model(size=4)]),
        (list[int], '{"value": [1, 2]}', [1, 2]),
        (int | None, '{"value": null}', None),
        (Literal["a", "b"], '{"value": "a"}', "a"),
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (Annotated[int, msgspec.Meta(extra={"not": ["hashable"]})], '{"value": 1}', 1),
    ],
)
async def test_any_type(kind: Any, text: str, expected: Any) -> None:
    async with client_on(answer(text)) as client:
        whole = await client.chat.completions.parse(**REQUEST, response_format=kind)
    assert whole.choices[0].message.parsed == expected


@pytest.mark.parametrize(
    "given",
    [
        {"type": "json_object"},
        PERSON,
        None,
        msgspec.defstruct("Format", [("type", str)])("text"),
        Model(size=1),
    ],
)
async def test_what_is_json_already_passes_verbatim(given: Any) -> None:
    network = MemoryNetwork(answer("no JSON"))
    async with client_on(network) as client:
        for ask in (by_stream, by_complete):
            whole = await ask(client, given)
            assert type(whole) is ChatCompletion
            assert type(whole.choices[0].message) is ChatCompletionMessage
            assert whole.choices[0].message.parsed is None
    sent = network.requests[0].json["response_format"]
    assert sent == json.loads(msgspec.json.encode(given, enc_hook=Model.model_dump))


async def test_without_a_response_format_nothing_is_parsed() -> None:
    async with client_on(answer(ADA)) as client:
        whole = await client.complete(REQUEST)
    assert type(whole) is ChatCompletion
    assert whole.choices[0].message.parsed is None


@pytest.mark.parametrize("kind", ["json", b"json", 3, complex, object()])
@every_way
async def test_what_is_no_type_is_refused_before_anything_is_sent(ask: Any, kind: Any) -> None:
    network = MemoryNetwork(answer(ADA))
    async with client_on(network) as client:
        with pytest.raises(TypeError, match=r"response_format is|has no JSON schema"):
            await ask(client, kind)
    assert network.connects == []


@pytest.mark.parametrize("given", [None, {"type": "json_object"}])
async def test_parse_needs_a_type(given: Any) -> None:
    async with client_on(answer(ADA)) as client:
        with pytest.raises(TypeError, match="parse needs a type"):
            await by_parse(client, given)


async def test_the_callers_request_is_left_as_it_is() -> None:
    request = {**REQUEST, "response_format": Person}
    async with client_on(answer(ADA)) as client:
        await client.complete(request)
        await client.complete(request)
    assert request == {**REQUEST, "response_format": Person}


async def test_parse_takes_the_further_arguments_of_create() -> None:
    network = MemoryNetwork(answer(ADA))
    async with client_on(network) as client:
        await client.chat.completions.parse(
            **REQUEST, response_format=Person, max_tokens=9, stream=False, extra_headers={"X": "y"}
        )
    (request,) = network.requests
    assert request.headers["x"] == "y"
    body = {**REQUEST, "response_format": PERSON, "max_tokens": 9, "stream": True}
    assert request.json == body


# --- what goes wrong ---


@pytest.mark.parametrize(
    ("text", "finish", "reason", "says"),
    [
        ('{"name": "Ad', "length", "length", "the token limit cut the answer"),
        ("", "length", "length", "the token limit cut the answer"),
        (ADA, "content_filter", "content_filter", "content filter"),
        ('{"name": "Ad', "content_filter", "content_filter", "content filter"),
        ('{"name": "Ad', "stop", "invalid", "truncated"),
        ('{"name": "Ada", "age": "36"}', "stop", "invalid", r"Expected `int`.*\$\.age"),
        ('{"name": "Ada", "age": -1}', "stop", "invalid", "`int` >= 0"),
        ("I am Ada.", "stop", "invalid", "malformed"),
        ("", "stop", "empty", "no content"),
        (" \n", "stop", "empty", "no content"),
    ],
)
@every_way
async def test_an_answer_that_is_no_value(
    ask: Any, text: str, finish: str, reason: str, says: str
) -> None:
    async with client_on(answer(text, finish=finish, streamed=ask is not by_create)) as client:
        with pytest.raises(StructuredOutputError, match=f"no Person: .*{says}") as caught:
            await ask(client, Person)
    error = caught.value
    assert error.reason == reason
    assert error.completion is error.partial
    assert error.completion is not None
    (choice,) = error.completion.choices
    assert (choice.message.content or "", choice.finish_reason) == (text, finish)
    assert error.request_id == "r1"
    for twin in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert (twin.reason, twin.completion, str(twin)) == (reason, error.completion, str(error))


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_refusal(streamed: bool) -> None:
    refusal = "I cannot\nhelp with that."
    ask = by_parse if streamed else by_create
    async with client_on(changed(streamed, refusal=refusal)) as client:
        with pytest.raises(StructuredOutputError, match="I cannot help with that") as caught:
            await ask(client, Person)
    assert caught.value.reason == "refusal"
    assert caught.value.completion is not None
    assert caught.value.completion.choices[0].message.refusal == refusal


async def test_reasoning_that_used_up_the_tokens() -> None:
    async with client_on(changed(True, "length", reasoning_content="Hm.")) as client:
        with pytest.raises(StructuredOutputError) as caught:
            await by_parse(client, Person)
    assert caught.value.reason == "length"
    assert caught.value.completion is not None
    assert caught.value.completion.choices[0].message.reasoning == "Hm."


@every_way
async def test_no_choices(ask: Any) -> None:
    empty = {"id": "x", "object": "chat.completion", "choices": []}
    nothing = json_reply(empty) if ask is by_create else sse_reply([empty])
    async with client_on(nothing) as client:
        with pytest.raises(StructuredOutputError, match="no choices") as caught:
            await ask(client, Person)
    assert caught.value.reason == "empty"


async def test_a_whole_value_at_the_token_limit_is_a_value() -> None:
    async with client_on(answer(ADA, finish="length")) as client:
        whole = await client.chat.completions.parse(**REQUEST, response_format=Person)
    assert whole.choices[0].message.parsed == Person("Ada", 36)
    assert whole.choices[0].finish_reason == "length"


async def test_a_message_that_calls_tools_has_no_value() -> None:
    async with client_on(tool_calls_reply(("c1", "look", "{}"))) as client:
        whole = await client.chat.completions.parse(**REQUEST, response_format=Person)
    (choice,) = whole.choices
    assert choice.message.parsed is None
    assert choice.message.tool_calls == [ToolCall("c1", function=Function("look", "{}"))]


def two(first: str, second: str) -> Reply:
    both = [*tokens(first), *tokens(second, index=1, role_first=False)]
    return sse_reply(both)


async def test_several_choices() -> None:
    async with client_on(two(ADA, ADA.replace("Ada", "Eve"))) as client:
        whole = await client.chat.completions.parse(**REQUEST, response_format=Person, n=2)
    assert [choice.message.parsed for choice in whole.choices] == [
        Person("Ada", 36),
        Person("Eve", 36),
    ]


async def test_one_of_several_choices_is_no_value() -> None:
    async with client_on(two(ADA, "no")) as client:
        with pytest.raises(StructuredOutputError, match=r"no Person \(choice 1\)") as caught:
            await by_parse(client, Person)
    assert caught.value.completion is not None
    contents = [choice.message.content for choice in caught.value.completion.choices]
    assert contents == [ADA, "no"]


async def test_the_other_errors_are_as_elsewhere() -> None:
    cut = sse_reply([*tokens('{"name"', finish=None), Reset()], done=False)
    async with client_on(cut) as client:
        with pytest.raises(penstock.StreamInterruptedError) as caught:
            await by_parse(client, Person)
    assert caught.value.partial is not None
    assert caught.value.partial.choices[0].message.content == '{"name"'


async def test_a_cancelled_collect_loses_nothing() -> None:
    first, *rest = tokens('{"name": "Ada",', ' "age": 36}')
    slow = sse_reply([first, *(step for event in rest for step in (Pause(0.05), event))])
    async with (
        client_on(slow) as client,
        client.chat.completions.stream(**REQUEST, response_format=Person) as stream,
    ):
        whole: ParsedCompletion[Person] | None = None
        cancelled = 0
        while whole is None:
            with anyio.move_on_after(0.02):
                whole = await stream.collect()
            cancelled += whole is None
    assert cancelled > 1
    assert whole.choices[0].message.parsed == Person("Ada", 36)


async def test_a_cancelled_parse_closes_the_connection() -> None:
    network = MemoryNetwork(sse_reply([Pause(60), *tokens(ADA)]))
    async with client_on(network) as client:
        with anyio.move_on_after(0.02):
            await by_parse(client, Person)
        assert network.open_connections == 0


async def test_the_value_so_far() -> None:
    network = MemoryNetwork(sse_reply(tokens(*ADA)))
    async with client_on(network) as client:
        stream = client.chat.completions.stream(**REQUEST, response_format=Person)
        assert stream.partial_value() is None
        async with stream:
            values = [stream.partial_value() async for _ in stream]
        assert values[-1] == stream.partial_value() == json.loads(ADA)
    seen = [
        value for value, before in zip(values, [None, *values], strict=False) if value != before
    ]
    names = [{"name": "Ada"[:end]} for end in range(4)]
    assert seen == [{}, *names, json.loads(ADA)]


async def test_the_value_so_far_of_a_type_that_goes_out_in_an_object() -> None:
    network = MemoryNetwork(sse_reply([*tokens('{"value": ["Oslo", "Ber', finish=None), Reset()]))
    async with (
        client_on(network) as client,
        client.chat.completions.stream(**REQUEST, response_format=list[str]) as stream,
    ):
        with pytest.raises(penstock.StreamInterruptedError):
            await stream.collect()
        assert stream.partial_value() == ["Oslo", "Ber"]


@pytest.mark.parametrize("text", [
    f"<think>who?</think>\n{ADA}", f"So:\n```json\n{ADA}\n```", json.dumps(ADA),
])  # fmt: skip
async def test_a_wrapped_answer_is_a_value_on_request(text: str) -> None:
    network = MemoryNetwork(sse_reply(tokens(text)))
    async with client_on(network) as client:
        ask = client.chat.completions.parse
        with pytest.raises(StructuredOutputError):
            await ask(**REQUEST, response_format=Person)
        forgiven = await ask(**REQUEST, response_format=Person, lenient=True)
        assert forgiven.choices[0].message.parsed == Person("Ada", 36)
        with pytest.raises(StructuredOutputError):  # only where it was asked for
            await ask(**REQUEST, response_format=Person)
    assert all("lenient" not in request.json for request in network.requests)


def test_wrapped_arguments_are_a_value_on_request() -> None:
    call = ToolCall(function=Function(name="f", arguments=json.dumps(ADA)))
    with pytest.raises(penstock.ToolArgumentsError):
        call.parse(Person)
    assert call.parse(Person, lenient=True) == Person("Ada", 36)


async def test_the_partial_answer_while_it_grows() -> None:
    async with (
        client_on(answer(ADA)) as client,
        client.chat.completions.stream(**REQUEST, response_format=Person) as stream,
    ):
        await stream.__anext__()
        await stream.__anext__()
        assert stream.partial.choices[0].message.content == ADA[: len(ADA) // 2]
        assert type(stream.partial) is ChatCompletion


# --- the values ---


@pytest.fixture
def whole() -> ParsedCompletion[Person]:
    message = ChatCompletionMessage(content=ADA, reasoning_field="Hm.")
    plain = ChatCompletion(id="x", choices=[Choice(message=message, finish_reason="stop")])
    return OutputType[Person](Person).completion(plain)


def test_it_copies_and_pickles(whole: ParsedCompletion[Person]) -> None:
    for twin in (pickle.loads(pickle.dumps(whole)), copy.deepcopy(whole), copy.copy(whole)):
        assert twin == whole
        assert twin.choices[0].message.parsed == Person("Ada", 36)
        assert type(twin.choices[0].message) is ParsedMessage
    shallow = copy.copy(whole.choices[0].message)
    assert shallow.parsed is whole.choices[0].message.parsed
    deep = copy.deepcopy(whole.choices[0].message)
    assert deep.parsed is not whole.choices[0].message.parsed


def test_its_payload_has_no_more_than_the_server_sent(whole: ParsedCompletion[Person]) -> None:
    message = {"role": "assistant", "content": ADA, "reasoning": "Hm."}
    assert whole.to_dict()["choices"][0]["message"] == message
    assert whole["id"] == "x"


def test_its_repr_shows_the_value(whole: ParsedCompletion[Person]) -> None:
    assert "parsed=Person(name='Ada', age=36))" in repr(whole)


async def test_the_message_goes_back_as_any_message(whole: ParsedCompletion[Person]) -> None:
    network = MemoryNetwork(answer("ok"))
    async with client_on(network) as client:
        messages = [*MESSAGES, whole.choices[0].message]
        await client.complete({"model": "m", "messages": messages})
    sent = network.requests[0].json["messages"][1]
    assert sent == {"role": "assistant", "content": ADA, "reasoning": "Hm."}


def test_the_schema_of_a_type_is_made_once() -> None:
    first, second = ({"response_format": list[Person]} for _ in range(2))
    assert OutputType.asked_for(first) is OutputType.asked_for(second)
    assert first["response_format"] is second["response_format"]
