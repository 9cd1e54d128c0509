"""Promise 11: Retry-After pauses every new request of a limiter; no slot is held while sleeping.

With it: whoever shares a limiter, in whatever nesting, is bound by it and never deadlocks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import penstock
from penstock import ChatCompletion, Limiter, ResultEvent
from penstock._many.channels import fan_out_channels
from penstock._many.chunks import fan_out_chunks
from penstock._many.fan_out import fan_out
from penstock._many.race import race
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import error_reply, sse_reply, tokens
from penstock.testing.script import Pause, RecordedRequest, Reply
from tests.support.chat import REQUEST, Watcher, client_on

from .evidence import count
from .virtual_uvloop import virtual_backend as anyio_backend

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio


class Load:
    """A server that counts the requests it works on at a time."""

    def __init__(self, seconds: float = 1.0, *, refuse: dict[int, Reply] | None = None) -> None:
        self.network = MemoryNetwork(self._reply)
        self._seconds = seconds
        self._refuse = refuse or {}
        self._count = 0

    def _reply(self, request: RecordedRequest) -> Reply:
        self._count += 1
        refusal = self._refuse.get(self._count)
        return refusal or sse_reply([Pause(self._seconds), *tokens("a")])

    @property
    def most(self) -> int:
        """The most requests at one time; each works for the same time."""
        starts = [request.time for request in self.network.requests]
        return max(
            (sum(start <= other < start + self._seconds for other in starts) for start in starts),
            default=0,
        )

    @property
    def times(self) -> list[float]:
        return [request.time for request in self.network.requests]


@pytest.mark.parametrize("limit", [1, 2, 5])
@pytest.mark.parametrize("kind", ["fan_out", "chunks", "channels"])
async def test_a_client_and_a_fan_out_with_one_limiter(kind: str, limit: int) -> None:
    load = Load()
    limiter = Limiter(limit)
    async with client_on(load.network, limiter=limiter) as client, anyio.create_task_group() as tg:
        requests = [REQUEST] * 12
        done = 0
        if kind == "fan_out":
            async with fan_out(client.complete, requests, limit=limiter) as results:
                async for result in results:
                    result.unwrap()
                    done += 1
        elif kind == "chunks":
            async with fan_out_chunks(client, requests, limit=limiter) as events:
                async for event in events:
                    done += isinstance(event, ResultEvent) and bool(event.unwrap())
        else:

            async def own(receive: Any) -> None:
                nonlocal done
                assert len([chunk async for chunk in receive]) == 3
                done += 1

            async with fan_out_channels(client, requests, limit=limiter) as channels:
                async for channel in channels:
                    tg.start_soon(own, channel.receive)
    assert done == 12
    assert load.most == limit
    assert limiter.statistics().in_flight == 0


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_several_calls_one_after_the_other_in_one_item(limit: int) -> None:
    load = Load()
    limiter = Limiter(limit)
    async with client_on(load.network, limiter=limiter) as client:

        async def agent(number: int) -> int:
            for _ in range(3):
                await client.complete(REQUEST)
            await client.chat.completions.create(**REQUEST, extra_headers={"x": "y"}, stream=True)
            return number

        async with fan_out(agent, range(6), limit=limiter, ordered=True) as results:
            assert [result.unwrap() async for result in results] == list(range(6))
    assert len(load.times) == 18
    assert load.most == limit
    assert limiter.statistics().in_flight == 0


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_several_calls_at_once_in_one_item(limit: int) -> None:
    load = Load()
    limiter = Limiter(limit)
    async with client_on(load.network, limiter=limiter) as client:

        async def agent(number: int) -> int:
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(client.complete, REQUEST)
            return number

        async with fan_out(agent, range(6), limit=limiter) as results:
            assert len([result.unwrap() async for result in results]) == 6
    assert len(load.times) == 18
    assert load.most == limit
    assert limiter.statistics().in_flight == 0


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_a_fan_out_inside_a_fan_out(limit: int) -> None:
    load = Load()
    limiter = Limiter(limit)
    async with client_on(load.network, limiter=limiter) as client:

        async def outer(number: int) -> int:
            count = 0
            async with fan_out(client.complete, [REQUEST] * 4, limit=limiter) as results:
                async for result in results:
                    result.unwrap()
                    count += 1
                    await client.complete(REQUEST)
            return count

        async with fan_out(outer, range(4), limit=limiter) as results:
            assert [result.unwrap() async for result in results] == [4] * 4
    assert len(load.times) == 32
    assert load.most == limit
    assert limiter.statistics().in_flight == 0


@pytest.mark.parametrize("limit", [1, 2])
async def test_three_deep_with_plain_functions(limit: int) -> None:
    limiter = Limiter(limit)
    running = most = 0

    async def leaf(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(1)
        running -= 1
        return number

    async def middle(number: int) -> int:
        async with fan_out(leaf, range(2), limit=limiter) as results:
            return sum([result.unwrap() async for result in results])

    async def top(number: int) -> int:
        async with fan_out(middle, range(2), limit=limiter) as results:
            return sum([result.unwrap() async for result in results])

    async with fan_out(top, range(2), limit=limiter) as results:
        assert [result.unwrap() async for result in results] == [2, 2]
    assert most == limit
    assert limiter.statistics().in_flight == 0


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_the_source_uses_the_limiter_as_well(limit: int) -> None:
    load = Load()
    limiter = Limiter(limit)
    async with client_on(load.network, limiter=limiter) as client:

        async def source() -> AsyncIterator[dict[str, Any]]:  # noqa: ASYNC900 - a source, as users write them
            for _ in range(5):
                await client.complete(REQUEST)
                yield REQUEST

        async with fan_out(client.complete, source(), limit=limiter) as results:
            assert len([result.unwrap() async for result in results]) == 5
        async with fan_out_chunks(client, source(), limit=limiter) as events:
            assert sum([isinstance(event, ResultEvent) async for event in events]) == 5
    assert len(load.times) == 20
    assert load.most <= limit
    assert limiter.statistics().in_flight == 0


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_a_fan_out_as_the_source_of_another(limit: int) -> None:
    # Its tasks are started from within a pull, and live on after it.
    load = Load()
    limiter = Limiter(limit)
    async with client_on(load.network, limiter=limiter) as client:

        async def first() -> AsyncIterator[ChatCompletion]:  # noqa: ASYNC900 - a source, as users write them
            async with fan_out(client.complete, [REQUEST] * 6, limit=limiter) as results:
                async for result in results:
                    yield result.unwrap()  # noqa: ASYNC119 - a source, as users write them

        async def second(completion: ChatCompletion) -> ChatCompletion:
            return await client.complete(REQUEST)

        async with fan_out(second, first(), limit=limiter) as results:
            assert len([result.unwrap() async for result in results]) == 6
    assert len(load.times) == 12
    assert load.most <= limit
    assert limiter.statistics().in_flight == 0


@pytest.mark.parametrize("limit", [1, 2])
async def test_a_race_in_each_item(limit: int) -> None:
    load = Load()
    limiter = Limiter(limit)
    async with client_on(load.network, limiter=limiter) as client:

        async def best(number: int) -> str:
            async with race(client, [REQUEST, REQUEST]) as stream:
                return (await stream.collect()).choices[0].message.content or ""

        async with fan_out(best, range(5), limit=limiter) as results:
            assert [result.unwrap() async for result in results] == ["a"] * 5
    assert limiter.statistics().in_flight == 0


@pytest.mark.parametrize("limit", [1, 2, 3])
@pytest.mark.parametrize("status", [429, 503])
async def test_a_pause_holds_for_all_who_share_it(status: int, limit: int) -> None:
    refusal = error_reply(status, headers={"retry-after": "7"})
    load = Load(refuse={3: refusal})
    limiter = Limiter(limit)
    async with (
        client_on(load.network, limiter=limiter) as client,
        client_on(load.network, limiter=limiter) as other,
        anyio.create_task_group() as group,
    ):

        async def agent(number: int) -> None:
            # Each call of the item is a new request, whatever slot the item stands in.
            await anyio.sleep(0.25 * number)
            for _ in range(3):
                await client.complete(REQUEST)

        for _ in range(4):
            group.start_soon(other.complete, REQUEST)
        async with fan_out(agent, range(5), limit=limiter) as results:
            async for result in results:
                result.unwrap()
    refused_at = load.times[2]
    assert not [time for time in load.times if refused_at < time < refused_at + 7]
    assert len(load.times) == 4 + 15 + 1
    assert limiter.statistics().in_flight == 0
    assert limiter.statistics().refused == 1


async def test_no_slot_is_held_while_sleeping() -> None:
    load = Load(refuse={1: error_reply(429, headers={"retry-after": "5"})})
    limiter = Limiter(1)
    async with (
        client_on(load.network, limiter=limiter) as client,
        fan_out(client.complete, [REQUEST] * 2, limit=limiter) as results,
    ):
        await anyio.sleep(2.5)
        assert limiter.statistics().in_flight == 0
        assert 2.4 <= limiter.statistics().paused_for <= 2.6
        assert len([result.unwrap() async for result in results]) == 2
    # Without Retry-After nobody else is paused: the slot goes to the next.
    load = Load(refuse={1: error_reply(500)})
    async with client_on(load.network, limiter=limiter) as client:
        async with fan_out(client.complete, [REQUEST] * 4, limit=limiter, buffer=4) as results:
            done = [result async for result in results]
        assert done[0].index != 0
        assert all(result.error is None for result in done)
    assert limiter.statistics().in_flight == 0


@settings(max_examples=max(10, settings().max_examples // 2))  # they are long
@given(
    limit=st.integers(1, 3),
    depth=st.integers(0, 2),
    items=st.integers(1, 4),
    calls=st.lists(st.sampled_from(["one", "two at once", "nested", "race"]), max_size=4),
    source=st.booleans(),
    refuse=st.sets(st.integers(1, 20), max_size=3),
    leave=st.none() | st.sampled_from([0.5, 1.0, 3.25]),
    per_second=st.none() | st.sampled_from([1.0, 4.0]),
    requests_per_minute=st.none() | st.sampled_from([3, 20]),
    tokens_per_minute=st.none() | st.sampled_from([100, 2000]),  # a request: 521
)
async def test_whatever_shares_a_limiter(
    limit: int,
    depth: int,
    items: int,
    calls: list[str],
    source: bool,
    refuse: set[int],
    leave: float | None,
    per_second: float | None,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
) -> None:
    count("examples")
    refusals = {number: error_reply(429, headers={"retry-after": "2"}) for number in refuse}
    load = Load(refuse=refusals)
    limiter = Limiter(
        limit,
        per_second=per_second,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
    )
    watcher = Watcher()
    client = client_on(load.network, limiter=limiter, max_retries=9, observer=watcher)
    async with client:

        async def item(level: int) -> int:
            for call in calls:
                if call == "one":
                    await client.complete(REQUEST)
                elif call == "two at once":
                    async with anyio.create_task_group() as group:
                        group.start_soon(client.complete, REQUEST)
                        group.start_soon(client.complete, REQUEST)
                elif call == "race":
                    try:
                        async with race(client, [REQUEST, REQUEST]) as stream:
                            await stream.collect()
                    except penstock.AllAttemptsFailed:
                        pass
                elif level:
                    await run(level - 1)
            return level

        async def pulls(level: int) -> AsyncIterator[int]:  # noqa: ASYNC900 - a source, as users write them
            for _ in range(items):
                await client.complete(REQUEST)
                yield level

        async def run(level: int) -> None:
            given = pulls(level) if source else [level] * items
            async with fan_out(item, given, limit=limiter) as results:
                async for result in results:
                    result.unwrap()
                    await client.complete(REQUEST)

        with anyio.move_on_after(leave):
            await run(depth)
        assert load.most <= limit or refuse or "race" in calls
        assert limiter.statistics().in_flight == 0
        # By the client's account: the loser of a race may be refused without learning of it.
        for refusal in watcher.of("attempt_failed"):
            assert isinstance(refusal.error, penstock.RateLimitError)
            at = refusal.time
            assert not [time for time in load.times if at < time < at + 2]
    assert load.network.open_connections == 0


# --- a wait is bounded, and there is one without Retry-After ---

WAITS = {
    "years": "1771404540",
    "an hour": "3600",
    "beyond any float": "1" + "0" * 400,
    "just above": "2.5",
}


@pytest.mark.parametrize("cap", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("retry_after", WAITS.values(), ids=WAITS.keys())
@pytest.mark.parametrize("status", [429, 503])
async def test_a_wait_above_the_cap_pauses_the_others_for_the_cap(
    status: int, retry_after: str, cap: float
) -> None:
    count("cases")
    refusal = error_reply(status, "later", headers={"retry-after": retry_after})
    load = Load(0, refuse={1: refusal})
    limiter = Limiter(4)
    async with client_on(load.network, limiter=limiter, max_retry_wait=cap) as client:
        with pytest.raises(penstock.APIStatusError) as caught:
            await client.complete({**REQUEST}, max_retries=0)
        assert caught.value.status_code == status
        assert anyio.current_time() == pytest.approx(0, abs=1e-3)
        assert limiter.statistics().paused_for <= cap
        await client.complete(REQUEST)
    assert anyio.current_time() <= cap + 0.51


@pytest.mark.parametrize("status", [429, 498, 499])
async def test_a_refusal_for_load_without_retry_after_holds_the_siblings_back(status: int) -> None:
    load = Load(0, refuse={1: error_reply(status, "busy")})
    limiter = Limiter(4)
    async with client_on(load.network, limiter=limiter) as client:
        with pytest.raises(penstock.APIStatusError):
            await client.complete(REQUEST, max_retries=0)
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(client.complete, REQUEST)
    assert limiter.statistics().refused == 1
    assert all(0.374 <= time <= 0.5 for time in load.times[1:])


@pytest.mark.parametrize("status", [400, 404, 500, 503, 529])
async def test_an_error_that_is_not_for_load_holds_nobody_back(status: int) -> None:
    load = Load(0, refuse={1: error_reply(status, "no")})
    async with client_on(load.network, limiter=Limiter(4)) as client:
        with pytest.raises(penstock.APIStatusError):
            await client.complete(REQUEST, max_retries=0)
        await client.complete(REQUEST)
    assert anyio.current_time() == pytest.approx(0, abs=1e-3)
