"""`Spread`: several servers behind one client's face."""

from __future__ import annotations

import copy
import pickle
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

import penstock
from penstock import (
    APIConnectionError,
    AuthenticationError,
    ConnectTimeout,
    EndpointNotReadyError,
    InternalServerError,
    Limiter,
    RateLimitError,
    ReadTimeout,
    Spread,
    StreamClosedError,
    StreamInterruptedError,
    Timeouts,
)
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import completion, error_reply, json_reply, sse_reply, tokens
from penstock.testing.script import Pause, Reset, Script, Stall, reply
from penstock.testing.sweep import BackendName, cancel_sweep
from tests.support.chat import MESSAGES, REQUEST, Watcher, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

HELLO = sse_reply(tokens("Hel", "lo"))
SLOW = HELLO.after(5)
BUSY = error_reply(429, "busy", headers={"retry-after": "20"})
LOADING = error_reply(503, "loading")
RESET = reply(Reset())


def spread_over(*scripts: MemoryNetwork | Script, session: Any = None, **options: Any) -> Spread:
    clients = [
        client_on(script, f"http://s{n}.test/v1", **{"api_key": f"key-of-server-{n}", **options})
        for n, script in enumerate(scripts)
    ]
    return Spread(clients, session=session)


def networks(count: int, script: Script = HELLO) -> list[MemoryNetwork]:
    return [MemoryNetwork(script) for _ in range(count)]


def counts(of: list[MemoryNetwork]) -> list[int]:
    return [len(network.requests) for network in of]


# --- making one ---


async def test_bad_arguments() -> None:
    async with client_on(HELLO) as client:
        no_client: Any = "http://a.test"
        no_rule: Any = 5
        with pytest.raises(ValueError, match="at least one"):
            Spread([])
        with pytest.raises(TypeError, match=r"AsyncClient.*str"):
            Spread([no_client])
        with pytest.raises(ValueError, match="once"):
            Spread([client, client])
        with pytest.raises(TypeError, match=r"session.*int"):
            Spread([client], session=no_rule)


async def test_what_it_shows_of_itself() -> None:
    async with spread_over(HELLO, HELLO) as spread:
        assert repr(spread) == "<Spread http://s0.test:80/v1, http://s1.test:80/v1>"
        assert "key-of" not in repr(vars(spread))
        for copied in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="ClientConfig"):
                copied(spread)


# --- every call ---


CALLS: dict[str, Callable[[Spread], Awaitable[Any]]] = {
    "complete": lambda spread: spread.complete(REQUEST),
    "create": lambda spread: spread.chat.completions.create(**REQUEST),
    "parse": lambda spread: spread.chat.completions.parse(
        **REQUEST, response_format=dict[str, int]
    ),
    "text": lambda spread: spread.completions.create(model="m", prompt="x"),
    "models": lambda spread: spread.models.list(),
    "request": lambda spread: spread.request("POST", "/embeddings", json={"input": "x"}),
    "events": lambda spread: _drained(spread.events("/responses", json={"input": "x"})),
    "stream": lambda spread: _drained(spread.stream("GET", "/files/1")),
}
ANSWERS: dict[str, Script] = {
    "create": json_reply(completion("Hello")),
    "parse": sse_reply(tokens('{"a": 1}')),
    "text": json_reply({"object": "text_completion", "choices": [{"index": 0, "text": "x"}]}),
    "models": json_reply({"object": "list", "data": [{"id": "m"}]}),
    "request": json_reply({"data": []}),
}


async def _drained(stream: Any) -> int:
    async with stream:
        return sum([1 async for _ in stream])


@pytest.mark.parametrize("call", CALLS)
async def test_every_call_goes_to_another_server_when_one_fails(call: str) -> None:
    dead, alive = MemoryNetwork(HELLO, refuse=1000), MemoryNetwork(ANSWERS.get(call, HELLO))
    async with spread_over(dead, alive) as spread:
        began = anyio.current_time()
        for _ in range(4):
            assert await CALLS[call](spread)
        assert anyio.current_time() == began
    assert len(alive.requests) == 4
    # It was asked once, and was out from then on.
    assert len(dead.connects) == 1
    (request, *_) = alive.requests
    assert request.headers["host"] == "s1.test"
    assert request.headers["authorization"] == "Bearer key-of-server-1"


