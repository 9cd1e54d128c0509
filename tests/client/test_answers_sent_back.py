"""An answer goes back to the server with all that it had, and with what the server accepts."""

from __future__ import annotations

from typing import Any

import pytest

import penstock
from penstock import AsyncClient, ChatCompletion, ChatRequest, Timeouts
from penstock.testing.cuts import every_byte
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import json_reply, sse_reply
from penstock.testing.script import Pause, Reply
from tests.invariants.virtual_uvloop import virtual_backend as anyio_backend
from tests.support.chat import MESSAGES, REQUEST, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

SIGNED = {"google": {"thought_signature": "SIG"}}
CALL = {
    "id": "a",
    "type": "function",
    "function": {"name": "get_time", "arguments": '{"city":"Paris"}'},
    "extra_content": SIGNED,
}
DETAILS = [{"type": "reasoning.text", "text": "Let me think", "index": 0, "signature": "SIG"}]
MESSAGE = {
    "role": "assistant",
    "content": "4",
    "reasoning": "Let me think",
    "reasoning_details": DETAILS,
    "tool_calls": [CALL],
}


def said(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}


STREAMED = sse_reply(
    [
        said({"role": "assistant", "content": "", "reasoning": "Let me "}),
        said({"reasoning_details": [{**DETAILS[0], "text": "Let me ", "signature": ""}]}),
        said({"reasoning": "think", "reasoning_details": [{"index": 0, "text": "think"}]}),
        said({"reasoning_details": [{"index": 0, "signature": "SIG"}]}),
        said({"content": "4"}),
        said({"tool_calls": [{"index": 0, **CALL}]}),
        said({}, "tool_calls"),
    ]
)
WHOLE = json_reply(
    {
        "id": "c1",
        "object": "chat.completion",
        "model": "m",
        "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "tool_calls"}],
    }
)


async def completed(client: AsyncClient, request: ChatRequest) -> ChatCompletion:
    return await client.complete(request)


async def collected(client: AsyncClient, request: ChatRequest) -> ChatCompletion:
    async with client.chat.completions.stream(**request) as stream:
        async for _ in stream:
            pass
        assert stream.partial == await stream.collect()
        return stream.partial


async def created(client: AsyncClient, request: ChatRequest) -> ChatCompletion:
    return await client.chat.completions.create(**request)


WAYS = pytest.mark.parametrize(
    ("ask", "answer"),
    [(completed, STREAMED), (collected, STREAMED), (created, WHOLE)],
    ids=["complete", "collect", "create"],
)


@WAYS
async def test_with_everything_it_had(ask: Any, answer: Reply) -> None:
    network = MemoryNetwork(every_byte(answer))
    async with client_on(network) as client:
        message = (await ask(client, REQUEST)).choices[0].message
        reply = penstock.tool_message(message.tool_calls[0], "12:00")
        await ask(client, {"model": "m", "messages": [*MESSAGES, message, reply]})
        by_hand = {"role": "assistant", "tool_calls": message.tool_calls}
        await client.request("POST", "/x", json={"messages": [message, by_hand]})
    assert network.requests[1].json["messages"] == [
        *MESSAGES,
        MESSAGE,
        {"role": "tool", "tool_call_id": "a", "content": "12:00"},
    ]
    assert network.requests[2].json["messages"] == [
        MESSAGE,
        {"role": "assistant", "tool_calls": [CALL]},
    ]


@WAYS
@pytest.mark.parametrize(
    ("base_url", "provider", "reasoning"),
    [
        (
            "http://api.test/v1",
            "openai",
            {"reasoning": "Let me think", "reasoning_details": DETAILS},
        ),
        ("http://api.test/v1", "groq", {}),
        ("http://api.cerebras.ai/v1", "openai", {}),
        (
            "http://openrouter.ai/api/v1",
            "openai",
            {"reasoning": "Let me think", "reasoning_details": DETAILS},
        ),
        (
            "http://api.test/v1",
            "deepseek",
            {"reasoning_content": "Let me think", "reasoning_details": DETAILS},
        ),
    ],
)
async def test_with_reasoning_as_the_server_wants_it(
    ask: Any, answer: Reply, base_url: str, provider: str, reasoning: dict[str, Any]
) -> None:
    network = MemoryNetwork(answer)
    async with client_on(network, base_url, provider=provider) as client:
        message = (await ask(client, REQUEST)).choices[0].message
        await ask(client, {"model": "m", "messages": [message]})
    plain = {name: MESSAGE[name] for name in ("role", "content", "tool_calls")}
    assert network.requests[1].json["messages"] == [{**plain, **reasoning}]


