"""Promise 5: each deadline has its class and its exact moment; outer scopes stay the outer's."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

import penstock
from penstock import AsyncClient, Limiter, Timeouts
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import Event, completion, error_reply, head, json_reply, sse_reply
from penstock.testing.script import Pause, Repeat, Reply, Reset, Send, Stall, reply
from tests.support.chat import REQUEST, URL

from .recorded import FINISH, PLAIN, RECORDINGS, call, delta, text_of
from .virtual_uvloop import virtual_backend as anyio_backend

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

NONE = Timeouts(connect=None, read=None)
PING = b": ping\n\n"
ROLE = delta("", role="assistant")
EMPTY = delta("")
NULL = delta(refusal=None, reasoning=None, tool_calls=None)


def client_with(network: MemoryNetwork, timeouts: Timeouts, **options: object) -> AsyncClient:
    return AsyncClient(URL, network=network, timeouts=timeouts, **options)  # type: ignore[arg-type]


async def collect(client: AsyncClient) -> object:
    async with client.chat.completions.stream(**REQUEST) as stream:
        return await stream.collect()


async def collect_bare(client: AsyncClient) -> object:
    return await client.chat.completions.stream(**REQUEST).collect()


async def create(client: AsyncClient) -> object:
    return await client.chat.completions.create(**REQUEST)


async def complete(client: AsyncClient) -> object:
    return await client.complete(REQUEST)


async def models(client: AsyncClient) -> object:
    return await client.models.list()


async def raw(client: AsyncClient) -> object:
    return await client.request("POST", "/embeddings", json={})


EVERY_CALL: list[Callable[[AsyncClient], Awaitable[object]]] = [
    collect, collect_bare, create, complete, models, raw,
]  # fmt: skip
every_call = pytest.mark.parametrize("do", EVERY_CALL)


async def fails(
    do: Callable[[AsyncClient], Awaitable[object]],
    client: AsyncClient,
    error: type[penstock.APITimeoutError],
    after: float,
) -> penstock.APITimeoutError:
    start = anyio.current_time()
    with pytest.raises(error) as caught:
        await do(client)
    assert anyio.current_time() - start == pytest.approx(after, abs=1e-9)
    assert type(caught.value) is error
    assert isinstance(caught.value, TimeoutError)
    for twin in (copy.deepcopy(caught.value), pickle.loads(pickle.dumps(caught.value))):
        assert type(twin) is error
        assert str(twin) == str(caught.value)
    return caught.value


def closed(network: MemoryNetwork) -> bool:
    return network.open_connections == 0


@every_call
async def test_connect(do: Callable[[AsyncClient], Awaitable[object]]) -> None:
    network = MemoryNetwork(reply(Stall()), stall=9)
    async with client_with(network, Timeouts(connect=4.0), max_retries=0) as client:
        await fails(do, client, penstock.ConnectTimeout, 4.0)


@every_call
async def test_read_before_the_head(do: Callable[[AsyncClient], Awaitable[object]]) -> None:
    # Each byte of the head ends a silence.
    network = MemoryNetwork(reply(Pause(6), b"HTTP/1.1 ", Pause(6), b"200 OK\r\n", Stall()))
    async with client_with(network, Timeouts(read=7.0)) as client:
        error = await fails(do, client, penstock.ReadTimeout, 19.0)
        assert error.partial is None
        assert closed(network)
    assert len(network.requests) == 1


@every_call
async def test_total_before_the_head(do: Callable[[AsyncClient], Awaitable[object]]) -> None:
    network = MemoryNetwork(reply(Stall()), delay=1.0)
    async with client_with(network, Timeouts(total=7.0)) as client:
        await fails(do, client, penstock.TotalTimeout, 7.0)
        assert closed(network)


@every_call
async def test_total_while_connecting(do: Callable[[AsyncClient], Awaitable[object]]) -> None:
    network = MemoryNetwork(reply(Stall()), stall=1)
    async with client_with(network, Timeouts(total=2.5)) as client:
        await fails(do, client, penstock.TotalTimeout, 2.5)
    assert len(network.connects) == 1


@every_call
async def test_total_counts_retries(do: Callable[[AsyncClient], Awaitable[object]]) -> None:
    refusal = error_reply(503, headers={"retry-after": "3"}).after(1.0)
    network = MemoryNetwork(refusal)
    async with client_with(network, Timeouts(total=10.0), max_retries=100) as client:
        await fails(do, client, penstock.TotalTimeout, 10.0)
        # At 0 and 4 and 8; the third answer is in at 9, and waited for until 12.
    assert [request.time for request in network.requests] == [0.0, 4.0, 8.0]
    assert closed(network)


@every_call
async def test_total_during_the_body(do: Callable[[AsyncClient], Awaitable[object]]) -> None:
    start = head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
    network = MemoryNetwork(reply(start, Repeat(b"2\r\n\n\n\r\n", every=1.0)))
    async with client_with(network, Timeouts(total=10.5)) as client:
        error = await fails(do, client, penstock.TotalTimeout, 10.5)
        assert closed(network)
    if do in (collect, collect_bare, complete):
        assert error.partial is not None
    assert len(network.requests) == 1


@every_call
async def test_slot(do: Callable[[AsyncClient], Awaitable[object]]) -> None:
    limiter = Limiter(1)
    network = MemoryNetwork(sse_reply(PLAIN))
    async with client_with(network, Timeouts(slot=3.0, total=8.0), limiter=limiter) as client:
        async with limiter:
            await fails(do, client, penstock.SlotTimeout, 3.0)
        assert limiter.statistics().in_flight == 0
        limiter.pause(5.0)
        await fails(do, client, penstock.SlotTimeout, 3.0)
    assert network.requests == []


@every_call
async def test_total_while_waiting_for_a_slot(
    do: Callable[[AsyncClient], Awaitable[object]],
) -> None:
    limiter = Limiter(1)
    network = MemoryNetwork(sse_reply(PLAIN))
    async with client_with(network, Timeouts(slot=9.0, total=8.0), limiter=limiter) as client:
        async with limiter:
            await fails(do, client, penstock.TotalTimeout, 8.0)
        assert limiter.statistics().in_flight == 0
        assert limiter.statistics().waiting == 0


@pytest.mark.parametrize("do", [create, models, raw])
async def test_token_deadlines_do_not_apply_without_streaming(
    do: Callable[[AsyncClient], Awaitable[object]],
) -> None:
    body = {**completion(), "data": []}
    network = MemoryNetwork(json_reply(body).after(50.0))
    async with client_with(network, Timeouts(first_token=1.0, idle=1.0)) as client:
        await do(client)
    assert anyio.current_time() == 50.0


@pytest.mark.parametrize("do", [collect, collect_bare, complete])
@pytest.mark.parametrize(
    "noise", [[PING], [ROLE], [EMPTY], [NULL], [PING, ROLE, EMPTY, NULL, {"choices": []}]]
)
async def test_what_is_no_token(
    do: Callable[[AsyncClient], Awaitable[object]], noise: list[bytes | dict[str, Any]]
) -> None:
    # Ended at once by every one of these: silence. By none of them: the wait for a token.
    parts: list[Event] = [part for piece in noise * 20 for part in (Pause(1.0), piece)]
    network = MemoryNetwork(sse_reply([*parts, Stall()]))
    async with client_with(network, Timeouts(read=1.5, first_token=10.5)) as client:
        error = await fails(do, client, penstock.FirstTokenTimeout, 10.5)
        assert text_of(error.partial).choices in ({}, {0: ""})
        assert error.partial is not None
        assert closed(network)
    # The same after a first token: silence of tokens.
    network = MemoryNetwork(sse_reply([Pause(2.0), delta("a"), *parts, Stall()]))
    async with client_with(network, Timeouts(read=2.5, first_token=3.0, idle=7.25)) as client:
        error = await fails(do, client, penstock.IdleTimeout, 2.0 + 7.25)
        assert text_of(error.partial).choices == {0: "a"}
    # And without deadlines for tokens they keep a stream alive, until they end.
    network = MemoryNetwork(sse_reply([*parts, Stall()]))
    async with client_with(network, Timeouts(read=1.5)) as client:
        await fails(do, client, penstock.ReadTimeout, 20.0 * len(noise) + 1.5)
    assert len(network.requests) == 1


@pytest.mark.parametrize(
    "token",
    [
        delta("a"),
        delta(" "),
        delta(reasoning_content="r"),
        delta(reasoning="r"),
        delta(refusal="no"),
        call("", id="c", type="function"),
        delta(index=1, content="b"),
    ],
)
async def test_what_is_a_token(token: dict[str, object]) -> None:
    rest = [part for _ in range(5) for part in (Pause(2.0), token)]
    network = MemoryNetwork(sse_reply([Pause(4.0), token, *rest, Stall()]))
    async with client_with(network, Timeouts(first_token=4.5, idle=2.5)) as client:
        await fails(collect, client, penstock.IdleTimeout, 4.0 + 10.0 + 2.5)


async def test_first_token_counts_from_sending_and_anew_for_each_attempt() -> None:
    # Neither the connecting nor the attempt before are part of it; the wait for the head is.
    refusal = error_reply(503, headers={"retry-after": "3"}).after(4.0)
    network = MemoryNetwork([refusal, sse_reply([Pause(2.0), ROLE, Stall()]).after(2.0)], delay=1.0)
    async with client_with(network, Timeouts(first_token=5.0)) as client:
        error = await fails(collect, client, penstock.FirstTokenTimeout, 1.0 + 4.0 + 3.0 + 5.0)
        assert error.partial is not None


async def test_time_in_the_loop_body_is_free() -> None:
    parts = [part for n in range(6) for part in (Pause(1.0), delta(str(n)))]
    network = MemoryNetwork(sse_reply([ROLE, *parts, Pause(1.0), FINISH]))
    timeouts = Timeouts(read=1.5, first_token=1.5, idle=1.5)
    async with client_with(network, timeouts) as client:
        async with client.chat.completions.stream(**REQUEST) as stream:
            await anyio.sleep(100.0)
            async for _ in stream:
                await anyio.sleep(100.0)
        assert text_of(stream.partial).choices == {0: "012345"}


async def test_time_in_the_loop_body_counts_for_total() -> None:
    parts = [part for n in range(6) for part in (Pause(1.0), delta(str(n)))]
    network = MemoryNetwork(sse_reply([ROLE, *parts, FINISH]))
    async with client_with(network, Timeouts(total=50.0)) as client:
        stream = client.chat.completions.stream(**REQUEST)

        async def read_slowly() -> None:
            async with stream:
                async for _ in stream:
                    await anyio.sleep(20.0)

        with pytest.raises(penstock.TotalTimeout) as caught:
            await read_slowly()
        assert caught.value.partial is not None
        assert closed(network)


async def test_waits_that_were_broken_off_count() -> None:
    pings: list[Event] = [Pause(0.8), PING]
    pinged: list[Event] = [delta("a"), *pings * 20, Stall()]
    cases: list[tuple[Timeouts, type[penstock.APITimeoutError], list[Event]]] = [
        (Timeouts(read=5.0), penstock.ReadTimeout, [delta("a"), Stall()]),
        (Timeouts(idle=5.0), penstock.IdleTimeout, [delta("a"), Stall()]),
        (Timeouts(first_token=5.0), penstock.FirstTokenTimeout, [ROLE, Stall()]),
        (Timeouts(idle=5.0), penstock.IdleTimeout, pinged),
    ]
    for timeouts, error, script in cases:
        network = MemoryNetwork(sse_reply(script))
        client = client_with(network, timeouts)
        async with client, client.chat.completions.stream(**REQUEST) as stream:
            await anext(stream)
            waited = 0.0
            raised: list[penstock.APITimeoutError] = []
            while not raised:
                start = anyio.current_time()
                try:
                    with anyio.move_on_after(0.3):
                        await anext(stream)
                except penstock.APITimeoutError as caught:
                    raised.append(caught)
                waited += anyio.current_time() - start
                await anyio.sleep(10.0)
            assert type(raised[0]) is error
            assert waited == pytest.approx(5.0, abs=1e-6)


@pytest.mark.parametrize("outer", [3.0, 5.0, 4.999999])
@pytest.mark.parametrize(
    ("timeouts", "script"),
    [
        (Timeouts(read=5.0), reply(Stall())),
        (Timeouts(total=5.0), reply(Stall())),
        (Timeouts(first_token=5.0), reply(Stall())),
        (Timeouts(read=5.0), sse_reply([Stall()])),
        (Timeouts(idle=5.0), sse_reply([delta("a"), Stall()])),
        (Timeouts(total=5.0), sse_reply([delta("a"), Stall()])),
        (Timeouts(total=5.0), error_reply(429, headers={"retry-after": "9"})),
        (Timeouts(read=5.0, first_token=5.0, total=5.0), sse_reply([Stall()])),
    ],
)
@pytest.mark.parametrize("do", [collect, complete])
async def test_outer_scopes_stay_the_outers(
    do: Callable[[AsyncClient], Awaitable[object]],
    timeouts: Timeouts,
    script: Reply,
    outer: float,
) -> None:
    network = MemoryNetwork(script)
    async with client_with(network, timeouts) as client:
        with anyio.move_on_after(outer) as scope:
            await do(client)
        assert scope.cancelled_caught
        assert anyio.current_time() == outer
        with anyio.move_on_after(0.5) as inner:
            await anyio.sleep(1.0)
        assert inner.cancelled_caught, "a cancellation was left over"
        with pytest.raises(TimeoutError) as caught:
            with anyio.fail_after(outer):
                await do(client)
        assert not isinstance(caught.value, penstock.PenstockError)


@pytest.mark.parametrize("outer", [2.0, 3.0])
async def test_outer_scopes_around_connect_and_slot(outer: float) -> None:
    limiter = Limiter(1)
    network = MemoryNetwork(sse_reply(PLAIN), stall=9)
    async with client_with(network, Timeouts(connect=3.0, slot=3.0), limiter=limiter) as client:
        with anyio.move_on_after(outer) as scope:
            await collect(client)
        assert scope.cancelled_caught
        async with limiter:
            with anyio.move_on_after(outer) as scope:
                await collect(client)
            assert scope.cancelled_caught
        assert limiter.statistics().in_flight == 0


async def test_later_outer_scopes_are_not_touched() -> None:
    network = MemoryNetwork(sse_reply([delta("a"), Stall()]))
    async with client_with(network, Timeouts(idle=5.0)) as client:
        with anyio.move_on_after(5.001) as scope:
            await fails(collect, client, penstock.IdleTimeout, 5.0)
        assert not scope.cancel_called


async def test_deadlines_of_zero() -> None:
    for timeouts, error in [
        (Timeouts(connect=0.0), penstock.ConnectTimeout),
        (Timeouts(read=0.0), penstock.ReadTimeout),
        (Timeouts(first_token=0.0), penstock.FirstTokenTimeout),
        (Timeouts(total=0.0), penstock.TotalTimeout),
    ]:
        network = MemoryNetwork(sse_reply(PLAIN).after(1.0))
        async with client_with(network, timeouts, max_retries=0) as client:
            await fails(collect, client, error, 0.0)
        assert closed(network)
    network = MemoryNetwork(sse_reply(PLAIN))
    async with client_with(network, Timeouts(slot=0.0), limiter=Limiter(1)) as client:
        await collect(client)  # a slot that is free is not waited for


async def test_a_flood_does_not_outrun_total() -> None:
    # The peer always has something: no wait is ever too long, and the time runs out all the same.
    flood = sse_reply([Repeat(PING, every=0.001)])
    network = MemoryNetwork(flood)
    async with client_with(network, Timeouts(total=2.0)) as client:
        await fails(collect, client, penstock.TotalTimeout, 2.0)


async def test_partial_is_what_was_handed_out() -> None:
    data = RECORDINGS["chunked-segments"]
    cut = data.index(b"llo")
    for timeouts in (Timeouts(read=2.0), Timeouts(idle=2.0), Timeouts(total=2.0)):
        network = MemoryNetwork(reply(Send(data[:cut]), Stall()))
        async with client_with(network, timeouts) as client:
            error = await fails(collect, client, _class_of(timeouts), 2.0)
            assert text_of(error.partial).choices == {0: "Hé"}


def _class_of(timeouts: Timeouts) -> type[penstock.APITimeoutError]:
    if timeouts.total is not None:
        return penstock.TotalTimeout
    return penstock.IdleTimeout if timeouts.idle is not None else penstock.ReadTimeout


async def test_timeouts_are_not_sent_again_but_for_connecting() -> None:
    network = MemoryNetwork(reply(Stall()))
    async with client_with(network, Timeouts(read=1.0), max_retries=5) as client:
        await fails(collect, client, penstock.ReadTimeout, 1.0)
    assert len(network.requests) == 1
    network = MemoryNetwork(sse_reply(PLAIN), stall=2)
    async with client_with(network, Timeouts(connect=1.0), max_retries=5) as client:
        await collect(client)
    assert len(network.connects) == 3
    network = MemoryNetwork([sse_reply([Reset()]), sse_reply(PLAIN)])
    async with client_with(network, NONE) as client:
        await collect(client)
    assert len(network.requests) == 2
