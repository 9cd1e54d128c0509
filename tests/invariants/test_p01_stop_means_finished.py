"""Promise 1: iteration ends only when the server has finished; anything else is an error."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

import penstock
from penstock import AsyncClient, Timeouts
from penstock.testing.memory import MemoryNetwork
from penstock.testing.script import End, Pause, Reply, Reset, Send, Step
from tests.support.chat import REQUEST, URL

from .offsets import offsets
from .recorded import FAULTS, RECORDINGS, REFUSALS, WHOLE, Fault, Text, cut, read, text_of, worth
from .virtual_uvloop import virtual_backend as anyio_backend

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

READ = Timeouts(read=30.0)
IDLE = Timeouts(read=None, first_token=20.0, idle=20.0)
REAL = ("llamacpp", "litellm", "litellm-usage")  # long ones
WITH_HEAD = ("length-done", "logprobs")  # the others' heads are read in the same way


@pytest.mark.sampled(0.2)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", RECORDINGS)
async def test_cut_at_every_byte(name: str, fault: Fault) -> None:
    data = RECORDINGS[name]
    # Of the long ones each byte under one of the faults; one is another's, and a chunk more.
    step = 3 if len(data) > 1000 else 1
    shift = list(FAULTS).index(fault) if step == 3 else 0
    step = 7 if name == "litellm" else step
    for n in offsets(data, head=name in WITH_HEAD, step=step, shift=shift):
        expected = worth(data, n, fault, penstock.ReadTimeout)
        network = MemoryNetwork(cut(data, n, fault))
        text = Text()
        error: penstock.PenstockError | None = None
        async with AsyncClient(URL, network=network, timeouts=READ, max_retries=0) as client:
            stream = client.chat.completions.stream(**REQUEST)
            started = anyio.current_time()
            try:
                if n % 2:
                    await read(stream, text)
                else:
                    async with stream:
                        await read(stream, text)
            except penstock.PenstockError as caught:
                error = caught
                # Whoever reads on after a failure meets it again, not an end.
                with pytest.raises(type(caught)):
                    await anext(stream)
            where = f"{name}, {fault} after {n} bytes: {data[max(0, n - 40) : n]!r}"
            assert (None if error is None else type(error)) is expected.error, where
            assert text == expected.text, where
            assert text_of(stream.partial) == expected.text, where
            if error is None:
                assert stream.state == "completed", where
            else:
                assert stream.state == "failed", where
                assert text_of(error.partial) == expected.text, where
                assert (error.partial is not None) or not expected.begun, where
                # An error that was told in a body that was whole leaves its connection idle.
                clean = expected.error is penstock.StreamError and n == len(data)
                assert network.open_connections == (clean and fault == "stall"), where
            if expected.error is penstock.ReadTimeout:
                assert anyio.current_time() == started + 30.0, where
        assert network.open_connections == 0, where
        assert len(network.requests) <= 1, where


@pytest.mark.parametrize("name", ["close", "tools", "llamacpp", "litellm-usage"])
async def test_stalled_at_every_byte_with_deadlines_for_tokens(name: str) -> None:
    data = RECORDINGS[name]
    for n in offsets(data, step=5 if name in REAL else 1):
        expected = worth(data, n, "stall", penstock.FirstTokenTimeout)
        seen = any(expected.text.choices.values())
        # In "tools" the first event has the first piece of a call.
        if expected.error is not None and (seen or (name == "tools" and expected.text.choices)):
            expected.error = penstock.IdleTimeout
        network = MemoryNetwork(cut(data, n, "stall"))
        async with AsyncClient(URL, network=network, timeouts=IDLE, max_retries=0) as client:
            stream = client.chat.completions.stream(**REQUEST)
            started = anyio.current_time()
            if expected.error is None:
                assert text_of(await stream.collect()) == expected.text
                continue
            with pytest.raises(expected.error) as caught:
                await stream.collect()
            assert type(caught.value) is expected.error
            assert text_of(caught.value.partial) == expected.text, n
            assert anyio.current_time() == started + 20.0


@pytest.mark.parametrize("name", ["length", "close-done", "llamacpp", "litellm"])
async def test_cancelled_at_every_byte(name: str) -> None:
    data = RECORDINGS[name]
    whole = worth(data, len(data), "end", penstock.ReadTimeout).text
    for n in offsets(data, step=5 if name in REAL else 1):
        here = worth(data, n, "stall", penstock.ReadTimeout)
        steps: list[Step] = [Send(data[:n]), Pause(10.0), Send(data[n:])]
        network = MemoryNetwork(Reply((*steps, End()) if "close" in name else tuple(steps)))
        async with AsyncClient(URL, network=network, max_retries=0) as client:
            # Left by a cancellation: neither an end nor an error, and nothing stays open.
            text = Text()
            ended = False
            stream = client.chat.completions.stream(**REQUEST)
            with anyio.move_on_after(5.0) as scope:
                async with stream:
                    await read(stream, text)
                    ended = True
            assert ended == (here.error is None), n
            assert scope.cancelled_caught != ended
            assert text == here.text
            assert text_of(stream.partial) == here.text
            if not ended:
                assert network.open_connections == 0
                assert stream.state in ("closed", "new"), n
            # Read on after the cancellation: nothing is missing.
            text = Text()
            async with client.chat.completions.stream(**REQUEST) as stream:
                for _ in range(2):
                    with anyio.move_on_after(5.0):
                        await read(stream, text)
                await read(stream, text)
            assert text == whole
            assert text_of(stream.partial) == whole
        assert network.open_connections == 0


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("source", WHOLE)
async def test_an_answer_in_one_piece_cut_at_every_byte(source: str, fault: Fault) -> None:
    data = WHOLE[source]
    head = data.index(b"\r\n\r\n") + 4
    for n in offsets(data, head=source == "llamacpp", step=3)[:-1]:
        network = MemoryNetwork(cut(data, n, fault))
        async with AsyncClient(URL, network=network, timeouts=READ, max_retries=0) as client:
            with pytest.raises(penstock.APIConnectionError) as caught:
                await client.chat.completions.create(**REQUEST)
            if fault == "stall":
                assert type(caught.value) is penstock.ReadTimeout
            elif n <= head:
                assert type(caught.value) is penstock.APIConnectionError
            else:
                assert type(caught.value) is penstock.StreamInterruptedError
        assert network.open_connections == 0
    async with AsyncClient(URL, network=MemoryNetwork(cut(data, len(data), fault))) as client:
        assert text_of(await client.chat.completions.create(**REQUEST)).choices[0]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("source", REFUSALS)
async def test_a_refusal_cut_at_every_byte(source: str, fault: Fault) -> None:
    # Its status is what counts, as soon as it is known (rule 11 of the wire).
    data, refused = REFUSALS[source]
    head = data.index(b"\r\n\r\n") + 4
    for n in offsets(data, head=True, step=3):
        expected: type[penstock.PenstockError] = refused
        if n < head:
            expected = penstock.ReadTimeout if fault == "stall" else penstock.APIConnectionError
        network = MemoryNetwork(cut(data, n, fault))
        async with AsyncClient(URL, network=network, timeouts=READ, max_retries=0) as client:
            calls = (client.complete, lambda asked, c=client: c.chat.completions.create(**asked))
            with pytest.raises(expected) as caught:
                await calls[n % 2](REQUEST)
        assert type(caught.value) is expected, n
        assert network.open_connections == 0
        assert len(network.requests) == 1


async def _by_anext(stream: penstock.CompletionStream) -> None:
    while True:
        try:
            await anext(stream)
        except StopAsyncIteration:
            return


async def _by_text(stream: penstock.CompletionStream) -> None:
    async for _ in stream.text:
        pass


async def _by_collect(stream: penstock.CompletionStream) -> None:
    await stream.collect()


@pytest.mark.sampled(0.34)
@pytest.mark.parametrize("way", [_by_anext, _by_text, _by_collect])
@pytest.mark.parametrize("fault", ["end", "reset", "stall"])
async def test_every_way_of_reading_tells(
    way: Callable[[penstock.CompletionStream], Awaitable[None]], fault: Fault
) -> None:
    data = RECORDINGS["chunked-segments"]
    begun = data.index(b"\r\n\r\n") + 4
    places = [
        n
        for n in offsets(data, step=9, shift=3 * list(FAULTS).index(fault))
        if n > begun and worth(data, n, fault, penstock.ReadTimeout).error is not None
    ]
    for n in places:
        network = MemoryNetwork(cut(data, n, fault))
        async with AsyncClient(URL, network=network, timeouts=READ) as client:
            stream = client.chat.completions.stream(**REQUEST)
            with pytest.raises(penstock.APIConnectionError):
                await way(stream)
            for again in (_by_anext, _by_text, _by_collect):
                with pytest.raises(penstock.APIConnectionError):
                    await again(stream)
        assert len(network.requests) == 1


@pytest.mark.parametrize("fault", FAULTS)
async def test_complete_and_fan_out_tell_as_well(fault: Fault) -> None:
    data = RECORDINGS["llamacpp"]
    begun = data.index(b"\r\n\r\n") + 4
    for n in offsets(data, step=51, shift=17 * list(FAULTS).index(fault)):
        if n in (begun, len(data)):  # at the end the next request would stall
            continue
        expected = worth(data, n, fault, penstock.ReadTimeout)
        network = MemoryNetwork(cut(data, n, fault))
        async with AsyncClient(URL, network=network, timeouts=READ) as client:
            events = penstock.fan_out_chunks(client, [REQUEST, REQUEST])
            async with events:
                results = [e async for e in events if isinstance(e, penstock.ResultEvent)]
            for result in results:
                assert (result.error and type(result.error)) == expected.error
                partial = getattr(result.error, "partial", result.completion)
                assert text_of(partial) == expected.text
            if expected.error is None:
                assert text_of(await client.complete(REQUEST)) == expected.text
            else:
                with pytest.raises(expected.error):
                    await client.complete(REQUEST)


async def test_faults_after_done_are_ignored() -> None:
    data = RECORDINGS["chunked-done"]
    done = data.index(b"[DONE]\n\n") + 8
    for tail in (b"", b"\r\nzz\r\n", b"\r\n5\r\nda", b"\r\n5\r\ndata:"):
        for fault in (End(), Reset()):
            network = MemoryNetwork(Reply((Send(data[:done] + tail), fault)))
            async with AsyncClient(URL, network=network) as client:
                assert text_of(await client.complete(REQUEST)).choices[0] == "Héllo"
            assert network.open_connections == 0
