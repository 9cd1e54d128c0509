"""Attempts: when a request is sent again, what each one carries, and what it gives back."""

from __future__ import annotations

import copy
import logging
import math
import pickle
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock
from penstock import CompletionStream, Limiter, Timeouts
from penstock._limiter.lent import lent
from penstock.testing.cuts import cut_at
from penstock.testing.lookups import slow_lookups
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import error_reply, json_reply, sse_reply, status_reply, tokens
from penstock.testing.script import (
    End,
    Fault,
    RecordedRequest,
    Repeat,
    Reply,
    Reset,
    Send,
    Stall,
    reply,
)
from penstock.testing.sweep import BackendName, cancel_sweep
from tests.security.seen import all_of, variables_of
from tests.support.chat import KEY, REQUEST, URL, Watcher, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

HELLO = sse_reply(tokens("Hel", "lo"))


@pytest.mark.parametrize(
    "failure",
    [
        error_reply(408),
        error_reply(409),
        error_reply(429),
        error_reply(500),
        error_reply(503),
        error_reply(529),
        error_reply(400, headers={"x-should-retry": "true"}),
        reply(Reset()),
        reply(End()),
        # After the head, yet before the first byte of the body.
        sse_reply([Reset()], done=False),
        sse_reply([End()], done=False),
    ],
)
async def test_what_is_sent_again(failure: Reply) -> None:
    network = MemoryNetwork([failure, failure, HELLO])
    async with client_on(network) as client:
        answer = await client.complete({**REQUEST, "seed": 5})
    assert answer.choices[0].message.content == "Hello"
    assert len(network.requests) == 3
    assert len({request.body for request in network.requests}) == 1
    first, second = network.requests[1].time, network.requests[2].time
    assert 0.375 <= first <= 0.51
    assert 0.75 <= second - first <= 1.01


@pytest.mark.parametrize(
    "failure",
    [
        error_reply(400),
        error_reply(401),
        error_reply(402),
        error_reply(403),
        error_reply(404),
        error_reply(422),
        error_reply(301),
        error_reply(429, code="insufficient_quota"),
        error_reply(500, headers={"x-should-retry": "false"}),
        error_reply(503, headers={"retry-after": "61"}),
        reply(b"nonsense\r\n\r\n"),
        json_reply({"detail": "no stream"}),
        sse_reply([], done=False),
        sse_reply([{"error": "no"}]),
        sse_reply([*tokens("a"), Reset()], done=False),
    ],
)
async def test_what_is_not_sent_again(failure: Reply) -> None:
    network = MemoryNetwork([failure, HELLO])
    async with client_on(network) as client:
        with pytest.raises(penstock.PenstockError) as caught:
            await client.complete(REQUEST)
        assert anyio.current_time() < 0.1
    assert len(network.requests) == 1
    assert network.open_connections == 0
    error = caught.value
    for again in (copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert repr(vars(again)) == repr(vars(error))


async def test_a_refused_and_a_stalled_connect_are_tried_again() -> None:
    network = MemoryNetwork(HELLO, refuse=1, stall=1)
    async with client_on(network, timeouts=Timeouts(connect=3)) as client:
        await client.complete(REQUEST)
    assert len(network.connects) == 3
    assert 3.3 < anyio.current_time() < 5
    network = MemoryNetwork(HELLO, stall=9)
    async with client_on(network, timeouts=Timeouts(connect=3), max_retries=0) as client:
        with pytest.raises(penstock.ConnectTimeout):
            await client.complete(REQUEST)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "60"}, 60),
    ],
)
async def test_the_server_says_how_long_to_wait(headers: dict[str, str], seconds: float) -> None:
    network = MemoryNetwork([error_reply(429, headers=headers), HELLO])
    async with client_on(network) as client:
        await client.complete(REQUEST)
    assert network.requests[1].time == pytest.approx(seconds, abs=1e-3)


