"""Streamed chat completions through the SDK's own methods: read, broken off, cut, closed."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import anyio
import openai
import pytest
from openai.types.chat import ChatCompletionChunk

import penstock
from penstock.compat.openai._streams import AsyncChatStream
from penstock.testing.cuts import cut_at, head_size
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import PING, completion, error_event, json_reply, sse_reply, tokens
from penstock.testing.script import End, Pause, Reset, Stall
from tests.support.openai_clients import STREAMED, async_client, drain, text_of

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
HELLO = sse_reply(tokens("Hel", "lo", usage=USAGE))
HANGING = sse_reply([*tokens("Hel", "lo", finish=None), Stall()], done=False)
CUT = sse_reply(tokens("Hel", "lo", finish=None), done=False)


async def opened(client: openai.AsyncOpenAI, **more: Any) -> Any:
    return await client.chat.completions.create(**STREAMED, **more)


async def test_chunks_are_the_sdks() -> None:
    async with async_client(HELLO) as client:
        stream = await opened(client)
        assert isinstance(stream, openai.AsyncStream)
        chunks = await drain(stream)
        assert all(type(chunk) is ChatCompletionChunk for chunk in chunks)
        assert text_of(chunks) == "Hello"
        assert chunks[-1].usage.total_tokens == 3
        assert stream.response.status_code == 200
        assert stream.response.is_closed
        # At the end it stays.
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_a_connection_serves_the_next_stream() -> None:
    network = MemoryNetwork([HELLO] * 3)
    async with async_client(network) as client:
        for _ in range(3):
            async with await opened(client) as stream:
                assert text_of(await drain(stream)) == "Hello"
    assert len(network.connections) == 1


async def test_iteration_goes_on_after_a_break() -> None:
    async with async_client(HELLO) as client:
        stream = await opened(client)
        chunks: list[Any] = []
        async for chunk in stream:
            chunks.append(chunk)
            break
        async for chunk in stream:
            chunks.append(chunk)
        assert text_of(chunks) == "Hello"


async def test_leaving_the_block_closes_the_connection() -> None:
    network = MemoryNetwork(HANGING)
    async with async_client(network) as client:
        async with await opened(client) as stream:
            await anext(stream)
        assert not network.connections[0].open
        await reading_is_an_error(stream)


async def reading_is_an_error(stream: Any) -> None:
    with pytest.raises(openai.APIConnectionError) as caught:
        await anext(stream)
    assert isinstance(caught.value.__cause__, penstock.StreamClosedError)


@pytest.mark.parametrize("close", ["close", "aclose"])
async def test_closing_from_outside(close: str) -> None:
    network = MemoryNetwork(HANGING)
    async with async_client(network) as client:
        stream = await opened(client)
        await anext(stream)
        for _ in range(2):
            await getattr(stream, close)()
            assert not network.connections[0].open


async def test_a_stream_is_in_no_reference_cycle() -> None:
    gc.collect()
    gc.disable()
    try:
        async with async_client([HELLO, HANGING, CUT]) as client:
            for _ in range(2):
                stream = await opened(client)
                await anext(stream)
                await anext(stream)
                gone = [weakref.ref(stream), weakref.ref(stream.response)]
                del stream
                assert [ref() for ref in gone] == [None, None]
            stream = await opened(client)
            gone = [weakref.ref(stream)]
            try:
                await drain(stream)
            except openai.APIConnectionError as error:
                gone.append(weakref.ref(error))
            del stream
            assert [ref() for ref in gone] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("fault", [End(), Reset()], ids=["end", "reset"])
async def test_a_cut_anywhere_is_an_error(fault: Any) -> None:
    """Up to the last byte of `[DONE]`, the answer is not whole, and never looks so."""
    reply = sse_reply(tokens("Hel", "lo", finish=None), chunked="close")
    end = reply.data.index(b"[DONE]") + len(b"[DONE]")
    places = range(head_size(reply.data), end, 5)
    network = MemoryNetwork([cut_at(reply, place, fault) for place in places])
    async with async_client(network, max_retries=0) as client:
        for place in places:
            got: list[Any] = []
            with pytest.raises(openai.APIConnectionError) as caught:
                await drain(await opened(client), got)
            cause = caught.value.__cause__
            assert isinstance(cause, penstock.APIConnectionError)
            if place > head_size(reply.data):
                assert cause.partial is not None
                said = [choice.message.content for choice in cause.partial.choices]
                assert "".join(text or "" for text in said) == text_of(got)
    assert len(network.requests) == len(places)


async def test_a_cut_stream_has_what_came() -> None:
    async with async_client(CUT) as client:
        stream = await opened(client)
        got: list[Any] = []
        with pytest.raises(openai.APIConnectionError) as caught:
            await drain(stream, got)
        assert text_of(got) == "Hello"
        cause = caught.value.__cause__
        assert isinstance(cause, penstock.IncompleteStreamError)
        assert cause.partial is not None
        assert cause.partial.choices[0].message.content == "Hello"
        assert caught.value.request.url.path == "/v1/chat/completions"
        # Never a clean end: who reads on meets it again.
        with pytest.raises(openai.APIConnectionError):
            await anext(stream)


async def test_an_error_inside_the_stream_is_an_api_error() -> None:
    events = [*tokens("Hel", finish=None), error_event("no more", code="busy", type="overloaded")]
    async with async_client(sse_reply(events)) as client:
        with pytest.raises(openai.APIError) as caught:
            await drain(await opened(client))
        assert type(caught.value) is openai.APIError
        assert "no more" in str(caught.value)
        assert (caught.value.code, caught.value.type) == ("busy", "overloaded")
        cause = caught.value.__cause__
        assert isinstance(cause, penstock.StreamError)
        assert cause.partial is not None
        assert cause.partial.choices[0].message.content == "Hel"


async def test_what_cannot_be_understood_is_a_validation_error() -> None:
    html = sse_reply(["not json"], done=False)
    async with async_client(html) as client:
        with pytest.raises(openai.APIResponseValidationError) as caught:
            await drain(await opened(client))
        assert caught.value.response.status_code == 200
        assert isinstance(caught.value.__cause__, penstock.APIResponseError)


async def test_a_whole_answer_to_a_streamed_request_is_read() -> None:
    async with async_client(json_reply(completion("Hello"))) as client:
        assert text_of(await drain(await opened(client))) == "Hello"


# --- cancellation ---


async def test_a_cancelled_read_closes_the_connection_at_once() -> None:
    network = MemoryNetwork(HANGING)
    async with async_client(network) as client:
        stream = await opened(client)
        got: list[Any] = []
        with anyio.move_on_after(1) as scope:
            await drain(stream, got)
        assert scope.cancelled_caught
        assert text_of(got) == "Hello"
        assert not network.connections[0].open
        with pytest.raises(openai.APIConnectionError) as caught:
            await anext(stream)
        assert isinstance(caught.value.__cause__, penstock.StreamClosedError)
        await stream.close()


async def test_a_task_cancelled_while_it_opens_leaves_nothing() -> None:
    network = MemoryNetwork(sse_reply([]).after(10))
    async with async_client(network) as client:
        with anyio.move_on_after(1):
            await opened(client)
        assert not network.connections[0].open


async def test_a_native_cancel() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return  # there is none on trio
    network = MemoryNetwork(HANGING)
    async with async_client(network) as client:
        stream = await opened(client)

        async def read() -> None:
            await drain(stream)

        task = asyncio.ensure_future(read())
        await anyio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not network.connections[0].open


async def test_churn_of_cancels_leaves_nothing_open() -> None:
    events: list[Any] = []
    for chunk in tokens("a", "b", "c", "d"):
        events += [Pause(0.5), chunk]
    network = MemoryNetwork(lambda request: sse_reply(events))
    async with async_client(network) as client:

        async def one(seconds: float) -> None:
            with anyio.move_on_after(seconds):
                await drain(await opened(client))

        async with anyio.create_task_group() as tasks:
            for number in range(40):
                tasks.start_soon(one, number * 0.1)
        assert not [each for each in network.connections if each.open and each.in_flight]
        assert text_of(await drain(await opened(client))) == "abcd"


async def test_two_readers_at_once_are_refused_and_the_first_reads_on() -> None:
    events: list[Any] = [Pause(1), *tokens("Hello")]
    async with async_client(sse_reply(events)) as client:
        stream = await opened(client)
        got: list[Any] = []

        async def read() -> None:
            got.append(await drain(stream))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.sleep(0.5)
            with pytest.raises(openai.APIError) as caught:
                await anext(stream)
            assert isinstance(caught.value.__cause__, penstock.StreamBusyError)
        assert text_of(got[0]) == "Hello"


# --- timeouts ---


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"timeout": 2.0}, penstock.ReadTimeout),
        ({"timeouts": penstock.Timeouts(read=2)}, penstock.ReadTimeout),
        ({"timeouts": penstock.Timeouts(idle=2)}, penstock.IdleTimeout),
        ({"timeouts": penstock.Timeouts(total=2)}, penstock.TotalTimeout),
    ],
)
async def test_a_timeout_is_the_sdks(options: Any, expected: Any) -> None:
    network = MemoryNetwork(HANGING)
    async with async_client(network, **options) as client:
        start = anyio.current_time()
        with pytest.raises(openai.APITimeoutError) as caught:
            await drain(await opened(client))
        assert anyio.current_time() - start == pytest.approx(2)
        cause: Any = caught.value.__cause__
        assert cause.partial is not None
        assert type(cause) is expected
        assert not network.connections[0].open


async def test_no_token_in_time() -> None:
    network = MemoryNetwork(sse_reply([PING, Pause(1), PING, Stall()]))
    timeouts = penstock.Timeouts(first_token=3)
    async with async_client(network, timeouts=timeouts) as client:
        with pytest.raises(openai.APITimeoutError) as caught:
            await drain(await opened(client))
        assert isinstance(caught.value.__cause__, penstock.FirstTokenTimeout)
        assert "first_token" in str(caught.value)


# --- subclasses, as instrumentations make them ---


class Watching(openai.AsyncStream[ChatCompletionChunk]):
    seen: list[Any]

    async def __stream__(self) -> Any:  # noqa: ASYNC900 - as instrumentations do it
        self.seen = []
        async for chunk in super().__stream__():
            self.seen.append(chunk)
            yield chunk


class Counting(openai.AsyncStream[ChatCompletionChunk]):
    count = 0

    async def __anext__(self) -> ChatCompletionChunk:
        chunk = await self._iterator.__anext__()
        self.count += 1
        return chunk


async def opened_as(client: openai.AsyncOpenAI, kind: Any) -> Any:
    return await client.post(
        "/chat/completions",
        cast_to=ChatCompletionChunk,
        body=STREAMED,
        stream=True,
        stream_cls=kind,
    )


async def test_an_instrumented_class_sees_each_chunk_once() -> None:
    async with async_client([HELLO, HELLO, CUT]) as client:
        stream = await opened_as(client, Watching)
        assert isinstance(stream, Watching)
        assert isinstance(stream, AsyncChatStream)
        got = await drain(stream)
        assert text_of(got) == "Hello"
        assert stream.seen == got
        stream = await opened_as(client, Counting)
        assert text_of(got := await drain(stream)) == "Hello"
        assert stream.count == len(got)
        with pytest.raises(openai.APIConnectionError):
            await drain(await opened_as(client, Watching))


async def test_the_sdks_request_is_patched_to_subclass_the_class_it_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As logfire does when it instruments the classes."""
    request = openai.AsyncOpenAI.request
    seen: list[Any] = []

    async def patched(self: Any, *arguments: Any, stream_cls: Any, **options: Any) -> Any:
        class Instrumented(stream_cls):  # type: ignore[misc]
            async def __stream__(self) -> Any:  # noqa: ASYNC900 - its user closes it
                async for chunk in super().__stream__():
                    seen.append(chunk)
                    yield chunk

        return await request(self, *arguments, stream_cls=Instrumented, **options)

    monkeypatch.setattr(openai.AsyncOpenAI, "request", patched)
    async with async_client(HELLO) as client:
        got = await drain(await opened(client))
    assert text_of(got) == "Hello"
    assert seen == got


@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")  # the SDK's own
async def test_a_stream_class_of_another_kind_stays() -> None:
    async with async_client([HELLO, CUT]) as client:
        response = await client.chat.completions.with_raw_response.create(**STREAMED)
        stream = response.parse(to=openai.AsyncStream[dict[str, Any]])
        got: list[Any] = [item async for item in stream]
        assert (
            "".join(item["choices"][0]["delta"].get("content", "") for item in got[:3]) == "Hello"
        )
        response = await client.chat.completions.with_raw_response.create(**STREAMED)
        with pytest.raises(openai.APIConnectionError):
            await drain(response.parse(to=openai.AsyncStream[dict[str, Any]]))


async def test_items_are_validated_when_the_client_is_strict() -> None:
    odd = sse_reply([{"id": 1, "choices": [{"index": "a", "delta": {}}]}])
    network = MemoryNetwork([HELLO, odd])
    async with async_client(network, _strict_response_validation=True) as client:
        assert text_of(await drain(await opened(client))) == "Hello"
        with pytest.raises(openai.APIResponseValidationError):
            await drain(await opened(client))
        assert not [each for each in network.connections if each.in_flight]
