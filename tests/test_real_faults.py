"""What becomes of a real server, seen through the library: llama.cpp with SmolLM2, in a process.

It is killed in the middle of an answer, stopped, filled up and started again, and eight streams
of it are cancelled at once.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from anyio.abc import TaskStatus

import penstock
from penstock import AsyncClient, CompletionStream, Timeouts
from penstock._local.process import MODEL_NAME
from penstock.testing.plugin import real_backend as anyio_backend
from tests.support.real_server import RealServer, real_server, slots
from tests.support.sweeps import in_turn

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

ENDLESS: dict[str, Any] = {
    "model": MODEL_NAME,
    "messages": [{"role": "user", "content": "1"}],
    "max_tokens": 1900,
    "ignore_eos": True,
}
SHORT: dict[str, Any] = {**ENDLESS, "max_tokens": 2}
PATIENCE = 60
"""Seconds that anything may take on a machine that others use as well."""


@pytest.fixture(scope="module")
def small_server() -> Iterator[RealServer]:
    with real_server(2) as server:
        yield server


@pytest.fixture
def two_slots(small_server: RealServer) -> RealServer:
    # Whatever the test before has come to.
    small_server.recover()
    return small_server


@pytest.fixture(scope="module")
def eight_slots() -> Iterator[RealServer]:
    with real_server(8) as server:
        yield server


@asynccontextmanager
async def patient_client(server: RealServer, **more: Any) -> AsyncIterator[AsyncClient]:
    with anyio.fail_after(PATIENCE):
        async with AsyncClient(server.base_url, proxy="", **more) as client:
            yield client


@asynccontextmanager
async def observing(server: RealServer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.root, proxy="") as observer:
        yield observer


async def until(condition: Callable[[], bool]) -> None:
    """Wait, where what is waited for tells nobody."""
    while True:
        if condition():
            return
        await anyio.sleep(0.005)


async def busy(observer: AsyncClient, number: int) -> None:
    """Wait until so many slots are answering."""
    with anyio.fail_after(PATIENCE):
        while True:
            if sum(slot["is_processing"] for slot in await slots(observer)) == number:
                return
            await anyio.sleep(0.01)


async def read(stream: CompletionStream, pieces: int) -> str:
    """So many pieces of its text."""
    text = ""
    async for piece in stream.text:
        text += piece
        pieces -= 1
        if pieces == 0:
            break
    return text


async def read_on(stream: CompletionStream, text: list[str]) -> None:
    async for piece in stream.text:
        text.append(piece)


async def answers(client: AsyncClient, **more: Any) -> None:
    # Not streamed: then the connection is always kept, however late the end of the body comes.
    completion = await client.chat.completions.create(**SHORT, **more)
    assert completion.choices[0].finish_reason == "length"


async def restart(server: RealServer) -> None:
    server.kill()
    await anyio.to_thread.run_sync(server.start)


@in_turn(0)
async def test_killed_in_the_middle_of_an_answer(two_slots: RealServer) -> None:
    async with patient_client(two_slots) as client:
        stream = client.chat.completions.stream(**ENDLESS)
        async with stream:
            text = [await read(stream, 2)]
            two_slots.kill()
            with pytest.raises(penstock.StreamInterruptedError) as caught:
                await read_on(stream, text)
        assert type(caught.value) is penstock.StreamInterruptedError
        partial = caught.value.partial
        assert partial is not None
        (choice,) = partial.choices
        assert choice.message.content == "".join(text) != ""
        assert choice.finish_reason is None
        # What has begun is not sent again, though a retry was allowed.
        assert stream.statistics().attempts == 1
        with pytest.raises(penstock.APIConnectionError):
            await answers(client, max_retries=0)
        await anyio.to_thread.run_sync(two_slots.start)
        await answers(client, max_retries=0)


@in_turn(1)
async def test_kept_connections_to_a_server_that_was_started_again(two_slots: RealServer) -> None:
    async with patient_client(two_slots) as client:
        async with anyio.create_task_group() as group:
            group.start_soon(answers, client)
            group.start_soon(answers, client)
        assert len(client._connections._idle) == 2
        await restart(two_slots)
        # Both are dead; not one request fails of it, nor needs an attempt.
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(lambda: answers(client, max_retries=0))


@in_turn(2)
async def test_a_request_that_is_out_when_the_server_is_started_again(
    two_slots: RealServer,
) -> None:
    async with patient_client(two_slots, max_retries=8) as client:
        await answers(client)
        # It takes the request on the kept connection, and never looks at it.
        two_slots.stop()
        stream = client.chat.completions.stream(**SHORT)
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                async with stream:
                    await stream.collect()

            group.start_soon(ask)
            await until(lambda: stream.state == "sending")
            await restart(two_slots)
        assert stream.state == "completed"
        assert stream.statistics().attempts > 1


@in_turn(3)
async def test_stopped_in_the_middle_of_answers(two_slots: RealServer) -> None:
    errors: dict[str, penstock.APITimeoutError] = {}
    texts: dict[str, list[str]] = {}
    stopped = anyio.Event()

    async def follow(name: str, timeouts: Timeouts) -> None:
        async with client.chat.completions.stream(**ENDLESS, timeouts=timeouts) as stream:
            texts[name] = [await read(stream, 2)]
            if len(texts) == 2:
                two_slots.stop()
                stopped.set()
            with pytest.raises(penstock.APITimeoutError) as caught:
                await read_on(stream, texts[name])
        assert stopped.is_set()
        errors[name] = caught.value

    async def ask_in_vain(name: str, timeouts: Timeouts) -> None:
        await stopped.wait()
        with pytest.raises(penstock.APITimeoutError) as caught:
            await client.complete(SHORT, timeouts=timeouts)
        errors[name] = caught.value

    async with patient_client(two_slots) as client, observing(two_slots) as observer:
        async with anyio.create_task_group() as group:
            group.start_soon(follow, "idle", Timeouts(idle=3))
            group.start_soon(follow, "read", Timeouts(read=3))
            group.start_soon(ask_in_vain, "first read", Timeouts(read=2))
            group.start_soon(ask_in_vain, "first token", Timeouts(first_token=2))
        assert {name: type(error) for name, error in errors.items()} == {
            "idle": penstock.IdleTimeout,
            "read": penstock.ReadTimeout,
            "first read": penstock.ReadTimeout,
            "first token": penstock.FirstTokenTimeout,
        }
        for name, text in texts.items():
            partial = errors[name].partial
            assert partial is not None
            assert partial.choices[0].message.content == "".join(text) != ""
        two_slots.go_on()
        await busy(observer, 0)
        await answers(client)


@in_turn(4)
async def test_more_requests_than_slots(two_slots: RealServer) -> None:
    leave = anyio.CancelScope()
    waiting_text = ""

    async def occupy(*, task_status: TaskStatus[CompletionStream]) -> None:
        with leave:
            async with client.chat.completions.stream(**ENDLESS) as stream:
                await read(stream, 1)
                task_status.started(stream)
                await read_on(stream, [])

    async def wait_for_a_slot() -> None:
        nonlocal waiting_text
        async with client.chat.completions.stream(**ENDLESS) as stream:
            waiting_text = await read(stream, 1)

    async with (
        patient_client(two_slots) as client,
        observing(two_slots) as observer,
        client.chat.completions.stream(**ENDLESS) as other,
    ):
        await read(other, 1)
        async with anyio.create_task_group() as group:
            await group.start(occupy)
            group.start_soon(wait_for_a_slot)
            began = time.monotonic()
            with pytest.raises(penstock.FirstTokenTimeout):
                await client.complete(SHORT, timeouts=Timeouts(first_token=1))
            assert time.monotonic() - began >= 1
            await busy(observer, 2)
            assert waiting_text == ""
            leave.cancel()
        assert waiting_text
        # The other one was not disturbed.
        assert await read(other, 1)
        await other.aclose()
        await busy(observer, 0)


@dataclass
class Stopping:
    """What the server says of eight streams that were cancelled at once."""

    seconds: float
    """From the cancellation until it is known that no slot is answering."""
    interval: float
    """Seconds from one token of a stream to the next, before."""
    tokens: int
    """That one slot has generated since, at the most."""

    @property
    def in_time(self) -> bool:
        return self.seconds <= max(0.1, 3 * self.interval) and self.tokens <= 2


async def cancelled_at_once(server: RealServer, observer: AsyncClient) -> Stopping:
    received = [0] * 8

    async def follow(client: AsyncClient, index: int) -> None:
        async with client.chat.completions.stream(**ENDLESS) as stream:
            async for _ in stream.text:
                received[index] += 1

    async with patient_client(server) as client:
        async with anyio.create_task_group() as group:
            for index in range(8):
                group.start_soon(follow, client, index)
            await until(lambda: min(received) >= 1)
            began, before = time.monotonic(), sum(received)
            await until(lambda: min(received) >= 4)
            interval = 8 * (time.monotonic() - began) / (sum(received) - before)
            generated = {slot["id"]: decoded(slot) for slot in await slots(observer)}
            assert len(generated) == 8
            assert all(generated.values())
            cancelled = time.monotonic()
            group.cancel_scope.cancel()
        tokens = 0
        while True:
            now = await slots(observer)
            seconds = time.monotonic() - cancelled
            working = [slot for slot in now if slot["is_processing"]]
            if not working:
                return Stopping(seconds, interval, tokens)
            tokens = max(tokens, *(decoded(slot) - generated[slot["id"]] for slot in working))
            # Not in a tight loop: it answers these before it looks at anything else.
            await anyio.sleep(0.01)


def decoded(slot: dict[str, Any]) -> int:
    """The tokens that it has generated for the request it is at."""
    return sum(token["n_decoded"] for token in slot.get("next_token", []))


@in_turn(5)
async def test_eight_cancelled_streams_stop_the_generating(eight_slots: RealServer) -> None:
    # The server notices between two tokens: when it sends the next one, and acts on it before
    # the one after. On a machine that others use as well that alone may take more than 100 ms,
    # so three times the time of a token counts where that is more, and the best of five
    # measurements.
    found: list[Stopping] = []
    async with observing(eight_slots) as observer:
        while not found or (not found[-1].in_time and len(found) < 5):
            found.append(await cancelled_at_once(eight_slots, observer))
    assert found[-1].in_time, found