async def test_the_server_says_until_when_to_wait() -> None:
    # By the time of day, which goes on beside the loop's.
    until = formatdate(time.time() + 50, usegmt=True)
    network = MemoryNetwork([error_reply(429, headers={"retry-after": until}), HELLO])
    async with client_on(network) as client:
        await client.complete(REQUEST)
    assert 30 < network.requests[1].time <= 50


async def test_what_is_sent_again_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    network = MemoryNetwork([error_reply(429, headers={"retry-after": "7"}), HELLO])
    with caplog.at_level(logging.INFO, "penstock"):
        async with client_on(network) as client:
            await client.complete(REQUEST)
    assert caplog.messages == [
        "attempt 1 at api.test:80 failed (RateLimitError); sending again in 7.00 s"
    ]


@pytest.mark.parametrize("status", [404, 500])
@pytest.mark.parametrize("end", [Reset(), End(), Stall()])
async def test_a_refusal_counts_whatever_becomes_of_its_body(status: int, end: Any) -> None:
    head = f"HTTP/1.1 {status} x\r\ncontent-length: 100\r\n\r\nno such model".encode()
    network = MemoryNetwork([reply(head, end), HELLO])
    async with client_on(network, timeouts=Timeouts(read=5)) as client:
        if status == 500:
            await client.complete(REQUEST)
        else:
            # What had come of it is told.
            with pytest.raises(penstock.NotFoundError, match="no such model"):
                await client.complete(REQUEST)
        assert len(network.requests) == 1 + (status == 500)
    assert network.open_connections == 0


PROXY = "http://me:password-1@proxy.test:3128"


@pytest.mark.parametrize(("status", "attempts"), [(407, 1), (403, 1), (502, 3)])
async def test_a_proxys_last_word_is_not_asked_for_again(status: int, attempts: int) -> None:
    network = MemoryNetwork(status_reply(status))
    async with client_on(network, "https://api.test/v1", proxy=PROXY) as client:
        with pytest.raises(penstock.APIConnectionError, match=str(status)):
            await client.complete(REQUEST)
    assert [request.method for request in network.requests] == ["CONNECT"] * attempts


@pytest.mark.parametrize("secret", ["password-1", "bWU6cGFzc3dvcmQtMQ=="])
async def test_nothing_tells_what_the_proxy_is_told(secret: str) -> None:
    watcher = Watcher()
    headers = {"x-request-id": secret}
    network = MemoryNetwork([error_reply(400, f"no {secret}", headers=headers), HELLO])
    async with client_on(network, proxy=PROXY, observer=watcher) as client:
        with pytest.raises(penstock.BadRequestError, match="no ") as caught:
            await client.complete(REQUEST)
    (sent,) = network.requests
    assert sent.headers["proxy-authorization"] == "Basic bWU6cGFzc3dvcmQtMQ=="
    assert secret not in f"{caught.value} {vars(caught.value)} {watcher.events}"


async def test_headers_are_renewed_when_it_is_sent_again() -> None:
    asked: list[int] = []

    async def renew(failures: int) -> dict[bytes, bytes]:
        asked.append(failures)
        return {b"x-try": b"try %d" % failures, b"x-absent": b"1"}

    network = MemoryNetwork([error_reply(500), error_reply(500), HELLO])
    async with client_on(network) as client:
        call = client.chat.completions._endpoint.chat_call(
            {**REQUEST, "extra_headers": {"X-Try": "first"}}, stream=True
        )
        call = msgspec.structs.replace(call, renew=renew)
        stream: Any = CompletionStream(client.chat.completions._endpoint.service, call)
        await stream.collect()
    assert asked == [1, 2]
    assert [sent.headers["x-try"] for sent in network.requests] == ["first", "try 1", "try 2"]
    assert "x-absent" not in network.requests[-1].headers