async def test_each_server_gets_its_own_url_key_headers_and_query() -> None:
    nets = networks(2)
    options: list[dict[str, Any]] = [
        {"base_url": "http://a.test/v1", "api_key": "key-of-a", "headers": {"X-A": "1"}},
        {"base_url": "http://b.test/api?v=2", "api_key": None, "default_query": {"w": "3"}},
    ]
    clients = [client_on(net, **each) for net, each in zip(nets, options, strict=True)]
    async with Spread(clients) as spread:
        extra = {"extra_headers": {"X-Call": "c"}, "extra_query": {"q": "1"}}
        for _ in range(2):
            await spread.complete({**REQUEST, **extra})
    a, b = (net.requests[0] for net in nets)
    assert (a.target, b.target) == ("/v1/chat/completions?q=1", "/api/chat/completions?v=2&w=3&q=1")
    assert (a.headers["host"], b.headers["host"]) == ("a.test", "b.test")
    assert a.headers["authorization"] == "Bearer key-of-a"
    assert "authorization" not in b.headers
    assert (a.headers["x-a"], b.headers.get("x-a")) == ("1", None)
    assert a.headers["x-call"] == b.headers["x-call"] == "c"
    assert a.json == b.json


# --- which server ---


async def test_the_fewest_in_flight_first() -> None:
    nets = [MemoryNetwork(SLOW), MemoryNetwork(HELLO.after(1)), MemoryNetwork(HELLO.after(1))]
    async with spread_over(*nets) as spread, anyio.create_task_group() as group:
        for _ in range(30):
            group.start_soon(spread.complete, REQUEST)
        await anyio.sleep(0.5)
        assert counts(nets) == [10, 10, 10]
        await anyio.sleep(1)  # the fast ones are idle again
        for _ in range(10):
            group.start_soon(spread.complete, REQUEST)
        await anyio.sleep(0.1)
        assert counts(nets) == [10, 15, 15]


async def test_one_after_the_other_they_take_turns() -> None:
    nets = networks(3)
    async with spread_over(*nets) as spread:
        for _ in range(9):
            await spread.complete(REQUEST)
    assert counts(nets) == [3, 3, 3]


async def test_a_server_whose_limiter_is_full_comes_later() -> None:
    nets = [MemoryNetwork(SLOW), MemoryNetwork(SLOW)]
    narrow = client_on(nets[0], "http://s0.test/v1", limiter=Limiter(2))
    wide = client_on(nets[1], "http://s1.test/v1", limiter=Limiter(100))
    async with Spread([narrow, wide]) as spread, anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(spread.complete, REQUEST)
        await anyio.sleep(1)
        assert counts(nets) == [2, 18]


async def test_a_stream_counts_until_it_is_closed() -> None:
    nets = networks(2)
    async with spread_over(*nets) as spread:
        stream = spread.chat.completions.stream(**REQUEST)
        assert [server.in_flight for server in spread.statistics().servers] == [0, 0]
        async with stream:
            assert sum(server.in_flight for server in spread.statistics().servers) == 1
            (busy,) = (n for n, net in enumerate(nets) if net.requests)
            for _ in range(3):
                await spread.complete(REQUEST)
            assert counts(nets)[1 - busy] == 3
        assert [server.in_flight for server in spread.statistics().servers] == [0, 0]


# --- sessions ---


@pytest.mark.parametrize(
    "rule", ["user", lambda request: request["user"], None], ids=["member", "function", "call"]
)
async def test_a_session_goes_to_one_server(rule: Any) -> None:
    nets = networks(3)
    async with spread_over(*nets, session=rule) as spread:
        homes: dict[int, set[str]] = {}
        for n in range(12):
            own = {"session": n} if rule is None else {"user": f"user {n}"}
            for _ in range(2):
                await spread.complete({**REQUEST, **own})
                await spread.chat.completions.stream(**REQUEST, **own).collect()
            homes[n] = {net.requests[-1].headers["host"] for net in nets if net.requests}
        assert all(network.requests for network in nets)
    for network in nets:
        for request in network.requests:
            assert "session" not in request.json
            assert ("user" in request.json) is (rule is not None)
    users = [Counter(request.json.get("user") for request in net.requests) for net in nets]
    if rule is not None:
        assert all(count == 4 for counter in users for count in counter.values())