async def test_a_call_without_an_id_is_answered_by_the_one_it_was_given() -> None:
    nameless = {**CALL, "id": None}
    network = MemoryNetwork(sse_reply([said({"tool_calls": [nameless]}), said({}, "tool_calls")]))
    async with client_on(network) as client:
        async with client.chat.completions.stream(**REQUEST) as stream:
            [given] = [call async for call in stream.tool_calls]
            message = stream.partial.choices[0].message
        reply = penstock.tool_message(given, "12:00")
        await client.complete({"model": "m", "messages": [message, reply]})
    sent = network.requests[1].json["messages"]
    assert sent[0]["tool_calls"][0]["id"] == sent[1]["tool_call_id"] == given.id
    assert given.id


async def test_two_calls_of_one_id() -> None:
    calls = [
        {**CALL, "index": number, "function": {"name": "get_time", "arguments": arguments}}
        for number, arguments in enumerate(['{"city":"Paris"}', '{"city":"Rome"}'])
    ]
    answer = sse_reply([*(said({"tool_calls": [call]}) for call in calls), said({}, "tool_calls")])
    async with client_on(MemoryNetwork(every_byte(answer))) as client:
        completion = await client.complete(REQUEST)
        async with client.chat.completions.stream(**REQUEST) as stream:
            streamed = [call async for call in stream.tool_calls]
    found = completion.choices[0].message.tool_calls
    assert found == streamed
    assert [call.function.arguments for call in found or ()] == [
        '{"city":"Paris"}',
        '{"city":"Rome"}',
    ]


MADE: dict[str, list[dict[str, Any]]] = {
    "audio": [{"audio": {"data": "AAAA"}}],
    "images": [{"images": [{"image_url": {"url": "data:"}}]}],
    "reasoning details": [{"reasoning_details": [{"index": 0, "text": "x"}]}],
    "custom input": [{"tool_calls": [{"index": 0, "custom": {"input": "x"}}]}],
    "a function call": [{"function_call": {"arguments": "x"}}],
    "anything": [{"anything": {"deep": ["x"]}}],
}
NOTHING: dict[str, list[dict[str, Any]]] = {
    "padding": [{"content": "", "obfuscation": "abcdef"}],
    "a role": [{"role": "assistant"}],
    "empty lists": [{"images": [], "reasoning_details": [], "audio": {}}],
}


def slowly(deltas: list[dict[str, Any]]) -> Reply:
    steps: list[Any] = []
    for delta in deltas:
        steps += [Pause(0.5), said(delta)]
    return sse_reply([*steps, said({}, "stop")])


@pytest.mark.parametrize("made", MADE)
async def test_whatever_the_model_makes_is_progress(made: str) -> None:
    answer = slowly([{"role": "assistant"} if made == "audio" else MADE[made][0], *MADE[made] * 5])
    timeouts = Timeouts(first_token=1.2, idle=0.7)
    async with client_on(MemoryNetwork(answer), timeouts=timeouts) as client:
        await client.complete(REQUEST)


@pytest.mark.parametrize("made", NOTHING)
async def test_nothing_else_is(made: str) -> None:
    answer = slowly(NOTHING[made] * 5)
    async with client_on(MemoryNetwork(answer), timeouts=Timeouts(first_token=1.2)) as client:
        with pytest.raises(penstock.FirstTokenTimeout):
            await client.complete(REQUEST)
    answer = slowly([{"content": "x"}, *NOTHING[made] * 5])
    async with client_on(MemoryNetwork(answer), timeouts=Timeouts(idle=0.7)) as client:
        with pytest.raises(penstock.IdleTimeout):
            await client.complete(REQUEST)
