"""Promise 3 before the head: a bare stream polled with short timeouts goes on waiting.

The wait for the head, and for the words of a refusal, keeps its connection when the read that
was in it is cancelled: the request is sent once, however short the caller's timeouts are.
"""

from __future__ import annotations

import gc
import warnings
from typing import Any

import anyio
import pytest

import penstock
from penstock.testing.cuts import cut_after_head, drip, every_byte
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import error_reply, sse_reply, tokens
from penstock.testing.script import Pause, Reply, Send, Stall
from tests.support.chat import REQUEST, client_on

from .evidence import count
from .virtual_uvloop import virtual_backend as anyio_backend

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

HELLO = sse_reply(tokens("Hel", "lo"))


async def polled(stream: Any, seconds: float) -> str:
    """The text of a stream of which each read is given so long."""
    text = ""
    while True:
        with anyio.move_on_after(seconds):
            try:
                chunk = await stream.__anext__()
            except StopAsyncIteration:
                return text
            text += chunk.choices[0].delta.content or ""
            continue
        count("cancel points")


@pytest.mark.parametrize("seconds", [0.01, 0.3, 0.7])
async def test_a_slow_head_is_waited_for_in_many_reads(seconds: float) -> None:
    network = MemoryNetwork(HELLO.after(2))
    async with client_on(network) as client:
        assert await polled(client.chat.completions.stream(**REQUEST), seconds) == "Hello"
    assert len(network.requests) == 1


async def test_a_head_that_drips_in_is_put_together_over_many_reads() -> None:
    dripping = Reply(
        tuple(step for piece in every_byte(HELLO).steps for step in (piece, Pause(0.25)))
    )
    network = MemoryNetwork(dripping)
    async with client_on(network) as client:
        assert await polled(client.chat.completions.stream(**REQUEST), 0.1) == "Hello"
    assert len(network.requests) == 1


def dripping(answer: Reply) -> Reply:
    """A piece of a few bytes every quarter of a second."""
    pieces = [
        Send(step.data[at : at + 40])
        for step in answer.steps
        if isinstance(step, Send)
        for at in range(0, len(step.data), 40)
    ]
    return Reply(tuple(step for piece in pieces for step in (Pause(0.25), piece)))


@pytest.mark.parametrize("seconds", [0.1, 0.3])
async def test_a_refusal_is_read_to_its_end_over_many_reads(seconds: float) -> None:
    # The server has answered: asking again because its words are slow would be a second request.
    refusal = error_reply(400, "too many messages, " * 20)
    network = MemoryNetwork([dripping(refusal), HELLO])
    limiter = penstock.Limiter(1)
    async with client_on(network, limiter=limiter) as client:
        stream = client.chat.completions.stream(**REQUEST)
        with pytest.raises(penstock.BadRequestError) as caught:
            await polled(stream, seconds)
        assert str(caught.value).count("too many messages") == 20
        assert len(network.requests) == 1
        assert limiter.statistics().in_flight == 0
        with pytest.raises(penstock.BadRequestError):
            await stream.__anext__()
    assert len(network.requests) == 1


@pytest.mark.parametrize("max_retries", [0, 1])
async def test_a_refusal_in_many_reads_counts_as_one_attempt(max_retries: int) -> None:
    network = MemoryNetwork([dripping(error_reply(503)), HELLO])
    async with client_on(network, max_retries=max_retries) as client:
        stream = client.chat.completions.stream(**REQUEST)
        if max_retries:
            assert await polled(stream, 0.1) == "Hello"
        else:
            with pytest.raises(penstock.EndpointNotReadyError):
                await polled(stream, 0.1)
        assert stream.statistics().attempts == 1 + max_retries
    assert len(network.requests) == 1 + max_retries


