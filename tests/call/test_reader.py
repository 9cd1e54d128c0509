"""`Reader` by itself; what its user sees of it is in test_stream."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import (
    CompletionStream,
    FirstTokenTimeout,
    IdleTimeout,
    PenstockError,
    ReadTimeout,
    StreamBusyError,
    StreamClosedError,
    StreamInterruptedError,
    StreamState,
    Timeouts,
    TotalTimeout,
)
from penstock._call.reader import Reader
from penstock._http.network import ConnectionFailed
from penstock.testing.clock import virtual
from penstock.testing.cuts import split_at
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import sse_reply, tokens
from penstock.testing.script import Pause, Reply, Reset, Stall, reply
from tests.support.chat import REQUEST, Watcher, client_on

__all__ = ["anyio_backend"]

WORDS = ["Hel", "lo", " wor", "ld", "!"]
HELLO = sse_reply(tokens(*WORDS))
# As live streams send it.
ONE_BY_ONE = sse_reply([part for event in tokens(*WORDS) for part in (Pause(1), event)])


def reader_of(stream: CompletionStream) -> Reader:
    return stream._reader


@given(
    answer=st.just(ONE_BY_ONE)
    | st.lists(st.integers(1, len(HELLO.data) - 1)).map(lambda cuts: split_at(HELLO, cuts)),
    taken=st.lists(st.integers(0, 3)),
    backend=st.sampled_from(["asyncio", "trio"]),
)
def test_what_is_unread_stays_in_front_and_out_of_the_partial_answer(
    answer: Reply, taken: list[int], backend: str
) -> None:
    async def main() -> None:
        async with client_on(MemoryNetwork(answer)) as client:
            reader = reader_of(client.chat.completions.stream(**REQUEST))
            steps = iter(taken)
            handed: list[str] = []
            while await reader.fill():
                for chunk in reader.batch[reader.pos :][: next(steps, 0)]:
                    reader.pos += 1
                    handed += [c.delta.content for c in chunk.choices if c.delta.content]
                assert "".join(handed) == (
                    reader.partial.choices[0].message.content or "" if handed else ""
                )
            # Nothing was handed out twice, nothing was dropped.
            assert handed + unread_texts(reader) == WORDS
            await reader.aclose("abandoned")

    name, options = virtual(backend)
    anyio.run(main, backend=name, backend_options=options)


def unread_texts(reader: Reader) -> list[str]:
    unread = reader.batch[reader.pos :]
    return [c.delta.content for chunk in unread for c in chunk.choices if c.delta.content]


@pytest.mark.anyio
async def test_a_block_is_entered_by_one_at_a_time_and_a_failed_entry_leaves_it_usable() -> None:
    async with client_on(MemoryNetwork([HELLO.after(5)])) as client:
        reader = reader_of(client.chat.completions.stream(**REQUEST))
        async with anyio.create_task_group() as group:
            group.start_soon(reader.enter)
            await anyio.sleep(1)
            for again in (reader.enter, reader.fill):
                with pytest.raises(StreamBusyError):
                    await again()
        assert reader.managed
        assert await reader.fill()
        await reader.aclose("abandoned")


@pytest.mark.anyio
async def test_numbers_and_headers_before_and_after() -> None:
    hanging = sse_reply([*tokens("a", "b", finish=None), Stall()], done=False)
    async with client_on(MemoryNetwork([hanging])) as client:
        reader = reader_of(client.chat.completions.stream(**REQUEST))
        assert len(reader.headers) == 0
        before = reader.statistics()
        assert (before.attempts, before.events, before.bytes) == (0, 0, 0)
        with anyio.move_on_after(3):
            while await reader.fill():
                reader.pos = len(reader.batch)
        assert reader.headers["content-type"] == "text/event-stream"
        numbers = reader.statistics()
        assert (numbers.attempts, numbers.events) == (1, 3)
        # The body as it came, its framing included, but for the end that is behind the stall.
        body = hanging.data.partition(b"\r\n\r\n")[2]
        assert numbers.bytes == len(body.removesuffix(b"0\r\n\r\n"))
        assert numbers.waited_for_consumer == pytest.approx(0)
        # What was read is folded before the batch is dropped.
        await reader.aclose("abandoned")
        assert reader.sender.state is StreamState.CLOSED
        assert (reader.batch, reader.pos) == ([], 0)
        assert reader.partial.choices[0].message.content == "ab"


@pytest.mark.anyio
async def test_a_cancelled_entry_closes_the_connection_that_waits_for_the_head() -> None:
    network = MemoryNetwork(HELLO.after(5))
    async with client_on(network) as client:
        reader = reader_of(client.chat.completions.stream(**REQUEST))
        with anyio.move_on_after(3):
            await reader.enter()
        assert network.open_connections == 0
        await reader.enter()
        assert len(network.requests) == 2
        await reader.aclose("abandoned")


@pytest.mark.anyio
@pytest.mark.parametrize("broken", [0, 1])
async def test_a_cancelled_read_keeps_the_connection_that_waits_for_the_head(broken: int) -> None:
    # Also where the attempt before broke off after its head.
    script = [*[sse_reply([Reset()], done=False)] * broken, HELLO.after(5)]
    network = MemoryNetwork(script)
    async with client_on(network) as client:
        reader = reader_of(client.chat.completions.stream(**REQUEST))
        with anyio.move_on_after(3):
            await reader.fill()
        assert network.open_connections == 1
        assert await reader.fill()
        assert len(network.requests) == 1 + broken
        await reader.aclose("abandoned")


@pytest.mark.anyio
async def test_a_whole_answer_read_without_a_block_is_given_a_moment_for_its_end() -> None:
    before, after = split_at(HELLO, [len(HELLO.data) - 5]).steps
    network = MemoryNetwork(Reply((before, Pause(0.01), after)))
    async with client_on(network) as client:
        for _ in range(2):
            await client.chat.completions.stream(**REQUEST).collect()
    assert len(network.connections) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("whole", [True, False])
async def test_only_a_whole_answer_is_given_a_moment_for_its_end(whole: bool) -> None:
    late = [len(HELLO.data) - 5] if whole else [len(HELLO.data) // 2]
    before, after = split_at(HELLO, late).steps
    network = MemoryNetwork(Reply((before, Pause(0.01), after)))
    async with client_on(network) as client:
        for _ in range(2):
            async with client.chat.completions.stream(**REQUEST) as stream:
                await (stream.collect() if whole else anext(stream))
    assert len(network.connections) == (1 if whole else 2)
    assert anyio.current_time() == pytest.approx(0.02 if whole else 0)


@pytest.mark.anyio
async def test_the_sentinel_is_no_event() -> None:
    async with client_on(HELLO) as client:
        stream = client.chat.completions.stream(**REQUEST)
        await stream.collect()
        assert reader_of(stream).statistics().events == len(WORDS) + 2  # the role, the reason


@pytest.mark.anyio
@pytest.mark.parametrize("framing", [True, False, "close"])
async def test_an_answer_without_the_sentinel_ends_with_its_body(framing: Any) -> None:
    whole = sse_reply(tokens(*WORDS), done=False, chunked=framing)
    async with client_on(whole) as client:
        answer = await client.chat.completions.stream(**REQUEST).collect()
    assert answer.choices[0].message.content == "".join(WORDS)


@pytest.mark.anyio
@pytest.mark.parametrize("said", ["[DONE]", '{"error":"no"}', "{"])
async def test_what_ends_an_answer_ends_it_at_once_though_the_server_says_no_more(
    said: str,
) -> None:
    hanging = sse_reply([*tokens("a", finish=None), said, Stall()], done=False)
    async with client_on(hanging, timeouts=Timeouts(read=50)) as client:
        reader = reader_of(client.chat.completions.stream(**REQUEST))
        assert await reader.fill()
        if said == "[DONE]":
            assert not await reader.fill()
        else:
            with pytest.raises(PenstockError):
                await reader.fill()
        # A moment for the end of the body, which may be on its way.
        assert anyio.current_time() < 1


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("timeouts", "kind", "at"),
    [
        (Timeouts(read=3), ReadTimeout, 7),
        (Timeouts(first_token=1.5), FirstTokenTimeout, 1.5),
        (Timeouts(idle=2.5), IdleTimeout, 4.5),
        (Timeouts(total=3), TotalTimeout, 3),
    ],
)
async def test_deadlines_while_it_is_read(
    timeouts: Timeouts, kind: type[PenstockError], at: float
) -> None:
    # A token at 2, a ping at 4, and nothing more.
    answer: list[Any] = [Pause(2), *tokens("a", finish=None), Pause(2), b": ping\n\n", Stall()]
    async with client_on(sse_reply(answer, done=False), timeouts=timeouts) as client:
        reader = reader_of(client.chat.completions.stream(**REQUEST))
        with pytest.raises(PenstockError) as caught:  # noqa: PT012
            while await reader.fill():
                reader.pos = len(reader.batch)
        assert type(caught.value) is kind
        assert anyio.current_time() == pytest.approx(at, abs=1e-3)


@pytest.mark.anyio
@pytest.mark.parametrize("sent", [b"5\r\n", b"5", b"1"])
async def test_also_a_byte_of_the_body_s_framing_is_one(sent: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
    network = MemoryNetwork([reply(head + b"\r\n" + sent, Reset()), HELLO])
    async with client_on(network) as client:
        with pytest.raises(StreamInterruptedError) as caught:
            await reader_of(client.chat.completions.stream(**REQUEST)).fill()
    # Never sent twice.
    assert len(network.requests) == 1
    assert isinstance(caught.value.__cause__, ConnectionFailed)


@pytest.mark.anyio
async def test_a_client_that_is_closed_ends_the_read() -> None:
    hanging = sse_reply([*tokens("a", finish=None), Stall()], done=False)
    async with client_on(hanging) as client:
        reader = reader_of(client.chat.completions.stream(**REQUEST))
        assert await reader.fill()
        async with anyio.create_task_group() as group:
            group.start_soon(client.aclose)
            with pytest.raises(StreamClosedError, match="client"):
                await reader.fill()
        assert reader.sender.state is StreamState.CLOSED


@pytest.mark.anyio
@pytest.mark.parametrize("way", ["closed", "failed"])
async def test_an_observer_is_told_why_a_block_was_not_entered(way: str) -> None:
    watcher = Watcher()

    def key() -> str:
        raise LookupError

    options: dict[str, Any] = {"api_key": key} if way == "failed" else {}
    async with client_on(HELLO.after(5), observer=watcher, **options) as client:
        reader = reader_of(client.chat.completions.stream(**REQUEST))
        async with anyio.create_task_group() as group:
            group.start_soon(close_after_a_second, reader)
            with pytest.raises((StreamClosedError, LookupError)) as caught:
                await reader.enter()
    (finished,) = watcher.of("finished")
    assert finished.outcome == ("abandoned" if way == "closed" else "failed")
    if way == "failed":
        assert finished.error is caught.value


async def close_after_a_second(reader: Reader) -> None:
    await anyio.sleep(1)
    await reader.aclose("abandoned")