async def test_a_wait_above_the_cap_is_not_waited_for_but_told() -> None:
    network = MemoryNetwork([error_reply(429, headers={"retry-after": "9"}), HELLO])
    async with client_on(network, max_retry_wait=5) as client:
        with pytest.raises(penstock.RateLimitError) as caught:
            await client.complete(REQUEST)
    assert caught.value.retry_after == 9
    assert anyio.current_time() < 0.1


async def test_the_total_covers_attempts_and_waits() -> None:
    network = MemoryNetwork(error_reply(503, headers={"retry-after": "4"}).after(1))
    async with client_on(network, timeouts=Timeouts(total=8), max_retries=9) as client:
        with pytest.raises(penstock.TotalTimeout, match="8 s"):
            await client.complete(REQUEST)
        assert anyio.current_time() == pytest.approx(8, abs=1e-3)
    assert network.open_connections == 0
    assert len(network.requests) == 2


@pytest.mark.parametrize("fault", [Reset(), End(), Stall()])
async def test_a_refusal_says_what_came_of_its_body(fault: Any) -> None:
    whole = error_reply(404, "no such model")
    data = b"".join(step.data for step in whole.steps if isinstance(step, Send))
    network = MemoryNetwork(cut_at(whole, data.index(b" model"), fault))
    async with client_on(network, timeouts=Timeouts(read=2), max_retries=0) as client:
        with pytest.raises(penstock.NotFoundError, match="no such") as caught:
            await client.complete(REQUEST)
    assert caught.value.body == '{"error": {"message": "no such'


async def test_a_refusals_body_without_end_is_cut() -> None:
    endless = sse_reply([b"no such model. ", Repeat(b"x" * 9999)], status=400, done=False)
    async with client_on(endless) as client:
        with pytest.raises(penstock.BadRequestError, match="no such model") as caught:
            await client.complete(REQUEST)
    assert len(caught.value.body) == 64 * 1024


async def test_the_connection_of_a_refusal_is_used_again() -> None:
    network = MemoryNetwork([error_reply(429), HELLO])
    async with client_on(network) as client:
        await client.complete(REQUEST)
    assert len(network.connections) == 1


@pytest.mark.parametrize("max_retries", [0, 2])
@pytest.mark.parametrize("way", ["stream", "create"])
async def test_a_stale_connection_is_replaced_at_once(max_retries: int, way: str) -> None:
    network = MemoryNetwork([HELLO, reply(Reset()), HELLO])
    async with client_on(network, max_retries=max_retries) as client:
        await client.complete(REQUEST)
        if way == "stream":
            await client.complete(REQUEST)
        else:
            async with client.chat.completions.stream(**REQUEST) as stream:
                await stream.collect()
    assert len(network.requests) == 3
    assert anyio.current_time() < 0.2


@pytest.mark.parametrize("fault", [Reset(), End()])
@pytest.mark.parametrize("max_retries", [0, 2])
async def test_any_number_of_dead_idle_connections_costs_one_attempt(
    max_retries: int, fault: Fault
) -> None:
    count = 6
    dead: set[int] = set()

    def answer(request: RecordedRequest) -> Reply:
        return reply(fault) if request.connection in dead else HELLO.after(1)

    network = MemoryNetwork(answer)
    watcher = Watcher()
    async with client_on(network, max_retries=max_retries, observer=watcher) as client:
        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(client.complete, REQUEST)
        dead.update(range(count))
        before = anyio.current_time()
        await client.complete(REQUEST)
        assert anyio.current_time() == before + 1
        (failure,) = watcher.of("attempt_failed")
        assert failure.retry_in == 0
        last, new = (request.connection for request in network.requests[count:])
        assert last in dead
        assert new == count
        # All at once: each meets one dead connection at most.
        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(client.complete, REQUEST)
        assert len(network.connections) == 12
        assert len(watcher.of("attempt_failed")) == count
        assert watcher.outcomes() == ["completed"] * (2 * count + 1)