async def test_a_session_in_every_call() -> None:
    nets = networks(3)
    async with spread_over(*nets) as spread:
        for _ in range(2):
            await spread.complete(**REQUEST, session="a")
            await spread.request("POST", "/x", json={"b": 1}, session="a")
            await _drained(spread.events("/x", json={"b": 1}, session="a"))
            await _drained(spread.stream("POST", "/x", json={"b": 1}, session="a"))
            await spread.completions.stream(model="m", prompt="p", session="a").collect()
    assert sorted(counts(nets)) == [0, 0, 10]


async def test_a_rule_reads_the_json_of_other_endpoints() -> None:
    nets = networks(3)
    async with spread_over(*nets, session="user") as spread:
        for _ in range(5):
            await spread.request("POST", "/x", json={"user": "a"})
        assert sorted(counts(nets)) == [0, 0, 5]
        for json in (None, ["user"], {"user": None}, {}):
            await spread.request("POST", "/x", json=json)


@pytest.mark.parametrize("session", [1.5, True, ["a"], b"a"])
async def test_what_is_no_session(session: Any) -> None:
    async with spread_over(HELLO) as spread:
        with pytest.raises(TypeError, match="session"):
            spread.chat.completions.stream(**REQUEST, session=session)
        with pytest.raises(TypeError, match="session"):
            await spread.request("GET", "/x", session=session)


async def test_a_session_waits_for_its_server_while_that_is_in() -> None:
    nets = [MemoryNetwork([BUSY, HELLO]), MemoryNetwork([BUSY, HELLO])]
    async with spread_over(*nets) as spread:
        began = anyio.current_time()
        await spread.complete(REQUEST, session="a")
        assert anyio.current_time() - began == pytest.approx(20)
        assert sorted(counts(nets)) == [0, 2]


async def test_a_session_leaves_a_server_that_is_out() -> None:
    nets = networks(3)
    async with spread_over(*nets) as spread:
        await spread.complete(REQUEST, session="a")
        (home,) = (net for net in nets if net.requests)
        home.kill_idle()
        home.refuse = 3
        for _ in range(5):
            await spread.complete(REQUEST, session="a")
        others = [net for net in nets if net is not home]
        assert sorted(counts(others)) == [0, 5]
        home.refuse = 0
        await anyio.sleep(10)
        for _ in range(5):
            await spread.complete(REQUEST, session="a")
        assert len(home.requests) >= 6


# --- failures ---


async def test_out_for_a_growing_while_and_back_after_a_probe() -> None:
    dead, alive = MemoryNetwork(HELLO, refuse=10**6), MemoryNetwork(HELLO)
    async with spread_over(dead, alive) as spread:
        gaps: list[float] = []
        last = anyio.current_time()
        while len(gaps) < 9:
            before = len(dead.connects)
            await spread.complete(REQUEST)
            if len(dead.connects) > before:
                gaps.append(anyio.current_time() - last)
                last = anyio.current_time()
            await anyio.sleep(0.05)
        for n, gap in enumerate(gaps[1:]):
            longest = min(2.0**n, 30.0)
            assert 0.75 * longest <= gap <= longest + 0.1
        statistics = spread.statistics().servers[0]
        assert statistics.failures == 9
        assert 0 < statistics.out_for <= 30
        dead.refuse = 0
        await anyio.sleep(30)
        for _ in range(20):
            await spread.complete(REQUEST)
        assert spread.statistics().servers[0].failures == 0
        assert len(dead.requests) == 10


async def test_one_probe_at_a_time() -> None:
    slow, alive = MemoryNetwork(HELLO, stall=1000), MemoryNetwork(HELLO)
    async with spread_over(slow, alive, timeouts=Timeouts(connect=2.0)) as spread:
        await spread.complete(REQUEST)
        await anyio.sleep(1)
        before = len(slow.connects)
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(spread.complete, REQUEST)
            await anyio.sleep(0.1)
            assert len(slow.connects) == before + 1
            assert spread.statistics().servers[0].probed
        assert not spread.statistics().servers[0].probed


