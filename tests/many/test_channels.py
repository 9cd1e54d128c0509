"""fan_out_channels: each completion in a bounded channel of its own. Virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import ObjectReceiveStream

import penstock
from penstock import ChatCompletionChunk
from penstock._limiter.limiter import Limiter
from penstock._many.channels import CompletionChannel, fan_out_channels
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import error_reply, sse_event, sse_reply, tokens
from penstock.testing.script import Pause, Repeat, Reply, Reset, Stall
from tests.support.chat import REQUEST, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

EVENT = sse_event(tokens("x", role_first=False, finish=None)[0])
ENDLESS = sse_reply([Repeat(EVENT, None)])


def request(name: str) -> dict[str, Any]:
    return {**REQUEST, "user": name}


def network_of(**replies: Reply) -> MemoryNetwork:
    return MemoryNetwork(lambda seen: replies[seen.json["user"]])


async def text_of(receive: ObjectReceiveStream[ChatCompletionChunk]) -> str:
    text = ""
    async for chunk in receive:
        for choice in chunk.choices:
            text += choice.delta.content or ""
    return text


async def test_each_completion_in_its_channel() -> None:
    network = network_of(**{str(n): sse_reply(tokens(*f"{n}ab")) for n in range(10)})
    texts: dict[int, str] = {}
    async with client_on(network) as client, anyio.create_task_group() as group:

        async def own(channel: CompletionChannel) -> None:
            texts[channel.index] = await text_of(channel.receive)
            assert channel.partial.choices[0].finish_reason == "stop"
            statistics = channel.statistics()
            assert statistics is not None
            assert statistics.attempts == 1

        requests = (request(str(n)) for n in range(10))
        async with fan_out_channels(client, requests, limit=3) as channels:
            async for channel in channels:
                assert channel.request["user"] == str(channel.index)
                assert isinstance(channel.receive, ObjectReceiveStream)
                group.start_soon(own, channel)
    assert texts == {n: f"{n}ab" for n in range(10)}
    assert len(network.connections) <= 3


async def test_handed_out_as_soon_as_admitted() -> None:
    network = network_of(late=sse_reply(tokens("a")).after(100))
    async with client_on(network) as client:
        started = anyio.current_time()
        async with fan_out_channels(client, [request("late")] * 5, limit=2) as channels:
            await anext(channels)
            second = await anext(channels)
            assert anyio.current_time() == started
            assert second.partial.choices == []
            with anyio.move_on_after(50) as scope:
                await anext(channels)  # the third has to wait for a slot
            assert scope.cancelled_caught
            third = await anext(channels)
            assert anyio.current_time() - started == 100
            assert third.index == 2


async def test_a_slow_channel_holds_back_only_its_own_connection() -> None:
    network = network_of(
        endless=ENDLESS, quick=sse_reply([*tokens(*"abc"), Pause(1)], one_segment_each=True)
    )
    async with client_on(network) as client:
        requests = [request("endless"), request("quick")]
        async with fan_out_channels(client, requests, limit=2, buffer=4) as channels:
            slow = await anext(channels)
            quick = await anext(channels)
            assert await text_of(quick.receive) == "abc"
            await anyio.sleep(100)
            stopped_at = network.connections[0].bytes_sent
            # The buffer, one network read that is being put into it, and the head.
            assert stopped_at <= 10 * len(EVENT) + 500
            await anyio.sleep(100)
            assert network.connections[0].bytes_sent == stopped_at
            for _ in range(50):
                assert (await slow.receive.receive()).choices
            await anyio.sleep(1)
            assert stopped_at + 40 * len(EVENT) < network.connections[0].bytes_sent
    assert network.open_connections == 0


async def test_pulls_only_what_is_taken() -> None:
    network = network_of(quick=sse_reply(tokens("a")))
    pulled = 0

    def source() -> Any:
        nonlocal pulled
        while True:
            pulled += 1
            yield request("quick")

    async with (
        client_on(network) as client,
        fan_out_channels(client, source(), limit=3) as channels,
    ):
        for taken in range(10):
            # Short answers fit into their channels and free their slots.
            await anyio.sleep(1)
            assert pulled == taken + 3
            await anext(channels)


@pytest.mark.parametrize("when", ["silent", "opening", "flowing", "full", "waiting for a slot"])
@pytest.mark.parametrize("who", ["the body", "another task"])
async def test_closing_a_channel_closes_its_connection_at_once(when: str, who: str) -> None:
    network = network_of(
        silent=sse_reply([*tokens("a", finish=None), Stall()]),
        opening=Reply((Stall(),)),
        flowing=sse_reply([Repeat(EVENT, None, every=1.0)]),
        full=ENDLESS,
        other=sse_reply([*tokens("a", finish=None), Pause(50), *tokens("b")]),
    )
    slots = Limiter(1)
    waiting = when == "waiting for a slot"
    async with client_on(network, limiter=slots if waiting else None) as client:
        requests = [request("other"), request("other" if waiting else when)]
        async with fan_out_channels(client, requests, limit=2) as channels:
            other = await anext(channels)
            channel = await anext(channels)
            await anyio.sleep(3.5)
            assert network.open_connections == (1 if waiting else 2)
            now = anyio.current_time()
            if who == "the body":
                await channel.aclose()
                assert network.open_connections == 1
            else:
                async with anyio.create_task_group() as group:  # noqa: ASYNC112 - by another task
                    group.start_soon(channel.receive.aclose)
                assert network.open_connections == 1
            assert anyio.current_time() == now
            with pytest.raises(anyio.ClosedResourceError):
                await channel.receive.receive()
            await channel.aclose()  # once more does no harm
            # The other goes on.
            assert await text_of(other.receive) == "ab"
            with pytest.raises(StopAsyncIteration):
                await anext(channels)


async def test_a_reader_blocked_elsewhere_learns_of_the_close() -> None:
    network = network_of(silent=sse_reply([*tokens("a", finish=None), Stall()]))
    heard: list[type[BaseException]] = []
    async with client_on(network) as client, anyio.create_task_group() as group:

        async def read(channel: CompletionChannel) -> None:
            try:
                await text_of(channel.receive)
            except anyio.ClosedResourceError as error:
                heard.append(type(error))

        async with fan_out_channels(client, [request("silent")]) as channels:
            channel = await anext(channels)
            group.start_soon(read, channel)
            await anyio.sleep(1)
            await channel.aclose()
            await anyio.wait_all_tasks_blocked()
            assert heard == [anyio.ClosedResourceError]


async def test_a_place_given_back_by_a_closed_channel_is_used() -> None:
    network = network_of(endless=ENDLESS)
    async with client_on(network) as client:
        async with fan_out_channels(client, [request("endless")] * 20, limit=2) as channels:
            seen = 0
            async for channel in channels:
                assert (await channel.receive.receive()).choices
                await channel.aclose()
                seen += 1
                assert network.open_connections <= 2
        assert seen == 20


async def test_the_receiving_end_is_a_context_manager_too() -> None:
    network = network_of(endless=ENDLESS)
    async with (
        client_on(network) as client,
        fan_out_channels(client, [request("endless")]) as channels,
    ):
        async for channel in channels:
            async with channel.receive as chunks:
                async for _ in chunks:
                    break
            assert network.open_connections == 0


async def test_an_error_comes_after_the_chunks_before_it() -> None:
    network = network_of(
        breaks=sse_reply([*tokens(*"abcdef", finish=None), Reset()]), bad=error_reply(400)
    )
    async with client_on(network) as client:
        requests: list[Any] = [request("breaks"), request("bad"), {"model": ""}, "junk"]
        async with fan_out_channels(client, requests, buffer=2) as channels:
            breaks, bad, empty, junk = [await anext(channels) for _ in range(4)]
            text = ""
            with pytest.raises(penstock.StreamInterruptedError) as caught:  # noqa: PT012
                async for chunk in breaks.receive:
                    text += chunk.choices[0].delta.content or ""
            assert text == "abcdef"
            assert caught.value.partial is not None
            assert caught.value.partial.choices[0].message.content == "abcdef"
            for _ in range(2):
                with pytest.raises(penstock.StreamInterruptedError):
                    await breaks.receive.receive()
                with pytest.raises(penstock.BadRequestError):
                    await bad.receive.receive()
            with pytest.raises((TypeError, ValueError)):
                await empty.receive.receive()
            with pytest.raises(TypeError):
                await junk.receive.receive()
            assert empty.statistics() is None
            assert empty.partial.choices == []
            await empty.aclose()


async def test_left_open_when_the_block_is_left() -> None:
    network = network_of(
        endless=ENDLESS,
        silent=sse_reply([*tokens("ab", finish=None), Stall()]),
        whole=sse_reply(tokens("ab")),
    )
    blocked: list[type[Exception]] = []

    async def read(channel: CompletionChannel) -> None:
        try:
            await text_of(channel.receive)
        except penstock.StreamClosedError as error:
            blocked.append(type(error))

    async with client_on(network) as client, anyio.create_task_group() as group:
        names = ["endless", "silent", "whole", "silent"]
        async with fan_out_channels(client, [request(name) for name in names]) as channels:
            opened = {c.request["user"]: c for c in [await anext(channels) for _ in range(3)]}
            group.start_soon(read, await anext(channels))  # noqa: ASYNC111 - a reader that outlives the block
            await anyio.sleep(1)
        await anyio.wait_all_tasks_blocked()
        assert blocked == [penstock.StreamClosedError]
        # A whole answer that lies in its channel is not lost.
        assert await text_of(opened["whole"].receive) == "ab"
        for name in ("endless", "silent"):
            with pytest.raises(penstock.StreamClosedError):
                await text_of(opened[name].receive)
            await opened[name].aclose()
        assert network.open_connections == 1


async def test_the_loop_ends_when_every_completion_has() -> None:
    network = network_of(slow=sse_reply([*tokens("a", finish=None), Pause(9), *tokens("b")]))
    async with client_on(network) as client, anyio.create_task_group() as group:
        started = anyio.current_time()
        async with fan_out_channels(client, [request("slow")] * 3) as channels:
            async for channel in channels:
                assert anyio.current_time() == started
                group.start_soon(text_of, channel.receive)
            assert anyio.current_time() - started == 9


async def test_a_cancelled_receive_loses_nothing() -> None:
    network = network_of(
        paced=sse_reply([x for c in tokens(*"abcdefgh") for x in (Pause(0.25), c)])
    )
    async with (
        client_on(network) as client,
        fan_out_channels(client, [request("paced")] * 3, limit=1, buffer=1) as channels,
    ):
        seen = 0
        while True:
            channel: CompletionChannel | None = None
            with anyio.move_on_after(0.1):
                try:
                    channel = await anext(channels)
                except StopAsyncIteration:
                    break
            if channel is None:
                continue
            text = ""
            while True:
                with anyio.move_on_after(0.1):
                    try:
                        chunk = await channel.receive.receive()
                    except anyio.EndOfStream:
                        break
                    text += chunk.choices[0].delta.content or ""
            assert text == "abcdefgh"
            assert channel.index == seen
            seen += 1
        assert seen == 3


async def test_receive_in_a_cancelled_scope_takes_nothing() -> None:
    network = network_of(whole=sse_reply(tokens("ab")))
    async with (
        client_on(network) as client,
        fan_out_channels(client, [request("whole")]) as channels,
    ):
        channel = await anext(channels)
        await anyio.sleep(1)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await channel.receive.receive()
        assert scope.cancelled_caught
        assert await text_of(channel.receive) == "ab"


async def test_two_receivers_at_once() -> None:
    network = network_of(late=sse_reply([Pause(5), *tokens("ab")]))
    async with (
        client_on(network) as client,
        anyio.create_task_group() as group,
        fan_out_channels(client, [request("late")]) as channels,
    ):
        channel = await anext(channels)
        group.start_soon(text_of, channel.receive)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(penstock.StreamBusyError):
            await channel.receive.receive()
        await anyio.sleep(10)


async def test_more_channels_open_than_limit_wait() -> None:
    network = network_of(endless=ENDLESS)
    async with (
        client_on(network) as client,
        fan_out_channels(client, [request("endless")] * 3, limit=2) as channels,
    ):
        first = await anext(channels)
        await anext(channels)
        with anyio.move_on_after(100) as scope:
            await anext(channels)
        assert scope.cancelled_caught
        await first.aclose()
        assert (await anext(channels)).index == 2


async def test_channels_read_one_after_the_other_end_whatever_is_sent_again() -> None:
    # Where the one that waits to be sent again lets another into its place, that one fills its
    # channel, which nobody reads, and keeps the place for ever.
    answer = sse_reply(tokens(*"abcdef"))
    for limit in (1, 2):
        failed: set[str] = set()

        def script(seen: Any, failed: set[str] = failed) -> Reply:
            name: str = seen.json["user"]
            if name in failed:
                return answer
            failed.add(name)
            return error_reply(500)

        requests = [request(str(n)) for n in range(5)]
        async with client_on(MemoryNetwork(script)) as client:
            with anyio.fail_after(1000):
                async with fan_out_channels(client, requests, limit=limit, buffer=1) as channels:
                    texts = [await text_of(channel.receive) async for channel in channels]
        assert texts == ["abcdef"] * 5


async def test_a_cancellation_that_nobody_asked_for(anyio_backend_name: str) -> None:
    if anyio_backend_name != "asyncio":
        return

    async def key() -> str:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        future.cancel()
        return await future

    network = network_of(a=sse_reply(tokens("ab")))
    async with (
        client_on(network, api_key=key) as client,
        fan_out_channels(client, [request("a")]) as channels,
    ):
        async for channel in channels:
            with pytest.raises(RuntimeError, match="cancellation"):
                await channel.receive.receive()


def test_bad_arguments() -> None:
    client = client_on(ENDLESS)
    for buffer in (0, -1):
        with pytest.raises(ValueError, match="buffer"):
            fan_out_channels(client, [], buffer=buffer)
    with pytest.raises(TypeError, match="iterable"):
        fan_out_channels(client, 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="limit"):
        fan_out_channels(client, [], limit=None)  # type: ignore[arg-type]


async def test_leaving_closes_everything() -> None:
    network = network_of(endless=ENDLESS, opening=Reply((Stall(),)))
    async with client_on(network) as client:
        for taken in range(4):
            requests = [request("endless"), request("opening")] * 20
            async with fan_out_channels(client, requests, limit=4) as channels:
                for _ in range(taken):
                    await anext(channels)
                await anyio.sleep(1)
                assert network.open_connections == 4
            assert network.open_connections == 0
            assert len(network.requests) == 4 * (taken + 1)
