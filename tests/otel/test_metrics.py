"""Metrics: measured once a request, and read from clients and limiters that are alive."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import penstock
from penstock import Limiter
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import completion, error_reply, json_reply, sse_reply, tokens
from penstock.testing.script import Pause
from tests.support.chat import REQUEST, client_on

from .recording import Recording

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
WORDS = tokens("a", "b", "c", usage=USAGE)
SLOW = sse_reply([Pause(2), WORDS[0], Pause(1), WORDS[1], Pause(3), *WORDS[2:]])


async def test_durations_and_tokens_of_a_stream() -> None:
    recording = Recording()
    network = MemoryNetwork([error_reply(503, headers={"retry-after": "4"}), SLOW])
    async with client_on(network, observer=recording.observer()) as client:
        await client.complete(REQUEST)
    [duration] = recording.points("gen_ai.client.operation.duration")
    assert (duration.count, duration.sum) == (1, pytest.approx(10, abs=0.01))
    assert "error.type" not in duration.attributes
    tokens_of = {
        point.attributes["gen_ai.token.type"]: point.sum
        for point in recording.points("gen_ai.client.token.usage")
    }
    assert tokens_of == {"input": 7, "output": 3}
    [first] = recording.points("gen_ai.client.operation.time_to_first_chunk")
    assert first.sum == pytest.approx(6, abs=1.01)
    [each] = recording.points("gen_ai.client.operation.time_per_output_chunk")
    assert 0 < each.sum <= 3
    [retries] = recording.points("penstock.client.retries")
    assert (retries.value, retries.attributes["error.type"]) == (1, "EndpointNotReadyError")


async def test_an_error_is_measured_by_its_type() -> None:
    recording = Recording()
    network = MemoryNetwork(error_reply(400))
    async with client_on(network, observer=recording.observer()) as client:
        with pytest.raises(penstock.BadRequestError):
            await client.complete(REQUEST)
    [duration] = recording.points("gen_ai.client.operation.duration")
    assert duration.attributes["error.type"] == "BadRequestError"
    assert recording.points("gen_ai.client.token.usage") == []


async def test_a_whole_answer_has_no_chunks() -> None:
    recording = Recording()
    network = MemoryNetwork(json_reply(completion(usage=USAGE)))
    async with client_on(network, observer=recording.observer()) as client:
        await client.chat.completions.create(**REQUEST)
    assert len(recording.points("gen_ai.client.token.usage")) == 2
    assert recording.points("gen_ai.client.operation.time_to_first_chunk") == []


async def test_slots_and_connections_are_those_of_the_moment() -> None:
    recording = Recording()
    limiter = Limiter(2)

    def states(name: str) -> dict[str, Any]:
        return {point.attributes["state"]: point.value for point in recording.points(name)}

    async with client_on(
        MemoryNetwork(SLOW), observer=recording.observer(), limiter=limiter
    ) as client:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(client.complete, REQUEST)
            await anyio.sleep(1)
            assert states("penstock.limiter.slots") == {"taken": 2, "waiting": 1}
            assert states("penstock.client.connections") == {"idle": 0, "active": 2}
            [active] = recording.points("penstock.client.active_requests")
            assert active.value == 3
        assert states("penstock.limiter.slots") == {"taken": 0, "waiting": 0}
        assert states("penstock.client.connections")["active"] == 0
        [active] = recording.points("penstock.client.active_requests")
        assert active.value == 0
    assert states("penstock.limiter.slots") == {}


@pytest.mark.parametrize("shared", [True, False])
async def test_clients_of_one_server_are_counted_together(*, shared: bool) -> None:
    recording = Recording()
    observer = recording.observer()
    limiters = [Limiter(2), Limiter(2)]
    if shared:
        limiters[1] = limiters[0]

    def states(name: str) -> dict[str, Any]:
        return {point.attributes["state"]: point.value for point in recording.points(name)}

    async with (
        client_on(MemoryNetwork(SLOW), observer=observer, limiter=limiters[0]) as first,
        client_on(MemoryNetwork(SLOW), observer=observer, limiter=limiters[1]) as second,
        anyio.create_task_group() as group,
    ):
        for client in (first, first, second):
            group.start_soon(client.complete, REQUEST)
        await anyio.sleep(1)
        taken, waiting = (2, 1) if shared else (3, 0)
        assert states("penstock.limiter.slots") == {"taken": taken, "waiting": waiting}
        assert states("penstock.client.connections") == {"idle": 0, "active": taken}


async def test_a_client_that_is_gone_is_not_kept() -> None:
    recording = Recording()
    observer = recording.observer()
    for _ in range(5):
        async with client_on(MemoryNetwork(SLOW), observer=observer) as client:
            await client.complete(REQUEST)
        del client
    assert len(observer._metrics._clients) == 1