async def test_a_call_without_retries_is_no_probe() -> None:
    dead, alive = MemoryNetwork(HELLO, refuse=10**6), MemoryNetwork(HELLO)
    async with spread_over(dead, alive) as spread:
        await spread.complete(REQUEST)
        await anyio.sleep(100)
        for _ in range(5):
            await spread.complete(REQUEST, max_retries=0)
        assert len(dead.connects) == 1


@pytest.mark.parametrize("fault", [LOADING, error_reply(502), error_reply(504), RESET])
async def test_what_puts_a_server_out(fault: Any) -> None:
    nets = [MemoryNetwork(fault), MemoryNetwork(HELLO)]
    async with spread_over(*nets) as spread:
        for _ in range(6):
            await spread.complete(REQUEST)
        assert len(nets[0].requests) == 1
        assert spread.statistics().servers[0].failures == 1


async def test_a_500_does_not_put_it_out_and_goes_elsewhere() -> None:
    nets = [MemoryNetwork(error_reply(500)), MemoryNetwork(HELLO)]
    async with spread_over(*nets) as spread:
        began = anyio.current_time()
        for _ in range(6):
            await spread.complete(REQUEST)
        assert anyio.current_time() == began
        assert spread.statistics().servers[0].failures == 0
        assert len(nets[0].requests) > 1


async def test_a_stalled_server_times_out_and_is_out() -> None:
    nets = [MemoryNetwork(reply(Stall())), MemoryNetwork(HELLO)]
    async with spread_over(*nets, timeouts=Timeouts(read=3)) as spread:
        # It may be at work on the request, which is not sent again.
        with pytest.raises(ReadTimeout):
            await spread.complete(REQUEST)
        for _ in range(4):
            await spread.complete(REQUEST)
        assert counts(nets) == [1, 4]


async def test_max_retries_counts_whichever_server_it_is() -> None:
    nets = [MemoryNetwork(HELLO, refuse=10**6) for _ in range(5)]
    async with spread_over(*nets, max_retries=3) as spread:
        with pytest.raises(APIConnectionError):
            await spread.complete(REQUEST)
        assert sum(len(net.connects) for net in nets) == 4
        with pytest.raises(APIConnectionError):
            await spread.complete(REQUEST, max_retries=0)
        assert sum(len(net.connects) for net in nets) == 5


async def test_all_out_the_call_is_tried_and_raises_the_last_error() -> None:
    nets = [MemoryNetwork(LOADING), MemoryNetwork(LOADING)]
    async with spread_over(*nets) as spread:
        with pytest.raises(EndpointNotReadyError):
            await spread.complete(REQUEST)
        before = sum(counts(nets))
        # All are out, and none is due: sent all the same, and at once.
        began = anyio.current_time()
        with pytest.raises(EndpointNotReadyError):
            await spread.complete(REQUEST, max_retries=0)
        assert anyio.current_time() == began
        assert sum(counts(nets)) == before + 1


async def test_all_back_after_an_outage() -> None:
    nets = [MemoryNetwork(HELLO, refuse=3), MemoryNetwork(HELLO, refuse=3)]
    async with spread_over(*nets, max_retries=8) as spread, anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(spread.complete, REQUEST)
    assert sum(counts(nets)) == 20


async def test_a_refusal_of_the_request_is_raised_at_once() -> None:
    nets = networks(2, error_reply(401))
    async with spread_over(*nets) as spread:
        with pytest.raises(AuthenticationError):
            await spread.complete(REQUEST)
        assert sum(counts(nets)) == 1
        assert all(server.failures == 0 for server in spread.statistics().servers)


async def test_after_the_first_byte_nothing_is_sent_again() -> None:
    cut = sse_reply([*tokens("Hel", "lo")[:2], Reset()], done=False)
    nets = networks(3, cut)
    async with spread_over(*nets) as spread:
        for _ in range(3):
            with pytest.raises(StreamInterruptedError) as caught:
                await spread.complete(REQUEST)
            assert caught.value.partial is not None
    assert sum(counts(nets)) == 3


async def test_retry_after_pauses_that_server_only() -> None:
    nets = [MemoryNetwork([BUSY, HELLO]), MemoryNetwork(HELLO)]
    clients = [
        client_on(net, f"http://s{n}.test/v1", limiter=Limiter(9)) for n, net in enumerate(nets)
    ]
    async with Spread(clients) as spread:
        began = anyio.current_time()
        for _ in range(10):
            await spread.complete(REQUEST)
        assert anyio.current_time() == began
        assert counts(nets) == [1, 10]
        await anyio.sleep(21)
        for _ in range(4):
            await spread.complete(REQUEST)
        assert counts(nets) == [3, 12]


