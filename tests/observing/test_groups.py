"""Requests that belong together: fan-outs and races, nested or not, and the losers of a race."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from penstock import AllAttemptsFailed, batch, fan_out, fan_out_channels, fan_out_chunks, race
from penstock.observing import GroupFinished, GroupStarted
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import completion, error_reply, json_reply, sse_reply, tokens
from penstock.testing.script import Stall
from tests.support.chat import REQUEST, Watcher, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

HELLO = sse_reply(tokens("Hello"))
WHOLE = json_reply(completion("Hello"))
SILENT = sse_reply([Stall()], done=False)
KINDS = ["fan_out", "fan_out_chunks", "fan_out_channels"]


class Groups(Watcher):
    def group_started(self, event: GroupStarted) -> None:
        self.events.append(("group_started", event))

    def group_finished(self, event: GroupFinished) -> None:
        self.events.append(("group_finished", event))


async def run(kind: str, client: Any, ending: str) -> None:
    requests = [REQUEST] * 3
    if kind == "fan_out":
        feed: Any = fan_out(client.complete, requests)
    else:
        feed = (fan_out_chunks if kind == "fan_out_chunks" else fan_out_channels)(client, requests)
    with anyio.CancelScope() as scope:
        async with feed:
            async for item in feed:
                if ending == "cancelled":
                    scope.cancel()
                elif ending == "failed":
                    raise KeyError
                elif ending == "abandoned":
                    break
                elif kind == "fan_out_channels":
                    async for _ in item.receive:
                        pass


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ending", ["completed", "abandoned", "failed", "cancelled"])
async def test_a_fan_out_is_told_around_its_requests(kind: str, ending: str) -> None:
    watcher = Groups()
    async with client_on(MemoryNetwork(HELLO), observer=watcher) as client:
        if ending == "failed":
            with pytest.raises(KeyError):
                await run(kind, client, ending)
        else:
            await run(kind, client, ending)
        await client.complete(REQUEST)
    [began] = watcher.of("group_started")
    [ended] = watcher.of("group_finished")
    assert (began.kind, began.parent) == (kind, None)
    assert (ended.kind, ended.id, ended.outcome) == (kind, began.id, ending)
    assert ended.started == began.time <= ended.time
    *members, alone = watcher.of("request_started")
    assert alone.group is None
    assert {member.group for member in members} == {began.id}
    assert {each.group for each in watcher.of("finished")} == {began.id, None}
    assert watcher.names[0] == "group_started"
    before = watcher.names[: watcher.names.index("group_finished")]
    assert before.count("finished") == len(members)


async def test_a_race_in_a_fan_out_and_its_losers() -> None:
    watcher = Groups()
    network = MemoryNetwork([SILENT, HELLO])
    async with client_on(network, observer=watcher) as client:

        async def quickest(request: Any) -> str:
            async with race(client, [request, request]) as stream:
                return (await stream.collect()).text

        async with fan_out(quickest, [REQUEST]) as results:
            assert [result.unwrap() async for result in results] == ["Hello"]
    outer, inner = watcher.of("group_started")
    assert (outer.kind, inner.kind, inner.parent) == ("fan_out", "race", outer.id)
    assert [each.kind for each in watcher.of("group_finished")] == ["race", "fan_out"]
    assert {each.group for each in watcher.of("finished")} == {inner.id}
    assert {each.lost_race: each.outcome == "completed" for each in watcher.of("finished")} == {
        True: False,
        False: True,
    }


@pytest.mark.parametrize("leave", [True, False])
async def test_a_winner_that_is_given_up_has_not_lost(leave: bool) -> None:
    watcher = Groups()
    endless = sse_reply([*tokens("Hel", finish=None), Stall()], done=False)
    async with (
        client_on(MemoryNetwork(endless), observer=watcher) as client,
        race(client, [REQUEST, REQUEST]) as stream,
    ):
        async for _ in stream:
            break
    finished = watcher.of("finished")
    assert sorted(each.lost_race for each in finished) == [False, True]
    assert watcher.of("group_finished")[0].outcome == "abandoned"


async def test_a_race_without_a_winner_has_failed() -> None:
    watcher = Groups()
    async with client_on(MemoryNetwork(error_reply(500)), observer=watcher) as client:
        with pytest.raises(AllAttemptsFailed):
            async with race(client, [REQUEST, REQUEST]):
                pass
    assert watcher.of("group_finished")[0].outcome == "failed"
    assert [each.lost_race for each in watcher.of("finished")] == [False, False]


async def test_a_batch_is_a_group() -> None:
    watcher = Groups()
    rows = [batch.Request(str(number), REQUEST) for number in range(3)]
    async with (
        client_on(MemoryNetwork(WHOLE), observer=watcher) as client,
        batch.run(client, rows) as outcomes,
    ):
        assert [outcome.error async for outcome in outcomes] == [None] * 3
    assert [event.kind for event in watcher.of("group_finished")] == ["batch"]
    [began] = watcher.of("group_started")
    assert {event.group for event in watcher.of("request_started")} == {began.id}
