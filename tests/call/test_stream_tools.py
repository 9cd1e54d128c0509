"""`stream.tool_calls`: each call once, when it is complete, however the stream is read."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import penstock
from penstock import CompletionStream, StreamState, ToolCall
from penstock.testing.answers import tool_call_chunks, tool_call_piece, tool_calls_reply
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import sse_reply, tokens
from penstock.testing.script import Pause, Reset, Stall
from tests.invariants.virtual_uvloop import virtual_backend as anyio_backend
from tests.support.chat import REQUEST, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

PARIS, ROME = '{"city":"Paris"}', '{"city":"Rome"}'
ROLE, FINISH = tokens(finish="tool_calls")
FIRST, SECOND = tool_call_chunks("a", "weather", PARIS), tool_call_chunks("b", "weather", ROME, 1)
BOTH = tool_calls_reply(("a", "weather", PARIS), ("b", "weather", ROME))


def arguments(calls: list[ToolCall]) -> list[str]:
    return [call.function.arguments for call in calls]


async def all_of(stream: CompletionStream) -> list[ToolCall]:
    return [call async for call in stream.tool_calls]


async def test_each_call_once() -> None:
    async with client_on(BOTH) as client, client.chat.completions.stream(**REQUEST) as stream:
        calls = await all_of(stream)
        assert arguments(calls) == [PARIS, ROME]
        assert [call.id for call in calls] == ["a", "b"]
        assert stream.state is StreamState.COMPLETED
        assert await all_of(stream) == []
        assert stream.partial.choices[0].message.tool_calls == calls


async def test_it_sends_the_request_when_used_without_a_block() -> None:
    network = MemoryNetwork(BOTH)
    async with client_on(network) as client:
        stream = client.chat.completions.stream(**REQUEST)
        calls = stream.tool_calls
        assert network.connects == []
        assert arguments([call async for call in calls]) == [PARIS, ROME]


async def test_a_call_comes_as_soon_as_the_next_is_opened() -> None:
    silent = sse_reply([ROLE, *FIRST, SECOND[0], Stall()], done=False)
    async with client_on(silent) as client, client.chat.completions.stream(**REQUEST) as stream:
        calls = stream.tool_calls
        assert (await anext(calls)).function.arguments == PARIS
        with anyio.move_on_after(0.02) as scope:
            await anext(calls)
        assert scope.cancelled_caught


async def test_the_last_comes_with_the_finish_reason_and_not_with_the_end() -> None:
    silent = sse_reply([ROLE, *FIRST, FINISH, Stall()], done=False)
    async with client_on(silent) as client, client.chat.completions.stream(**REQUEST) as stream:
        assert (await anext(stream.tool_calls)).function.arguments == PARIS


async def test_the_end_without_a_finish_reason_completes_the_last() -> None:
    ended = sse_reply([ROLE, *FIRST])
    async with client_on(ended) as client, client.chat.completions.stream(**REQUEST) as stream:
        assert arguments(await all_of(stream)) == [PARIS]


async def test_calls_that_the_token_limit_cut_come_at_the_end() -> None:
    cut = sse_reply([ROLE, *FIRST[:2], *tokens(role_first=False, finish="length")])
    async with client_on(cut) as client, client.chat.completions.stream(**REQUEST) as stream:
        (call,) = await all_of(stream)
    with pytest.raises(penstock.ToolArgumentsError):
        call.parse(dict[str, str])


async def test_an_answer_without_calls() -> None:
    text = sse_reply(tokens("Hello"))
    async with client_on(text) as client, client.chat.completions.stream(**REQUEST) as stream:
        assert await all_of(stream) == []
        assert (await stream.collect()).choices[0].message.content == "Hello"


async def test_text_before_the_calls_is_kept() -> None:
    events = [*tokens("Let me", " see.", finish=None), *FIRST, FINISH]
    async with (
        client_on(sse_reply(events)) as client,
        client.chat.completions.stream(**REQUEST) as stream,
    ):
        assert arguments(await all_of(stream)) == [PARIS]
        assert stream.partial.choices[0].message.content == "Let me see."


async def read_chunks(stream: CompletionStream) -> None:
    async for _ in stream:
        pass


async def read_text(stream: CompletionStream) -> None:
    async for _ in stream.text:
        pass


async def read_some(stream: CompletionStream) -> None:
    for _ in range(5):
        await stream.__anext__()


async def read_batches(stream: CompletionStream) -> None:
    await stream.read_batch()


async def collect(stream: CompletionStream) -> None:
    await stream.collect()


@pytest.mark.parametrize("read", [read_chunks, read_text, read_some, read_batches, collect])
async def test_whatever_was_read_before(read: Any) -> None:
    async with client_on(BOTH) as client, client.chat.completions.stream(**REQUEST) as stream:
        await read(stream)
        assert arguments(await all_of(stream)) == [PARIS, ROME]


async def test_one_at_a_time_from_iterators_of_their_own() -> None:
    async with client_on(BOTH) as client, client.chat.completions.stream(**REQUEST) as stream:
        found = []
        async for call in stream.tool_calls:
            found.append(call)
            break
        found += await all_of(stream)
    assert arguments(found) == [PARIS, ROME]


async def test_the_calls_of_the_first_choice() -> None:
    other = tool_call_piece(0, "x", "weather", ROME, choice=1, finish="tool_calls")
    answer = sse_reply([ROLE, other, *FIRST, FINISH])
    async with client_on(answer) as client, client.chat.completions.stream(**REQUEST) as stream:
        assert arguments(await all_of(stream)) == [PARIS]


async def test_a_cancelled_read_loses_nothing() -> None:
    steps = [step for event in (*FIRST, *SECOND, FINISH) for step in (Pause(1.0), event)]
    slow = sse_reply([ROLE, *steps])
    found: list[ToolCall] = []
    cancelled = 0
    async with client_on(slow) as client, client.chat.completions.stream(**REQUEST) as stream:
        calls = stream.tool_calls
        while True:
            with anyio.move_on_after(0.35) as scope:
                try:
                    found.append(await anext(calls))
                except StopAsyncIteration:
                    break
            cancelled += scope.cancelled_caught
    assert arguments(found) == [PARIS, ROME]
    # The first is known to be complete after 4 s, the second 3 s later.
    assert cancelled == int(4 / 0.35) + int(3 / 0.35)


async def test_a_failure_comes_after_the_calls_that_were_complete() -> None:
    broken = sse_reply([ROLE, *FIRST, *SECOND[:2], Reset()], done=False)
    async with client_on(broken) as client, client.chat.completions.stream(**REQUEST) as stream:
        calls = stream.tool_calls
        assert (await anext(calls)).function.arguments == PARIS
        with pytest.raises(penstock.StreamInterruptedError):
            await anext(calls)
        with pytest.raises(penstock.StreamInterruptedError) as caught:
            await anext(calls)
    assert caught.value.partial is not None
    assert len(caught.value.partial.choices[0].message.tool_calls or []) == 2


async def test_after_closing() -> None:
    async with client_on(BOTH) as client:
        async with client.chat.completions.stream(**REQUEST) as stream:
            calls = stream.tool_calls
        with pytest.raises(penstock.StreamClosedError):
            await anext(calls)


async def test_pieces_as_they_grow() -> None:
    async with client_on(BOTH) as client, client.chat.completions.stream(**REQUEST) as stream:
        grown = []
        async for _ in stream:
            calls = stream.partial.choices[0].message.tool_calls or []
            grown.append("".join(arguments(calls)))
    middle = len(PARIS) // 2
    assert grown[:4] == ["", "", PARIS[:middle], PARIS]
    assert grown[-1] == PARIS + ROME