async def test_all_busy_it_waits_as_one_client_does() -> None:
    nets = [MemoryNetwork([BUSY, HELLO]), MemoryNetwork([BUSY, HELLO])]
    async with spread_over(*nets) as spread:
        began = anyio.current_time()
        await spread.complete(REQUEST)
        assert anyio.current_time() - began == pytest.approx(20)
        assert sorted(counts(nets)) == [1, 2]


async def test_all_busy_for_too_long() -> None:
    nets = networks(2, BUSY)
    async with spread_over(*nets, max_retry_wait=5) as spread:
        began = anyio.current_time()
        with pytest.raises(RateLimitError) as caught:
            await spread.complete(REQUEST)
        assert caught.value.retry_after == 20
        assert anyio.current_time() == began
        assert counts(nets) == [1, 1]


async def test_a_dead_idle_connection_costs_no_retry_and_no_server() -> None:
    nets = networks(2)
    async with spread_over(*nets) as spread:
        for _ in range(2):
            await spread.complete(REQUEST, max_retries=0)
        for net in nets:
            net.kill_idle()
        for _ in range(2):
            await spread.complete(REQUEST, max_retries=0)
        assert [len(net.connects) for net in nets] == [2, 2]
        assert all(server.failures == 0 for server in spread.statistics().servers)


# --- what is secret ---


async def test_no_key_goes_to_another_server_or_into_an_error() -> None:
    body = error_reply(500, "bad keys: key-of-server-0, key-of-server-1")
    nets = [MemoryNetwork(body), MemoryNetwork(body)]
    async with spread_over(*nets) as spread:
        with pytest.raises(InternalServerError) as caught:
            await spread.complete(REQUEST)
        text = "".join(traceback.format_exception(caught.value)) + repr(caught.value.body)
        assert "key-of-server-0" not in text
        assert "key-of-server-1" not in text
    for n, net in enumerate(nets):
        keys = {request.headers["authorization"] for request in net.requests}
        assert keys == {f"Bearer key-of-server-{n}"}


# --- options, statistics, connections ---


async def test_with_options() -> None:
    nets = networks(2)
    async with spread_over(*nets) as spread:
        async with spread.with_options(headers={"X-A": "1"}, max_retries=0) as other:
            assert type(other) is Spread
            await other.complete(REQUEST)
            await spread.complete(REQUEST)
            assert counts(nets) == [1, 1]
        with pytest.raises(StreamClosedError):
            await other.complete(REQUEST)
        await spread.complete(REQUEST)
        assert [net.requests[0].headers.get("x-a") for net in nets] == ["1", None]


async def test_what_is_known_of_the_servers_is_shared() -> None:
    dead, alive = MemoryNetwork(HELLO, refuse=10**6), MemoryNetwork(HELLO)
    async with spread_over(dead, alive) as spread:
        await spread.with_options(max_retries=3).complete(REQUEST)
        for _ in range(5):
            await spread.complete(REQUEST)
        assert len(dead.connects) == 1


async def test_warm() -> None:
    nets = networks(2)
    async with spread_over(*nets) as spread:
        assert await spread.warm(3) == 6
        assert [len(net.connects) for net in nets] == [3, 3]
        assert spread.statistics().idle_connections == 6
        nets[0].refuse = 100
        assert await spread.warm(4) == 4
        nets[1].refuse = 100
        with pytest.raises(APIConnectionError):
            await spread.warm(5)
        with pytest.raises(ValueError, match="n is -1"):
            await spread.warm(-1)


async def test_observers_see_which_server() -> None:
    watcher = Watcher()
    nets = [MemoryNetwork(HELLO, refuse=1), MemoryNetwork(HELLO)]
    async with spread_over(*nets, observer=watcher) as spread:
        await spread.complete(REQUEST)
    assert watcher.names == [
        "request_started",
        "attempt_failed",
        "response_started",
        "first_token",
        "finished",
    ]
    first, second = "http://s0.test:80/v1", "http://s1.test:80/v1"
    assert [event.server for event in watcher.of("request_started")] == [first]
    assert [event.server for event in watcher.of("attempt_failed")] == [first]
    assert [event.retry_in for event in watcher.of("attempt_failed")] == [0.0]
    assert [event.server for event in watcher.of("response_started")] == [second]
    assert [event.server for event in watcher.of("finished")] == [second]


