"""Where an answer ends whose server says nothing more and holds the connection open."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import penstock
from penstock import StreamState, Timeouts, fan_out_chunks, race
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import completion, json_reply, sse_reply, tokens
from penstock.testing.script import End, Pause, Repeat, Reset, Stall
from tests.invariants.virtual_uvloop import virtual_backend as anyio_backend
from tests.support.chat import REQUEST, Watcher, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
USAGE_EVENT = {"choices": [], "usage": USAGE}
ANSWER = tokens("who", "le")
PINGS = Repeat(b": ping\n\n", every=0.3)


def held_open(*more: Any) -> Any:
    return sse_reply([*ANSWER, *more, Stall()], done=False)


async def ended(reply: Any, **limits: Any) -> tuple[penstock.ChatCompletion, float]:
    """The answer, and when it was complete."""
    network = MemoryNetwork([reply, json_reply(completion("next"))])
    watcher = Watcher()
    async with client_on(network, observer=watcher, limiter=penstock.Limiter(1)) as client:
        start = anyio.current_time()
        stream = client.chat.completions.stream(**REQUEST, timeouts=Timeouts(**limits))
        whole = await stream.collect()
        seconds = anyio.current_time() - start
        assert stream.state is StreamState.COMPLETED
        # Slot and connection are given back, and the latter is not used again.
        assert (await client.chat.completions.create(**REQUEST)).choices
        assert len(network.connections) == 2
        assert network.open_connections == 1
    assert watcher.outcomes() == ["completed", "completed"]
    assert whole.choices[0].message.content == "whole"
    return whole, seconds


@pytest.mark.parametrize("trailing", [0.0, 0.25, 1.0, 5.0])
async def test_the_grace_is_exact(trailing: float) -> None:
    _, seconds = await ended(held_open(), trailing=trailing)
    assert seconds == pytest.approx(trailing, abs=1e-6)


async def test_it_is_a_second_by_default() -> None:
    assert (await ended(held_open()))[1] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("trailing", [0.0, 1.0])
async def test_pings_do_not_prolong_it(trailing: float) -> None:
    reply = sse_reply([*ANSWER, PINGS], done=False)
    assert (await ended(reply, trailing=trailing))[1] == pytest.approx(trailing, abs=1e-6)


@pytest.mark.parametrize("last", [Stall(), PINGS])
async def test_usage_in_it_is_kept_and_does_not_prolong_it(last: Any) -> None:
    reply = sse_reply([*ANSWER, Pause(0.6), USAGE_EVENT, last], done=False)
    whole, seconds = await ended(reply)
    assert whole.usage is not None
    assert whole.usage.total_tokens == 9
    assert seconds == pytest.approx(1.0, abs=1e-6)


async def test_text_in_it_starts_it_anew() -> None:
    first, last = tokens("who", role_first=False), tokens("le", role_first=False)
    reply = sse_reply([*first, Pause(0.6), *last, Stall()], done=False)
    assert (await ended(reply))[1] == pytest.approx(1.6, abs=1e-6)


@pytest.mark.parametrize("chunked", [True, "close"])
async def test_an_end_in_it_ends_it(chunked: Any) -> None:
    for done in (True, False):
        reply = sse_reply([*ANSWER, Pause(0.6), USAGE_EVENT], done=done, chunked=chunked)
        network = MemoryNetwork(reply)
        async with client_on(network) as client:
            start = anyio.current_time()
            assert (await client.complete(REQUEST)).usage is not None
            assert anyio.current_time() - start == pytest.approx(0.6, abs=1e-6)


@pytest.mark.parametrize("fault", [Reset(), End()])
@pytest.mark.parametrize("between", [Pause(0.1), b": ping\n\n", USAGE_EVENT])
async def test_a_fault_in_it_is_an_interruption(fault: Reset | End, between: Any) -> None:
    network = MemoryNetwork(sse_reply([*ANSWER, Pause(0.6), between, fault], done=False))
    async with client_on(network) as client:
        with pytest.raises(penstock.StreamInterruptedError) as caught:
            await client.complete(REQUEST)
        assert caught.value.partial is not None
        assert caught.value.partial.choices[0].message.content == "whole"
    assert len(network.requests) == 1


@pytest.mark.parametrize(
    ("limits", "at"),
    [
        ({"total": 0.4}, 0.4),
        ({"total": 0.4, "read": 0.2, "idle": 0.2}, 0.4),
        ({"read": 0.4}, 1.0),
        ({"idle": 0.4, "first_token": 0.4}, 1.0),
        ({"total": 5.0}, 1.0),
    ],
)
async def test_no_other_limit_is_an_error_then(limits: dict[str, float], at: float) -> None:
    assert (await ended(held_open(), **limits))[1] == pytest.approx(at, abs=1e-6)


@pytest.mark.parametrize(
    ("limits", "kind", "at"),
    [
        ({"read": 3.0}, penstock.ReadTimeout, 3.0),
        ({"idle": 2.0}, penstock.IdleTimeout, 2.0),
        ({"total": 2.0}, penstock.TotalTimeout, 2.0),
    ],
)
async def test_without_it_the_others_count(
    limits: dict[str, float], kind: type[Exception], at: float
) -> None:
    async with client_on(held_open()) as client:
        with pytest.raises(kind):
            await client.complete(REQUEST, timeouts=Timeouts(trailing=None, **limits))
        assert anyio.current_time() == pytest.approx(at)


async def test_an_answer_without_a_finish_reason_has_none() -> None:
    half = tokens("who", finish=None)
    async with client_on(sse_reply([*half, Stall()], done=False)) as client:
        with pytest.raises(penstock.ReadTimeout):
            await client.complete(REQUEST, timeouts=Timeouts(read=30))
        assert anyio.current_time() == pytest.approx(30)


async def test_the_callers_own_time_is_not_counted() -> None:
    async with client_on(held_open(Pause(0.6), USAGE_EVENT)) as client:
        async with client.chat.completions.stream(**REQUEST) as stream:
            async for _ in stream:
                await anyio.sleep(5)
        assert stream.partial.usage is not None


async def test_a_total_that_is_over_in_the_callers_time() -> None:
    reply = held_open(Pause(0.6), b": ping\n\n", b": ping\n\n")
    async with client_on(reply) as client:
        stream = client.chat.completions.stream(**REQUEST, timeouts=Timeouts(total=3))
        chunks = [await anext(stream) for _ in ANSWER]
        await anyio.sleep(5)
        assert [chunk async for chunk in stream] == []
        assert len(chunks) == len(ANSWER)


@pytest.mark.parametrize("patience", [0.1, 0.37, 0.9])
async def test_cancelled_in_it_nothing_is_lost(patience: float) -> None:
    async with client_on(held_open(Pause(0.6), USAGE_EVENT)) as client:
        stream = client.chat.completions.stream(**REQUEST)
        whole = None
        while whole is None:
            with anyio.move_on_after(patience):
                whole = await stream.collect()
        # What was waited before a cancellation counts.
        assert anyio.current_time() == pytest.approx(1.0, abs=1e-6)
        assert whole.usage is not None


async def test_leaving_in_it_is_at_once() -> None:
    network = MemoryNetwork(held_open())
    async with client_on(network) as client:
        async with client.chat.completions.stream(**REQUEST) as stream:
            for _ in ANSWER:
                await anext(stream)
        assert network.open_connections == 0
        assert anyio.current_time() == pytest.approx(0.0, abs=0.06)


async def test_another_choice_may_begin_after_it() -> None:
    first, second = tokens("a"), tokens("b", index=1)
    reply = sse_reply(
        [*first, Pause(0.5), *second[:1], Pause(20), *second[1:], Stall()], done=False
    )
    async with client_on(reply) as client:
        # It is known by then, though only one was asked for.
        whole = await client.complete(REQUEST)
        assert [choice.message.content for choice in whole.choices] == ["a", "b"]
    reply = sse_reply([*first, Pause(20), *second, Stall()], done=False)
    async with client_on(reply) as client:
        whole = await client.complete({**REQUEST, "n": 2})
        assert [choice.message.content for choice in whole.choices] == ["a", "b"]
        assert anyio.current_time() == pytest.approx(42.5, abs=0.1)


async def test_a_choice_that_begins_in_it_has_the_usual_limits() -> None:
    role = tokens("b", index=1)[:1]
    reply = sse_reply([*tokens("a"), Pause(0.5), *role, Stall()], done=False)
    async with client_on(reply) as client:
        with pytest.raises(penstock.ReadTimeout):
            await client.complete(REQUEST, timeouts=Timeouts(read=30))
        assert anyio.current_time() == pytest.approx(30.5, abs=0.1)


async def test_many_at_once() -> None:
    async with client_on(MemoryNetwork(held_open())) as client:
        async with fan_out_chunks(client, [REQUEST] * 3, limit=3) as events:
            results = [event async for event in events if isinstance(event, penstock.ResultEvent)]
        for result in results:
            assert result.unwrap().choices[0].message.content == "whole"
        assert anyio.current_time() == pytest.approx(1.0, abs=0.1)
        async with race(client, [REQUEST, REQUEST]) as winner:
            assert (await winner.collect()).choices[0].message.content == "whole"


@pytest.mark.parametrize("trailing", [0.0, 1.0, 2.5])
async def test_a_whole_answer_that_is_streamed_ends_as_well(trailing: float) -> None:
    network = MemoryNetwork(held_open())
    async with client_on(network, timeouts=Timeouts(read=30, trailing=trailing)) as client:
        start = anyio.current_time()
        completion = await client.chat.completions.create(**REQUEST)
        assert anyio.current_time() - start == pytest.approx(trailing, abs=1e-6)
    assert completion.text == "whole"
    assert network.open_connections == 0


@pytest.mark.parametrize("kind", [list, tuple, iter])
@pytest.mark.parametrize("prompts", [["a", "b"], [[1], [2]]])
async def test_every_prompt_has_its_answer_however_they_are_given(kind: Any, prompts: Any) -> None:
    def piece(index: int) -> dict[str, Any]:
        return {"choices": [{"index": index, "text": f"to {index}", "finish_reason": "stop"}]}

    network = MemoryNetwork(sse_reply([piece(0), Pause(3), piece(1), Stall()], done=False))
    async with (
        client_on(network) as client,
        client.completions.stream(model="m", prompt=kind(prompts)) as stream,
    ):
        answer = await stream.collect()
    assert [choice.text for choice in answer.choices] == ["to 0", "to 1"]


class _Index:
    """A number as NumPy has them: no int, but an index."""

    def __index__(self) -> int:
        return 2

    def for_json(self) -> int:
        return 2


@pytest.mark.parametrize("n", [2, 2.0, type("Two", (int,), {})(2), _Index()])
async def test_every_choice_that_is_asked_for_is_waited_for(n: Any) -> None:
    def piece(index: int) -> dict[str, Any]:
        delta = {"content": f"answer {index}"}
        return {"choices": [{"index": index, "delta": delta, "finish_reason": "stop"}]}

    network = MemoryNetwork(sse_reply([piece(0), Pause(3), piece(1), Stall()], done=False))
    async with client_on(network) as client:
        answer = await client.complete({**REQUEST, "n": n})
    assert [choice.message.content for choice in answer.choices] == ["answer 0", "answer 1"]
