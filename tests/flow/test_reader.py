"""`Reader` by itself; what its user sees of it is in test_stream."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import CompletionStream, StreamBusyError, StreamState
from penstock._flow.reader import Reader
from penstock.testing.clock import virtual
from penstock.testing.cuts import split_at
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import sse_reply, tokens
from penstock.testing.script import Pause, Reply, Reset, Stall
from tests.support.chat import REQUEST, client_on

__all__ = ["anyio_backend"]

WORDS = ["Hel", "lo", " wor", "ld", "!"]
HELLO = sse_reply(tokens(*WORDS))


def reader_of(stream: CompletionStream) -> Reader:
    return stream._reader


@given(
    cuts=st.lists(st.integers(1, len(HELLO.data) - 1)),
    taken=st.lists(st.integers(0, 3)),
    backend=st.sampled_from(["asyncio", "trio"]),
)
def test_what_is_unread_stays_in_front_and_out_of_the_partial_answer(
    cuts: list[int], taken: list[int], backend: str
) -> None:
    async def main() -> None:
        async with client_on(MemoryNetwork(split_at(HELLO, cuts))) as client:
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
            await reader.close("abandoned")

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
        await reader.close("abandoned")


@pytest.mark.anyio
async def test_numbers_and_headers_before_and_after() -> None:
    hanging = sse_reply([*tokens("a", "b", finish=None), Stall()], done=False)
    async with client_on(MemoryNetwork([hanging])) as client:
        reader = reader_of(client.chat.completions.stream(**REQUEST))
        assert len(reader.headers) == 0
        assert reader.statistics().events == 0
        with anyio.move_on_after(3):
            while await reader.fill():
                reader.pos = len(reader.batch)
        assert reader.headers["content-type"] == "text/event-stream"
        numbers = reader.statistics()
        assert numbers.events == 3
        assert numbers.waited_for_consumer == pytest.approx(0)
        # What was read is folded before the batch is dropped.
        await reader.close("abandoned")
        assert reader.sender.lifecycle.state is StreamState.CLOSED
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
        await reader.close("abandoned")


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
        await reader.close("abandoned")


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