async def test_an_observer_of_one_client_is_told_of_the_calls_to_its_server() -> None:
    watchers = [Watcher(), Watcher()]
    nets = [MemoryNetwork(HELLO, refuse=1), MemoryNetwork(HELLO)]
    clients = [
        client_on(net, f"http://s{n}.test/v1", observer=watcher)
        for n, (net, watcher) in enumerate(zip(nets, watchers, strict=True))
    ]
    async with Spread(clients) as spread:
        await spread.complete(REQUEST)
        # A call that moves begins and ends for both.
        assert watchers[0].names == ["request_started", "attempt_failed", "finished"]
        started, responded, token, finished = (event for _, event in watchers[1].events)
        assert watchers[1].names == [
            "request_started",
            "response_started",
            "first_token",
            "finished",
        ]
        assert watchers[0].of("finished") == [finished]
        assert len({event.id for event in (started, responded, token, finished)}) == 1
        assert started.server == finished.server == "http://s1.test:80/v1"
        for watcher in watchers:
            watcher.events.clear()
        await spread.complete(REQUEST)
        assert watchers[0].events == []
        assert watchers[1].outcomes() == ["completed"]


async def test_one_client_with_an_observer_and_one_without() -> None:
    watcher = Watcher()
    clients = [
        client_on(HELLO, "http://s0.test/v1"),
        client_on(HELLO, "http://s1.test/v1", observer=watcher),
    ]
    async with Spread(clients) as spread:
        for _ in range(4):
            await spread.complete(REQUEST)
    assert watcher.outcomes() == ["completed"] * 2
    assert {event.server for event in watcher.of("finished")} == {"http://s1.test:80/v1"}


# --- closing ---


async def test_closing_it_closes_its_clients_and_streams() -> None:
    nets = networks(2, sse_reply([*tokens("Hel")[:1], Pause(60), *tokens("lo")]))
    spread = spread_over(*nets)
    streams = [spread.chat.completions.stream(**REQUEST) for _ in range(4)]
    for stream in streams:
        await stream.__aenter__()
    await spread.aclose()
    await spread.aclose()
    for stream in streams:
        with pytest.raises(StreamClosedError):
            await stream.collect()
    with pytest.raises(StreamClosedError, match="client is closed"):
        await spread.complete(REQUEST)
    for client in spread.clients:
        with pytest.raises(StreamClosedError):
            await client.complete(REQUEST)
    assert [net.open_connections for net in nets] == [0, 0]
    assert all(server.in_flight == 0 for server in spread.statistics().servers)


async def test_closing_it_ends_calls_that_wait() -> None:
    spread = spread_over(BUSY, BUSY)
    raised: list[Exception] = []

    async def call() -> None:
        try:
            await spread.complete(REQUEST, max_retries=9)
        except StreamClosedError as error:
            raised.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(call)
        await anyio.sleep(1)
        await spread.aclose()
    assert len(raised) == 4


async def test_a_client_that_is_closed_gets_nothing_more() -> None:
    nets = networks(3)
    async with spread_over(*nets) as spread:
        await spread.clients[0].aclose()
        for _ in range(6):
            await spread.complete(REQUEST)
        for n in range(6):
            await spread.complete(REQUEST, session=n)
        assert counts(nets)[0] == 0
        await spread.clients[1].aclose()
        await spread.clients[2].aclose()
        with pytest.raises(StreamClosedError):
            await spread.complete(REQUEST)


async def test_closing_at_once() -> None:
    spread = spread_over(HELLO, HELLO)
    await spread.complete(REQUEST)
    spread.close()
    with pytest.raises(StreamClosedError):
        await spread.complete(REQUEST)


async def test_an_abandoned_stream_gives_its_place_back() -> None:
    async with spread_over(*networks(2)) as spread:
        stream = spread.chat.completions.stream(**REQUEST)
        await stream.__anext__()
        streams = [stream]
        del stream
        with pytest.warns(ResourceWarning):
            streams.clear()
        assert all(server.in_flight == 0 for server in spread.statistics().servers)


