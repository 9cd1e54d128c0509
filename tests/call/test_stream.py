"""`CompletionStream` in use: opened, read and closed in every way a caller may."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest

import penstock
from penstock import CompletionStream, Limiter, Spread, StreamState, Timeouts
from penstock.testing.cuts import split_at
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import error_reply, json_reply, sse_reply, status_reply, tokens
from penstock.testing.script import End, Pause, Reply, Reset, Stall
from tests.support.chat import KEY, REQUEST, Watcher, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

WORDS = ["Hel", "lo", "", " wor", "ld"]
TEXT = "Hello world"
HELLO = sse_reply(tokens(*WORDS))
HALF = tokens("Hel", "lo", finish=None)
HANGING = sse_reply([*HALF, Stall()], done=False)


def slowly(*events: Any, every: float = 1) -> Any:
    spaced: list[Any] = []
    for event in events:
        spaced += [Pause(every), event]
    return sse_reply(spaced)


# --- the ways to read ---


async def read_chunks(stream: CompletionStream) -> str:
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


async def read_text(stream: CompletionStream) -> str:
    return "".join([text async for text in stream.text])


async def read_collect(stream: CompletionStream) -> str:
    return (await stream.collect()).choices[0].message.content or ""


async def read_partial(stream: CompletionStream) -> str:
    async for _ in stream:
        pass
    return stream.partial.choices[0].message.content or ""


@pytest.mark.parametrize("read", [read_chunks, read_text, read_collect, read_partial])
@pytest.mark.parametrize("managed", [True, False])
async def test_every_way_to_read(read: Any, managed: bool) -> None:
    network = MemoryNetwork([HELLO, slowly(*tokens(*WORDS))])
    async with client_on(network) as client:
        for _ in range(2):
            stream = client.chat.completions.stream(**REQUEST)
            if managed:
                async with stream as entered:
                    assert entered is stream
                    assert await read(stream) == TEXT
            else:
                assert await read(stream) == TEXT
            assert stream.state is StreamState.COMPLETED
            assert stream.partial.choices[0].message.content == TEXT
            assert stream.partial.choices[0].finish_reason == "stop"
            # At the end it stays.
            for _ in range(2):
                with pytest.raises(StopAsyncIteration):
                    await anext(stream)
                assert (await stream.collect()).choices[0].message.content == TEXT
        assert len(network.connections) == 1


async def test_the_ways_may_be_mixed() -> None:
    async with client_on(slowly(*tokens(*WORDS))) as client:
        stream = client.chat.completions.stream(**REQUEST)
        await anext(stream)
        assert stream.partial.choices[0].message.content in (None, "")
        async for text in stream.text:
            assert text == "Hel"
            break
        chunk = await anext(stream)
        assert chunk.choices[0].delta.content == "lo"
        assert stream.partial.choices[0].message.content == "Hello"
        assert (await stream.collect()).choices[0].message.content == TEXT


async def test_text_is_choice_0_alone_and_never_empty() -> None:
    events = [*tokens("a", "", "b", finish=None), *tokens("x", index=1), *tokens("c")]
    async with client_on(sse_reply(events)) as client:
        stream = client.chat.completions.stream(**REQUEST)
        assert [text async for text in stream.text] == ["a", "b", "c"]


async def test_what_is_there_without_waiting() -> None:
    async with client_on(HELLO) as client:
        stream = client.chat.completions.stream(**REQUEST)
        with pytest.raises(anyio.WouldBlock):
            stream.receive_nowait()
        assert await stream.fill()
        chunks = [stream.receive_nowait()]
        chunks += await stream.read_batch()
        with pytest.raises(anyio.WouldBlock):
            stream.receive_nowait()
        assert await stream.read_batch() == []
        assert "".join(c.choices[0].delta.content or "" for c in chunks) == TEXT


async def test_reading_ahead_until_a_token_has_come() -> None:
    async with client_on(slowly(*tokens(*WORDS))) as client:
        stream = client.chat.completions.stream(**REQUEST)
        for _ in range(2):
            assert await stream.first_token()
            assert anyio.current_time() == pytest.approx(2, abs=0.01)  # the role came before
        assert stream.partial.choices == []
        assert [chunk.choices[0].delta.content or "" async for chunk in stream] == ["", *WORDS, ""]
        assert await stream.first_token()


async def test_reading_ahead_in_an_answer_without_a_token() -> None:
    async with client_on(slowly(*tokens())) as client:
        stream = client.chat.completions.stream(**REQUEST)
        assert not await stream.first_token()
        assert stream.state is StreamState.COMPLETED
        assert len([chunk async for chunk in stream]) == 2


async def test_the_whole_as_a_value_of_a_type() -> None:
    class Point(msgspec.Struct):
        x: int

    async with client_on(sse_reply(tokens('{"x":', "5}"))) as client:
        stream = client.chat.completions.stream(**REQUEST, response_format=Point)
        whole: Any = await stream.collect()
    assert whole.choices[0].message.parsed == Point(5)


@pytest.mark.parametrize("done", [True, False])
async def test_reads_that_bring_no_chunk_are_none(done: bool) -> None:
    spaced: list[Any] = []
    for event in [b": ping\n\n", *tokens(*WORDS), b": ping\n\n"]:
        spaced += [Pause(1), event]
    for bulk in (True, False):
        async with client_on(sse_reply(spaced, done=done)) as client:
            stream = client.chat.completions.stream(**REQUEST)
            texts: list[str] = []
            if bulk:
                while chunks := await stream.read_batch():
                    texts += [chunk.choices[0].delta.content or "" for chunk in chunks]
            else:
                texts = [chunk.choices[0].delta.content or "" async for chunk in stream]
            assert texts == ["", *WORDS, ""]


async def test_chunks_in_bulk() -> None:
    async with client_on(slowly(*tokens(*WORDS))) as client:
        stream = client.chat.completions.stream(**REQUEST)
        texts: list[str] = []
        while chunks := await stream.read_batch():
            texts += [c.choices[0].delta.content or "" for c in chunks]
        assert "".join(texts) == TEXT
        assert len(texts) == len(WORDS) + 2


async def test_chunks_are_kept_by_those_who_keep_them() -> None:
    async with client_on(HELLO) as client, client.chat.completions.stream(**REQUEST) as stream:
        chunks = [chunk async for chunk in stream]
    assert [chunk.to_dict() for chunk in chunks] == tokens(*WORDS)
    assert pickle.loads(pickle.dumps(chunks)) == copy.deepcopy(chunks) == chunks


# --- states ---


async def test_the_states_of_a_stream() -> None:
    async with client_on(slowly(*tokens("a", "b")).after(1)) as client:
        stream = client.chat.completions.stream(**REQUEST)
        states = [stream.state]
        assert repr(stream) == "<CompletionStream 'test-model' new>"
        async with anyio.create_task_group() as group:
            group.start_soon(stream.__aenter__)
            await anyio.sleep(0.5)
            states.append(stream.state)
        states.append(stream.state)
        await anext(stream)
        states.append(stream.state)
        await stream.aclose()
        states.append(stream.state)
        assert states == ["new", "sending", "open", "flowing", "closed"]
        assert KEY not in repr(stream)


async def test_waiting_between_two_attempts_is_a_state() -> None:
    network = MemoryNetwork([error_reply(503, headers={"retry-after": "5"}), HELLO])
    async with client_on(network) as client:
        stream = client.chat.completions.stream(**REQUEST)
        async with anyio.create_task_group() as group:
            group.start_soon(stream.collect)
            await anyio.sleep(1)
            assert stream.state is StreamState.WAITING
            assert stream.status_code in (None, 503)
        assert stream.state is StreamState.COMPLETED


# --- leaving ---


@pytest.mark.parametrize("way", ["block", "break", "raise", "aclose", "cancel"])
async def test_leaving_closes_the_connection_at_once(way: str) -> None:
    network = MemoryNetwork(HANGING)
    limiter = Limiter(1)
    async with client_on(network, limiter=limiter) as client:
        stream = client.chat.completions.stream(**REQUEST)
        with anyio.CancelScope() as scope:
            try:
                async with stream:
                    if way != "block":
                        await anext(stream)
                    if way == "raise":
                        raise KeyError
                    if way == "aclose":
                        await stream.aclose()
                        assert network.open_connections == 0
                    if way == "cancel":
                        scope.cancel()
                        await stream.collect()
            except KeyError:
                assert way == "raise"
        assert scope.cancelled_caught == (way == "cancel")
        assert network.open_connections == 0
        assert limiter.statistics().in_flight == 0
        assert anyio.current_time() < 0.1
        assert stream.state is StreamState.CLOSED
        partial = stream.partial
        with pytest.raises(penstock.StreamClosedError):
            await anext(stream)
        with pytest.raises(penstock.StreamClosedError):
            await stream.__aenter__()
        assert stream.partial == partial


async def test_closing_before_anything_was_sent() -> None:
    network = MemoryNetwork(HELLO)
    async with client_on(network) as client:
        stream = client.chat.completions.stream(**REQUEST)
        await stream.aclose()
        await stream.aclose()
        with pytest.raises(penstock.StreamClosedError):
            await stream.collect()
    assert network.connects == []


@pytest.mark.parametrize("where", ["connecting", "waiting for the head", "reading", "retrying"])
async def test_closing_from_another_task(where: str) -> None:
    network = {
        "connecting": MemoryNetwork(HELLO, stall=1),
        "waiting for the head": MemoryNetwork(HELLO.after(100)),
        "reading": MemoryNetwork(HANGING),
        "retrying": MemoryNetwork(error_reply(503, headers={"retry-after": "50"})),
    }[where]
    raised: list[Exception] = []
    async with client_on(network) as client:
        stream = client.chat.completions.stream(**REQUEST)

        async def read() -> None:
            try:
                await stream.collect()
            except Exception as error:  # noqa: BLE001
                raised.append(error)

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await anyio.sleep(2)
            await stream.aclose()
        assert [type(error) for error in raised] == [penstock.StreamClosedError]
        assert anyio.current_time() == pytest.approx(2, abs=0.1)
        # The connection of a refusal that was read is kept for the next request.
        assert network.open_connections == (where == "retrying")
        assert stream.state is StreamState.CLOSED
    assert network.open_connections == 0


async def test_two_readers_at_once() -> None:
    async with client_on(HANGING) as client:
        stream = client.chat.completions.stream(**REQUEST)
        async with anyio.create_task_group() as group:
            group.start_soon(stream.collect)
            await anyio.sleep(1)
            for read in (stream.collect, stream.read_batch, lambda: anext(stream)):
                with pytest.raises(penstock.StreamBusyError):
                    await read()
            group.cancel_scope.cancel()
        # The first one was not disturbed, and after it anybody may read.
        with anyio.move_on_after(1):
            await anext(stream)
        await stream.aclose()


async def test_entered_twice() -> None:
    async with client_on(slowly(*tokens("a"))) as client:
        async with client.chat.completions.stream(**REQUEST) as stream:
            await anext(stream)
            async with stream:
                await stream.collect()
        assert stream.state is StreamState.COMPLETED


async def test_opened_read_and_closed_by_different_tasks() -> None:
    network = MemoryNetwork(slowly(*tokens(*WORDS)))
    async with client_on(network) as client:
        stream = client.chat.completions.stream(**REQUEST)
        texts: list[str] = []

        async def read_one() -> None:
            chunk = await anext(stream)
            texts.append(chunk.choices[0].delta.content or "")

        async with anyio.create_task_group() as group:  # noqa: ASYNC112 - by another task
            group.start_soon(stream.__aenter__)
        for _ in range(4):
            async with anyio.create_task_group() as group:  # noqa: ASYNC112 - by another task
                group.start_soon(read_one)
        async with anyio.create_task_group() as group:  # noqa: ASYNC112 - by another task
            group.start_soon(stream.aclose)
        assert texts == ["", "Hel", "lo", ""]
        assert network.open_connections == 0


# --- failures ---


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        ([Reset()], penstock.StreamInterruptedError),
        ([End()], penstock.StreamInterruptedError),
        ([], penstock.IncompleteStreamError),
        ([{"error": {"message": "m", "code": 500}}], penstock.StreamError),
        (["{"], penstock.APIResponseError),
        ([Stall()], penstock.ReadTimeout),
    ],
)
async def test_a_failure_comes_after_all_that_had_come_and_comes_again(
    end: list[Any], kind: type[penstock.PenstockError]
) -> None:
    answer = sse_reply([*HALF, *end], done=False, headers={"x-request-id": "req-7"})
    network = MemoryNetwork(answer)
    client = client_on(network, timeouts=Timeouts(read=5))
    async with client, client.chat.completions.stream(**REQUEST) as stream:
        texts: list[str] = []
        with pytest.raises(penstock.PenstockError) as caught:  # noqa: PT012
            async for text in stream.text:
                texts.append(text)
        assert type(caught.value) is kind
        assert texts == ["Hel", "lo"]
        # Closed, or (after a proper end of the body) idle: never left in between.
        assert client._endpoint.service.live == set()
        for read in (stream.collect, stream.read_batch, lambda: anext(stream)):
            with pytest.raises(kind):
                await read()
        assert stream.state is StreamState.FAILED
    assert network.open_connections == 0
    error = caught.value
    for seen in (error, copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert type(seen) is kind
        assert str(seen) == str(error)
        assert seen.request_id == "req-7"
        assert seen.partial is not None
        assert seen.partial == error.partial == stream.partial
        assert seen.partial.choices[0].message.content == "Hello"
    assert len(network.requests) == 1


async def test_a_failure_of_the_opening_comes_again_too() -> None:
    network = MemoryNetwork(error_reply(402))
    async with client_on(network) as client:
        stream = client.chat.completions.stream(**REQUEST)
        for _ in range(3):
            with pytest.raises(penstock.InsufficientCreditsError):
                await stream.collect()
    assert len(network.requests) == 1


@pytest.mark.parametrize("patience", [0.1, 0.4, 1.0])
async def test_reads_that_are_cancelled_lose_nothing(patience: float) -> None:
    network = MemoryNetwork([error_reply(500), slowly(*tokens(*WORDS)).after(2)], delay=1)
    async with client_on(network) as client:
        stream = client.chat.completions.stream(**REQUEST)
        texts: list[str] = []
        while True:
            with anyio.move_on_after(patience):
                try:
                    chunk = await anext(stream)
                except StopAsyncIteration:
                    break
                texts.append(chunk.choices[0].delta.content or "")
                continue
            await anyio.sleep(0.05)
            if stream.state is StreamState.NEW or stream.statistics().headers is None:
                # A cancelled opening starts anew; give it the time it needs.
                await stream.__aenter__()
        assert "".join(texts) == TEXT


# --- what nobody closes ---


async def test_a_forgotten_stream_that_was_complete_is_closed_without_a_word(
    recwarn: pytest.WarningsRecorder,
) -> None:
    before, after = split_at(HELLO, [len(HELLO.data) - 5]).steps
    network = MemoryNetwork(Reply((before, Pause(10), after)))
    async with client_on(network) as client:
        stream = client.chat.completions.stream(**REQUEST)
        await stream.__aenter__()
        await stream.collect()
        exchange = stream._reader.sender.exchange
        assert exchange is not None
        settled = [exchange.settled]  # its end has not come
        del stream
        gc.collect()
        settled.append(exchange.settled)
        assert settled == [False, True]
    assert not recwarn.list


async def test_a_forgotten_stream_warns_and_one_that_was_read_does_not() -> None:
    async with client_on(MemoryNetwork([HELLO, HANGING])) as client:
        stream = client.chat.completions.stream(**REQUEST)
        await stream.collect()
        del stream
        gc.collect()
        stream = client.chat.completions.stream(**REQUEST)
        await anext(stream)
        kept = [stream]
        del stream
        with pytest.warns(ResourceWarning, match="unclosed <CompletionStream") as caught:
            kept.clear()
        assert KEY not in str(caught[0].message)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (json_reply({"detail": "streaming is off"}), "streaming is off"),
        (status_reply(200, "Hi!", {"content-type": "text/x"}), r"\(content type text/x\): Hi!"),
    ],
)
async def test_an_answer_that_is_no_stream(answer: Reply, told: str) -> None:
    async with client_on(MemoryNetwork(answer)) as client:
        with pytest.raises(penstock.APIResponseError, match=told):
            async with client.chat.completions.stream(**REQUEST) as stream:
                await stream.collect()


async def test_an_answer_that_has_begun_holds_no_prompt() -> None:
    async with (
        client_on(MemoryNetwork(HANGING)) as client,
        client.chat.completions.stream(**REQUEST) as stream,
    ):
        sender = stream._reader.sender
        headers, raw = dict(stream.headers), stream.raw_headers
        assert b"Hello!" in sender.call.outgoing.body  # it may have to be sent again
        await anext(stream)
        assert sender.call.outgoing.body == b""
        assert dict(stream.headers) == headers
        assert stream.raw_headers == raw
        assert REQUEST["model"] in repr(stream)


@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize("observed", [False, True])
async def test_nothing_else_holds_the_prompt_of_an_answer_that_has_begun(
    spread: bool, observed: bool
) -> None:
    watcher = Watcher() if observed else None
    one = client_on(MemoryNetwork(HANGING), observer=watcher)
    client = Spread([one, client_on(MemoryNetwork(HANGING))]) if spread else one
    async with client, client.chat.completions.stream(**REQUEST) as stream:
        body = stream._reader.sender.call.outgoing.body
        if watcher is not None:
            (started,) = watcher.of("request_started")
            assert bytes(started.body) == body
            watcher.events.clear()
            del started
        await anext(stream)
        assert sys.getrefcount(body) <= 2  # `body`, and the argument