async def test_a_dead_idle_connection_is_free_once_and_a_failure_after_it_is_not() -> None:
    network = MemoryNetwork([HELLO, reply(Reset()), reply(Reset()), HELLO])
    async with client_on(network, max_retries=0) as client:
        await client.complete(REQUEST)
        with pytest.raises(penstock.APIConnectionError):
            await client.complete(REQUEST)
        assert len(network.requests) == 3
        await client.complete(REQUEST)


async def test_a_race_over_dead_idle_connections() -> None:
    dead: set[int] = set()

    def answer(request: RecordedRequest) -> Reply:
        return reply(Reset()) if request.connection in dead else HELLO.after(1)

    network = MemoryNetwork(answer)
    async with client_on(network, max_retries=0) as client:
        async with anyio.create_task_group() as group:
            for _ in range(6):
                group.start_soon(client.complete, REQUEST)
        dead.update(range(6))
        async with penstock.race(client, [REQUEST, REQUEST]) as winner:
            assert (await winner.collect()).choices[0].message.content


async def test_a_connection_that_dies_in_the_middle_of_a_head_was_not_stale() -> None:
    network = MemoryNetwork([HELLO, reply(b"HTTP/1.1 20", Reset()), HELLO])
    async with client_on(network) as client:
        await client.complete(REQUEST)
        await client.complete(REQUEST)
    assert len(network.requests) == 3
    assert anyio.current_time() >= 0.375


@pytest.mark.parametrize("where", ["connecting", "waiting for the head", "retrying", "before"])
async def test_a_client_that_is_closed_sends_no_more(where: str) -> None:
    network = {
        "connecting": MemoryNetwork(HELLO, stall=1),
        "waiting for the head": MemoryNetwork(HELLO.after(100)),
        "retrying": MemoryNetwork(error_reply(503, headers={"retry-after": "50"})),
        "before": MemoryNetwork(HELLO),
    }[where]
    client = client_on(network)
    stream = client.chat.completions.stream(**REQUEST)

    async def close() -> None:
        await anyio.sleep(2)
        await client.aclose()

    async with anyio.create_task_group() as group:
        group.start_soon(close)
        if where == "before":
            await anyio.sleep(3)
        with pytest.raises(penstock.StreamClosedError):
            await stream.collect()
        assert anyio.current_time() == pytest.approx(3 if where == "before" else 2, abs=0.01)
    assert len(network.requests) == (where not in ("connecting", "before"))
    assert network.open_connections == 0
    assert stream.state is penstock.StreamState.CLOSED


async def forever() -> Any:
    await anyio.sleep_forever()


async def pieces_that_stop() -> AsyncGenerator[bytes]:  # noqa: ASYNC900 - a source, as users write them
    yield b"{"
    await anyio.sleep_forever()


WAITS: dict[str, list[Reply]] = {
    "key": [HELLO],
    "slot": [HELLO],
    "look-up": [HELLO],
    "connection": [HELLO],
    "head": [reply(Stall())],
    "head on a kept connection": [HELLO, reply(Stall())],
    "odd head": [reply(b"HTTP/1.0 200 OK\r\n", Stall())],
    "refusal": [reply(b"HTTP/1.1 400 no\r\ncontent-length: 9\r\n\r\n{", Stall())],
    "back-off": [error_reply(429, headers={"retry-after": "50"})],
    "pieces of the body": [HELLO],
}