@pytest.mark.sampled(0.34)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("fault", ["none", "refused", "busy"])
def test_cancelled_at_any_point_nothing_is_left(backend: BackendName, fault: str) -> None:
    @asynccontextmanager
    async def scenario() -> AsyncIterator[Callable[[], Awaitable[object]]]:
        scripts: Mapping[str, Any] = {"none": HELLO, "refused": HELLO, "busy": [BUSY, HELLO]}
        nets = [MemoryNetwork(scripts[fault]), MemoryNetwork(scripts[fault])]
        nets[0].refuse = 2 if fault == "refused" else 0
        clients = [
            client_on(net, f"http://s{n}.test/v1", limiter=Limiter(1)) for n, net in enumerate(nets)
        ]
        async with Spread(clients) as spread:
            yield lambda: spread.complete(REQUEST)
            statistics = spread.statistics()
            assert [server.in_flight for server in statistics.servers] == [0, 0]
            assert not any(server.probed for server in statistics.servers)
            assert statistics.open_calls == 0
            assert (await spread.complete(REQUEST)).choices
        assert [net.open_connections for net in nets] == [0, 0]

    assert min(cancel_sweep(backend, scenario).values()) >= 3


async def test_a_cancelled_read_goes_on_at_the_same_server() -> None:
    nets = networks(2, SLOW)
    async with spread_over(*nets) as spread:
        stream = spread.chat.completions.stream(**REQUEST)
        for _ in range(4):
            with anyio.move_on_after(1):
                await stream.__anext__()
        assert sum(server.in_flight for server in spread.statistics().servers) == 1
        assert (await stream.collect()).choices[0].message.content == "Hello"
        assert sum(counts(nets)) == 1


# --- everything that takes a client ---


async def test_fan_outs_and_races_take_it() -> None:
    nets = [MemoryNetwork(HELLO.after(0.1)) for _ in range(3)]
    nets[1].refuse = 10**6
    requests = [{**REQUEST, "n_th": n} for n in range(12)]
    async with spread_over(*nets) as spread:
        async with penstock.fan_out(spread.complete, requests, limit=4) as results:
            assert [result.unwrap() async for result in results]
        async with penstock.fan_out_chunks(spread, requests, limit=4) as events:
            ends = [event async for event in events if isinstance(event, penstock.ResultEvent)]
        assert all(event.error is None for event in ends)
        async with penstock.fan_out_channels(spread, requests, limit=4) as channels:
            async for channel in channels:
                async with channel.receive:
                    assert [chunk async for chunk in channel.receive]
        async with penstock.race(spread, [REQUEST, REQUEST, REQUEST], max_live=3) as winner:
            assert (await winner.collect()).choices[0].message.content == "Hello"
        text = {"model": "m", "prompt": "x"}
        async with penstock.fan_out_chunks(spread, [text]) as events:
            assert [event async for event in events]
        assert all(server.in_flight == 0 for server in spread.statistics().servers)
    assert nets[1].requests == []


async def test_the_attempts_of_a_race_go_to_different_servers() -> None:
    nets = [MemoryNetwork(SLOW), MemoryNetwork(HELLO.after(1))]
    async with spread_over(*nets) as spread:
        began = anyio.current_time()
        async with penstock.race(spread, [REQUEST, REQUEST]) as winner:
            await winner.collect()
        assert anyio.current_time() - began == pytest.approx(1)
        assert counts(nets) == [1, 1]


async def test_the_first_clients_timeouts_and_retries_apply() -> None:
    nets = [MemoryNetwork(HELLO, stall=9), MemoryNetwork(HELLO, stall=9)]
    first = client_on(nets[0], "http://s0.test/v1", timeouts=Timeouts(connect=2), max_retries=1)
    second = client_on(nets[1], "http://s1.test/v1", timeouts=Timeouts(connect=50))
    async with Spread([first, second]) as spread:
        began = anyio.current_time()
        with pytest.raises(ConnectTimeout):
            await spread.complete({"model": "m", "messages": MESSAGES})
        assert anyio.current_time() - began == pytest.approx(4)