async def test_an_informational_head_before_it_is_no_obstacle() -> None:
    early = Reply((Send(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"), Pause(1), *HELLO.steps))
    network = MemoryNetwork(early)
    async with client_on(network) as client:
        assert await polled(client.chat.completions.stream(**REQUEST), 0.1) == "Hello"
    assert len(network.requests) == 1


async def test_retries_go_on_as_without_the_callers_timeouts() -> None:
    network = MemoryNetwork([error_reply(500).after(1), HELLO.after(1)])
    async with client_on(network) as client:
        assert await polled(client.chat.completions.stream(**REQUEST), 0.1) == "Hello"
    assert len(network.requests) == 2


async def test_the_waits_add_up_to_the_deadline() -> None:
    network = MemoryNetwork(Reply((Stall(),)))
    timeouts = penstock.Timeouts(first_token=3)
    async with client_on(network, timeouts=timeouts) as client:
        with pytest.raises(penstock.FirstTokenTimeout):
            await polled(client.chat.completions.stream(**REQUEST), 0.25)
        assert anyio.current_time() == pytest.approx(3)
    assert (len(network.requests), network.open_connections) == (1, 0)


async def read_once(stream: Any) -> None:
    with anyio.move_on_after(1):
        await stream.__anext__()


@pytest.mark.sampled(0.34)
@pytest.mark.parametrize("by", ["stream", "client", "nobody"])
async def test_who_polls_no_further_closes_it(by: str) -> None:
    network = MemoryNetwork(Reply((Stall(),)))
    async with client_on(network) as client:
        stream = client.chat.completions.stream(**REQUEST)
        # In a task of its own: a coroutine may keep the exception that its last scope
        # swallowed, and with it the stream.
        async with anyio.create_task_group() as group:  # noqa: ASYNC112 - not in this task
            group.start_soon(read_once, stream)
        assert (stream.state, network.open_connections) == ("sending", 1)
        if by == "stream":
            await stream.aclose()
        elif by == "client":
            await client.aclose()
        else:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                del stream
                gc.collect()
            assert [warning.category for warning in caught] == [ResourceWarning]
            return
        assert network.open_connections == 0
        with pytest.raises(penstock.StreamClosedError):
            await stream.__anext__()


async def test_leaving_a_block_keeps_nothing() -> None:
    network = MemoryNetwork(HELLO.after(2))
    async with client_on(network) as client:
        stream = client.chat.completions.stream(**REQUEST)
        with anyio.move_on_after(1):
            await stream.__aenter__()
        assert (stream.state, network.open_connections) == ("new", 0)
        assert await polled(stream, 10) == "Hello"


@pytest.mark.parametrize("seconds", [0.01, 0.3, 0.7])
async def test_a_refusal_whose_body_drips_in_is_read_over_many_reads(seconds: float) -> None:
    dripping = drip(error_reply(400, "no such model"), 0.05, size=9)
    network = MemoryNetwork([dripping, HELLO])
    async with client_on(network) as client:
        with pytest.raises(penstock.BadRequestError, match="no such model"):
            await polled(client.chat.completions.stream(**REQUEST), seconds)
    assert (len(network.requests), network.open_connections) == (1, 0)


async def test_a_refusal_that_was_broken_off_counts_and_keeps_its_pause() -> None:
    refusal = cut_after_head(error_reply(429, headers={"retry-after": "7"}), Stall())
    network = MemoryNetwork([refusal, HELLO])
    async with client_on(network, timeouts=penstock.Timeouts(read=3)) as client:
        assert await polled(client.chat.completions.stream(**REQUEST), 0.4) == "Hello"
    first, second = network.requests
    # The deadline gave the body up after 3 seconds.
    assert second.time - first.time == pytest.approx(10)


async def test_a_block_that_is_tried_again_knows_how_it_was_refused() -> None:
    refusal = cut_after_head(error_reply(404), Stall())
    network = MemoryNetwork([refusal, HELLO])
    async with client_on(network) as client:
        stream = client.chat.completions.stream(**REQUEST)
        with anyio.move_on_after(1):
            await stream.__aenter__()
        assert network.open_connections == 0
        with pytest.raises(penstock.NotFoundError):
            await stream.__aenter__()
    assert len(network.requests) == 1