@pytest.mark.parametrize("ending", ["stream", "client", "total"])
@pytest.mark.parametrize("wait", WAITS)
async def test_every_wait_of_an_opening_ends(wait: str, ending: str) -> None:
    network = MemoryNetwork(WAITS[wait], stall=1 if wait == "connection" else 0)
    limiter = Limiter(1)
    options: dict[str, Any] = {
        "timeouts": Timeouts(connect=90, total=3 if ending == "total" else 90),
        "api_key": forever if wait == "key" else KEY,
        "limiter": limiter if wait == "slot" else None,
    }
    if wait == "look-up":
        client = penstock.AsyncClient(URL, **options, proxy="")
    else:
        client = client_on(network, **options)
    with slow_lookups(math.inf):
        async with client:
            if wait == "head on a kept connection":
                await client.complete(REQUEST)
            stream: Any = client.chat.completions.stream(**REQUEST)
            if wait == "pieces of the body":
                stream = client.stream("POST", "/files", content=pieces_that_stop())
            held = await limiter.acquire()
            began = anyio.current_time()
            failed: list[Exception] = []

            async def use() -> None:
                try:
                    await stream.open()
                except Exception as error:  # noqa: BLE001 - looked at below
                    failed.append(error)

            async with anyio.create_task_group() as group:
                group.start_soon(use)
                if ending != "total":
                    await anyio.sleep(3)
                    await (stream.aclose() if ending == "stream" else client.aclose())
            assert anyio.current_time() == pytest.approx(began + 3, abs=1e-3)
            kind = penstock.TotalTimeout if ending == "total" else penstock.StreamClosedError
            assert [type(error) for error in failed] == [kind]
            if ending != "total":
                assert str(failed[0]) == "the stream was closed while it was being opened"
                assert failed[0].__cause__ is None
            assert KEY not in all_of(failed[0]) + variables_of(failed[0])
            assert stream.state == ("failed" if ending == "total" else "closed")
            assert client.statistics().failed == (ending == "total")
            # A refusal that was read to its end leaves its connection idle.
            assert network.open_connections <= (wait == "back-off")
            held.release()
            assert limiter.statistics().in_flight == limiter.statistics().waiting == 0


@pytest.mark.parametrize("broken_off", ["cancelled", "total"])
async def test_a_refusal_counts_although_its_body_is_not_waited_for(broken_off: str) -> None:
    refusal = reply(b"HTTP/1.1 429 no\r\nretry-after: 50\r\ncontent-length: 9\r\n\r\n{", Stall())
    limiter = Limiter(2)
    total = 3 if broken_off == "total" else None
    async with client_on([refusal], limiter=limiter, timeouts=Timeouts(total=total)) as client:
        with anyio.move_on_after(3.5 if total else 3):
            with pytest.raises(penstock.TotalTimeout):
                await client.complete(REQUEST)
        assert limiter.statistics().paused_by == "retry_after"


