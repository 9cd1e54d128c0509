"""Answers of the kit, as the client understands them."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from penstock import ChatCompletion, StreamError
from penstock.testing.answers import text_reply, tool_calls_reply
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import PING, error_event, sse_reply, tokens
from penstock.testing.script import Reply
from tests.support.chat import REQUEST, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


async def answer(reply: Reply, *, stream: bool) -> tuple[ChatCompletion, MemoryNetwork]:
    network = MemoryNetwork(reply)
    async with client_on(network) as client:
        if stream:
            return await client.complete(REQUEST), network
        return await client.chat.completions.create(**REQUEST), network


@pytest.mark.parametrize("stream", [True, False])
async def test_text_with_reasoning_and_usage(stream: bool) -> None:
    reply = text_reply("Hel", "lo", reasoning=["I ", "see"], usage=USAGE, model="m", stream=stream)
    completion, _ = await answer(reply, stream=stream)
    message = completion.choices[0].message
    assert (message.content, message.reasoning) == ("Hello", "I see")
    assert completion.choices[0].finish_reason == "stop"
    assert completion.model == "m"
    assert completion.usage is not None
    assert completion.usage.total_tokens == 3


@pytest.mark.parametrize("stream", [True, False])
async def test_tool_calls_with_and_without_an_id(stream: bool) -> None:
    calls: list[Any] = [
        ("weather", {"city": "Oslo"}),
        ("c7", "time", '{"zone": "CET"}'),
        ("now", ""),
    ]
    completion, _ = await answer(
        tool_calls_reply(*calls, text="Let me see.", stream=stream), stream=stream
    )
    choice = completion.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Let me see."
    assert [
        (call.id, call.function.name, call.function.arguments)
        for call in choice.message.tool_calls or ()
    ] == [
        ("call_0", "weather", '{"city": "Oslo"}'),
        ("c7", "time", '{"zone": "CET"}'),
        ("call_2", "now", ""),
    ]


async def test_a_pace() -> None:
    start = anyio.current_time()
    await answer(text_reply("a", "b", every=2), stream=True)
    assert anyio.current_time() - start == pytest.approx(2 * 4)  # role, a, b, finish


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
async def test_pings_a_byte_order_mark_and_other_line_ends_are_nothing(newline: str) -> None:
    first, *rest = tokens("Hi")
    reply = sse_reply([first, PING, *rest], bom=True, newline=newline)
    completion, _ = await answer(reply, stream=True)
    assert completion.choices[0].message.content == "Hi"


async def test_an_error_inside_the_stream() -> None:
    reply = sse_reply([*tokens("Hi", finish=None), error_event("overloaded", code="busy")])
    with pytest.raises(StreamError, match="overloaded") as caught:
        await answer(reply, stream=True)
    assert caught.value.code == "busy"
    assert caught.value.partial is not None
    assert caught.value.partial.choices[0].message.content == "Hi"