@pytest.mark.parametrize("wait", ["connection", "head", "refusal", "back-off"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelled_at_its_deadline_a_stream_can_be_opened_again(
    backend: BackendName, wait: str
) -> None:
    @asynccontextmanager
    async def scenario() -> AsyncGenerator[Any]:
        network = MemoryNetwork(WAITS[wait] * 2, stall=2 if wait == "connection" else 0)
        async with client_on(network, timeouts=Timeouts(connect=90, total=3)) as client:
            stream = client.chat.completions.stream(**REQUEST)

            async def body() -> None:
                with pytest.raises(penstock.TotalTimeout):
                    await stream.open()

            yield body
            if stream.state is not penstock.StreamState.FAILED:
                # Cancelled before its deadline, it has been refused.
                with pytest.raises((penstock.TotalTimeout, penstock.BadRequestError)):
                    await stream.open()
            assert stream.state is penstock.StreamState.FAILED
        assert network.open_connections == 0

    points = cancel_sweep(backend, scenario)
    assert min(points.values()) >= 1


async def test_a_request_stands_in_the_place_of_its_item_once() -> None:
    limiter = Limiter(1)
    async with client_on(HELLO.after(1), limiter=limiter) as client:
        item = await limiter.acquire()
        with lent(item), anyio.fail_after(5):
            for _ in range(2):
                await client.complete(REQUEST)
        item.release()
    assert limiter.statistics().granted == 1
    assert limiter.statistics().in_flight == 0


async def test_of_two_items_around_it_a_request_stands_in_the_inner_one() -> None:
    outer, inner = Limiter(1), Limiter(1)
    refused = error_reply(429, headers={"retry-after": "7"})
    async with client_on(refused, max_retries=0) as client:
        places = await outer.acquire(), await inner.acquire()
        with lent(places[0]), lent(places[1]), pytest.raises(penstock.RateLimitError):
            await client.complete(REQUEST)
    assert (outer.statistics().refused, inner.statistics().refused) == (0, 1)
    assert (outer.statistics().paused_for, inner.statistics().paused_for) == (0, 7)


async def test_each_attempt_has_its_own_deadlines() -> None:
    network = MemoryNetwork([error_reply(500).after(4), HELLO.after(4)])
    async with client_on(network, timeouts=Timeouts(first_token=5, read=5)) as client:
        await client.complete(REQUEST)
    assert anyio.current_time() > 8


async def test_exactly_one_authorization() -> None:
    network = MemoryNetwork([error_reply(500), HELLO])
    async with client_on(network) as client:
        await client.complete(REQUEST)
        await client.complete(REQUEST, extra_headers={"authorization": "Basic b3duOm93bg=="})
    values = [
        [value for name, value in request.raw_headers if name.lower() == b"authorization"]
        for request in network.requests
    ]
    assert values == [[f"Bearer {KEY}".encode()]] * 2 + [[b"Basic b3duOm93bg=="]]


async def test_what_failed_attempts_tell_has_no_key() -> None:
    watcher = Watcher()
    network = MemoryNetwork([error_reply(500, f"for {KEY}"), HELLO])
    async with client_on(network, observer=watcher) as client:
        await client.complete(REQUEST)
    (failed,) = watcher.of("attempt_failed")
    assert KEY not in repr(failed)
    assert KEY not in repr(vars(failed.error))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelled_at_every_point_nothing_is_held(backend: Any) -> None:
    made: list[tuple[MemoryNetwork, Limiter]] = []

    async def scenario() -> None:
        network = MemoryNetwork([error_reply(500), reply(Reset()), HELLO], delay=0.1)
        limiter = Limiter(1)
        made.append((network, limiter))
        async with client_on(network, limiter=limiter) as client:
            await client.complete(REQUEST)

    def check(point: int, mode: str) -> None:
        network, limiter = made[-1]
        assert network.open_connections == 0
        assert limiter.statistics().in_flight == limiter.statistics().waiting == 0
        assert len(network.requests) <= 3

    cancel_sweep(backend, scenario, check=check)
    assert len(made) > 10


faults = st.sampled_from(
    [
        error_reply(500),
        error_reply(429, headers={"retry-after": "1"}),
        error_reply(404),
        reply(Reset()),
        reply(End()),
        reply(Stall()),
        sse_reply([*tokens("a", finish=None), Reset()], done=False),
        sse_reply(tokens("a", finish=None), done=False),
        sse_reply([{"error": "x"}]),
        HELLO,
    ]
)


@given(script=st.lists(faults, min_size=1, max_size=5), retries=st.integers(0, 4))
async def test_never_more_requests_than_allowed_and_none_after_a_body(
    script: list[Reply], retries: int
) -> None:
    network = MemoryNetwork([*script, HELLO])
    limiter = Limiter(1)
    timeouts = Timeouts(read=5)
    client = client_on(network, limiter=limiter, max_retries=retries, timeouts=timeouts)
    async with client:
        try:
            await client.complete(REQUEST)
        except penstock.PenstockError:
            pass
        assert limiter.statistics().in_flight == 0
    # A used connection that says nothing counts as a dead idle one: it costs no retry, once.
    silent = any(not each.data for each in script)
    assert len(network.requests) <= retries + 1 + silent
    last = [*script, HELLO][len(network.requests) - 1]
    assert all(
        not played.data.startswith(b"HTTP/1.1 200")
        for played in script[: len(network.requests) - 1]
    ), last
    assert network.open_connections == 0
