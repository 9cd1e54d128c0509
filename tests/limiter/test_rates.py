"""What may start within a minute: requests, and the tokens that they cost."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import anyio
import pytest

import penstock
from penstock import Limiter
from penstock._limiter.lent import lent
from penstock._policy.window import MINUTE
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import completion, error_reply, json_reply, sse_reply, tokens
from penstock.testing.script import RecordedRequest, Reply, Stall
from penstock.testing.sweep import cancel_sweep
from tests.support.chat import REQUEST, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

HELLO = sse_reply(tokens("Hel", "lo"))


def usage(total: int) -> dict[str, int]:
    return {"prompt_tokens": 1, "completion_tokens": total - 1, "total_tokens": total}


def answer(total: int) -> Reply:
    return json_reply({**completion(), "usage": usage(total)})


def most_within_a_minute(starts: list[tuple[float, int]]) -> int:
    """Return the largest sum of what starts within 60 seconds, both ends included."""
    return max(
        sum(amount for at, amount in starts if since <= at <= since + 60) for since, _ in starts
    )


# --- making one ---


@pytest.mark.parametrize("name", ["requests_per_minute", "tokens_per_minute"])
@pytest.mark.parametrize(
    ("rate", "kind"),
    [(0, ValueError), (-1, ValueError), (float("nan"), ValueError), (float("inf"), ValueError),
     ("60", TypeError), (True, TypeError)],
)  # fmt: skip
def test_bad_rates(name: str, rate: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=name):
        Limiter(4, **{name: rate})


def test_an_estimate_that_is_no_function() -> None:
    with pytest.raises(TypeError, match="estimate"):
        Limiter(4, tokens_per_minute=100, estimate=500)  # type: ignore[arg-type]


# --- requests ---


async def test_a_minutes_worth_starts_at_once_and_the_rest_a_minute_later() -> None:
    limiter = Limiter(100, requests_per_minute=10)
    times: list[tuple[float, int]] = []

    async def start() -> None:
        async with limiter:
            times.append((anyio.current_time(), 1))

    async with anyio.create_task_group() as group:
        for _ in range(25):
            group.start_soon(start)
    assert [round(at - times[0][0], 3) for at, _ in times] == (
        [0] * 10 + [MINUTE] * 10 + [2 * MINUTE] * 5
    )
    assert most_within_a_minute(times) == 10


async def test_less_than_one_a_minute() -> None:
    limiter = Limiter(2, requests_per_minute=0.5)
    times: list[float] = []
    for _ in range(3):
        async with limiter:
            times.append(anyio.current_time())
    assert times == pytest.approx([times[0] + 2 * MINUTE * number for number in range(3)])


async def test_the_minute_begins_when_a_request_is_sent() -> None:
    limiter = Limiter(10, requests_per_minute=2)
    sent: list[tuple[float, int]] = []

    def script(request: RecordedRequest) -> Reply:
        sent.append((request.time, 1))
        return HELLO

    delays = iter([50, 50, 0, 0])

    async def key() -> str:
        await anyio.sleep(next(delays))
        return "sk-test"

    async with (
        client_on(script, limiter=limiter, api_key=key) as client,
        anyio.create_task_group() as group,
    ):
        for _ in range(4):
            group.start_soon(client.complete, REQUEST)
    assert most_within_a_minute(sent) == 2


async def test_a_fan_out_of_any_function_keeps_the_rate_and_ends_with_its_source() -> None:
    limiter = Limiter(4, requests_per_minute=3)
    times: list[tuple[float, int]] = []

    async def work(number: int) -> int:
        times.append((anyio.current_time(), 1))
        return number

    async with penstock.fan_out(work, range(3), limit=limiter) as results:
        assert sorted([result.unwrap() async for result in results]) == [0, 1, 2]
    # The end of the source is no fourth request.
    assert anyio.current_time() - times[0][0] == 0
    async with penstock.fan_out(work, range(4), limit=limiter) as results:
        assert len([result async for result in results]) == 4
    assert most_within_a_minute(times) == 3
    assert limiter.statistics().in_flight == 0


@pytest.mark.parametrize("shared", [True, False])
async def test_a_request_of_an_item_is_counted_once(shared: bool) -> None:
    limiter = Limiter(4, requests_per_minute=6, tokens_per_minute=100_000)
    network = MemoryNetwork(HELLO)
    client = client_on(network, limiter=limiter if shared else None)
    async with client, penstock.fan_out(client.complete, [REQUEST] * 6, limit=limiter) as results:
        assert all([result.error is None async for result in results])
    assert anyio.current_time() == pytest.approx(0, abs=0.1)
    assert limiter.statistics().requests_available == 0


# --- tokens ---


async def test_an_estimate_is_reserved_and_settled_with_the_usage() -> None:
    seen: list[Any] = []

    def estimate(request: Any) -> float:
        seen.append(request)
        return 600.5

    limiter = Limiter(4, tokens_per_minute=1000, estimate=estimate)
    held: list[int | None] = []

    def script(request: RecordedRequest) -> Reply:
        statistics = limiter.statistics()
        held.append(statistics.tokens_held)
        held.append(statistics.tokens_available)
        return answer(150)

    async with client_on(script, limiter=limiter) as client:
        await client.chat.completions.create(**REQUEST, user="me")
    assert [request["user"] for request in seen] == ["me"]
    assert seen[0]["messages"] == REQUEST["messages"]
    assert held == [601, 399]
    statistics = limiter.statistics()
    assert statistics.tokens_available == 850
    assert (statistics.tokens_held, statistics.tokens_reserved, statistics.tokens_settled) == (
        0, 601, 150,
    )  # fmt: skip


async def test_what_was_estimated_too_high_is_used_at_once_and_too_low_is_missing() -> None:
    limiter = Limiter(1, tokens_per_minute=1000, estimate=lambda _: 600)
    sent: list[float] = []

    def script(request: RecordedRequest) -> Reply:
        sent.append(request.time)
        return answer([100, 900, 10][len(sent) - 1])

    async with client_on(script, limiter=limiter) as client:
        for _ in range(3):
            await client.chat.completions.create(**REQUEST)
    # 100 + 600 fit; 100 + 900 and another 600 do not.
    assert sent == pytest.approx([0, 0, MINUTE], abs=0.01)


async def test_a_request_larger_than_a_minute_waits_for_an_unused_one_and_then_goes() -> None:
    sizes = iter([300, 5000, 300])
    limiter = Limiter(4, tokens_per_minute=1000, estimate=lambda _: next(sizes))
    sent: list[float] = []

    def script(request: RecordedRequest) -> Reply:
        sent.append(request.time)
        return HELLO

    async with client_on(script, limiter=limiter) as client, anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(client.complete, REQUEST)
            await anyio.sleep(1)
    assert sent == pytest.approx([0, MINUTE, 2 * MINUTE], abs=0.1)


async def test_small_ones_do_not_overtake_a_large_one() -> None:
    limiter = Limiter(8, tokens_per_minute=100)
    order: list[int] = []

    async def work(tokens: int) -> None:
        slot = await limiter.acquire(tokens)
        order.append(tokens)
        slot.release()

    async with anyio.create_task_group() as group:
        for tokens in (90, 80, *[1] * 8):
            group.start_soon(work, tokens)
            await anyio.sleep(0.01)
    assert order == [90, 80, *[1] * 8]


async def test_requests_in_lent_places_leave_the_first_in_line_its_tokens() -> None:
    limiter = Limiter(3, tokens_per_minute=1000, estimate=lambda body: body["max_tokens"])
    large: list[float] = []
    began = anyio.current_time()

    async def big() -> None:
        await anyio.sleep(1)
        slot = await limiter.acquire(900)
        large.append(anyio.current_time() - began)
        slot.release()

    network = MemoryNetwork(HELLO.after(1))
    requests = [{**REQUEST, "max_tokens": 300} for _ in range(30)]
    async with (
        client_on(network, limiter=limiter) as client,
        anyio.create_task_group() as group,
        penstock.fan_out(client.complete, requests, limit=limiter) as results,
    ):
        group.start_soon(big)
        assert len([result async for result in results]) == 30
    assert large
    assert large[0] <= MINUTE + 2


async def test_a_request_in_the_place_of_an_item_that_has_reserved_for_it_needs_no_more() -> None:
    limiter = Limiter(4, requests_per_minute=2, tokens_per_minute=1000, estimate=lambda _: 400)
    network = MemoryNetwork(answer(30))
    async with client_on(network, limiter=limiter) as client, anyio.create_task_group() as group:
        item = await limiter.acquire(600)
        group.start_soon(limiter.acquire, 900)  # who is first in line cannot take its tokens
        await anyio.sleep(1)
        with lent(item):
            await client.complete(REQUEST)
        assert anyio.current_time() == pytest.approx(1, abs=0.1)
        item.release()
        await anyio.sleep(1)
        statistics = limiter.statistics()
        assert (statistics.in_flight, statistics.requests_available) == (1, 0)
        assert statistics.tokens_available == 1000 - 30 - 900


# --- what a request costs ---


@pytest.mark.parametrize(
    ("payloads", "cost"),
    [
        ([{"type": "response.created", "response": {"usage": None}},
          {"type": "response.completed",
           "response": {"usage": {"input_tokens": 40, "output_tokens": 2}}}], 42),
        ([{"type": "message_start", "message": {"usage": {"input_tokens": 40}}},
          {"type": "message_delta", "usage": {"output_tokens": 7}}], 47),
        ([{"type": "delta"}], 500),
    ],
)  # fmt: skip
async def test_events_with_a_usage_settle(payloads: list[Any], cost: int) -> None:
    limiter = Limiter(4, tokens_per_minute=1000, estimate=lambda _: 500)
    async with (
        client_on(MemoryNetwork(sse_reply(payloads)), limiter=limiter) as client,
        client.events("/responses", json={"input": "hi"}) as stream,
    ):
        assert len([event async for event in stream]) == len(payloads)
    assert limiter.statistics().tokens_settled == cost


@pytest.mark.parametrize(("body", "cost"), [({"usage": usage(60)}, 60), ({"data": []}, 500)])
async def test_any_endpoints_answer_with_a_usage_settles(body: Any, cost: int) -> None:
    limiter = Limiter(4, tokens_per_minute=1000, estimate=lambda _: 500)
    async with client_on(MemoryNetwork(json_reply(body)), limiter=limiter) as client:
        await client.request("POST", "/embeddings", json={"input": "hi"})
        assert limiter.statistics().tokens_settled == cost
        # What has no body costs no tokens.
        await client.request("GET", "/files")
    assert limiter.statistics().tokens_reserved == 500


@pytest.mark.parametrize("stream", [True, False])
async def test_text_completions_settle(stream: bool) -> None:
    limiter = Limiter(4, tokens_per_minute=1000, estimate=lambda _: 500)
    piece = {
        "object": "text_completion",
        "choices": [{"index": 0, "text": "a", "finish_reason": "stop"}],
    }
    reply = {**piece, "usage": usage(60)}
    network = MemoryNetwork(
        sse_reply([piece, {**piece, "choices": [], "usage": usage(60)}])
        if stream
        else json_reply(reply)
    )
    async with client_on(network, limiter=limiter) as client:
        if stream:
            async with client.completions.stream(model="m", prompt="hi") as pieces:
                await pieces.collect()
        else:
            await client.completions.create(model="m", prompt="hi")
    assert limiter.statistics().tokens_settled == 60


async def test_the_default_estimate_is_by_the_body() -> None:
    limiter = Limiter(4, tokens_per_minute=100_000)
    async with client_on(MemoryNetwork(HELLO), limiter=limiter) as client:
        await client.complete({**REQUEST, "max_tokens": 1000})
        await client.request("POST", "/audio", json=["a" * 400])
    reserved = limiter.statistics().tokens_reserved
    assert reserved is not None
    assert 1100 < reserved < 1150


async def test_a_stream_is_settled_when_it_is_over() -> None:
    limiter = Limiter(4, tokens_per_minute=1000, estimate=lambda _: 500)
    last = {"choices": [], "usage": usage(70)}
    network = MemoryNetwork(sse_reply([*tokens("a", "b"), last]))
    async with (
        client_on(network, limiter=limiter) as client,
        client.chat.completions.stream(**REQUEST) as stream,
    ):
        await anext(stream)
        assert limiter.statistics().tokens_available == 500
        await stream.collect()
        assert limiter.statistics().tokens_available == 930
    assert limiter.statistics().tokens_settled == 70


async def test_without_a_usage_the_estimate_stays() -> None:
    limiter = Limiter(4, tokens_per_minute=1000, estimate=lambda _: 500)
    async with client_on(MemoryNetwork(HELLO), limiter=limiter) as client:
        await client.complete(REQUEST)
    statistics = limiter.statistics()
    assert (statistics.tokens_available, statistics.tokens_settled) == (500, 500)


async def test_a_refusal_costs_a_request_and_no_tokens_and_a_retry_reserves_again() -> None:
    limiter = Limiter(4, requests_per_minute=10, tokens_per_minute=1000, estimate=lambda _: 500)
    available: list[int | None] = []

    def script(request: RecordedRequest) -> Reply:
        available.append(limiter.statistics().tokens_available)
        return error_reply(500) if len(available) < 3 else answer(70)

    async with client_on(script, limiter=limiter) as client:
        await client.chat.completions.create(**REQUEST)
    assert available == [500, 500, 500]
    statistics = limiter.statistics()
    assert (statistics.tokens_available, statistics.requests_available) == (930, 7)
    assert (statistics.tokens_reserved, statistics.tokens_settled) == (1500, 70)


async def test_a_request_that_is_not_sent_costs_nothing() -> None:
    limiter = Limiter(4, requests_per_minute=10, tokens_per_minute=1000, estimate=lambda _: 500)

    async def key() -> str:
        await anyio.sleep_forever()
        raise AssertionError

    async with client_on(MemoryNetwork(HELLO), limiter=limiter, api_key=key) as client:
        with anyio.move_on_after(1):
            await client.complete(REQUEST)
    statistics = limiter.statistics()
    assert (statistics.tokens_available, statistics.requests_available) == (1000, 10)
    assert (statistics.tokens_held, statistics.tokens_settled) == (0, 0)


@pytest.mark.parametrize(("seen", "left"), [([], 500), ([{"usage": usage(40)}], 960)])
async def test_a_stream_that_is_left_costs_what_is_known(seen: list[Any], left: int) -> None:
    limiter = Limiter(4, tokens_per_minute=1000, estimate=lambda _: 500)
    chunks = [*tokens("a", finish=None), *[{"choices": [], **each} for each in seen]]
    async with client_on(MemoryNetwork(sse_reply([*chunks, Stall()])), limiter=limiter) as client:
        async with client.chat.completions.stream(**REQUEST) as stream:
            for _ in chunks[:-1] if not seen else chunks:
                await anext(stream)
        assert limiter.statistics().tokens_held == 0
        assert limiter.statistics().tokens_available == left


@pytest.mark.parametrize("tokens", ["many", None, True, -1, float("nan"), float("inf")])
async def test_an_estimate_that_is_no_number_is_an_error_of_the_call(tokens: Any) -> None:
    limiter = Limiter(4, tokens_per_minute=1000, estimate=lambda _: tokens)
    network = MemoryNetwork(HELLO)
    async with client_on(network, limiter=limiter) as client:
        with pytest.raises((TypeError, ValueError), match="estimate"):
            await client.complete(REQUEST)
    assert network.connects == []
    assert limiter.statistics().in_flight == 0


async def test_a_slot_by_hand() -> None:
    limiter = Limiter(4, requests_per_minute=5, tokens_per_minute=1000)
    slot = await limiter.acquire(tokens=400)
    assert limiter.statistics().tokens_held == 400
    slot.settle(150)
    slot.release()
    statistics = limiter.statistics()
    assert (statistics.tokens_available, statistics.requests_available) == (850, 4)
    assert (statistics.tokens_held, statistics.tokens_settled) == (0, 150)
    with pytest.raises(TypeError):
        await limiter.acquire(tokens="many")  # type: ignore[arg-type]


# --- headers ---


def with_headers(headers: dict[str, str]) -> Reply:
    return json_reply(completion(), headers=list(headers.items()))


async def test_the_next_one_waits_for_the_reset_of_what_a_server_says_is_used_up() -> None:
    limiter = Limiter(4, requests_per_minute=100)
    sent: list[float] = []
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20s"}

    def script(request: RecordedRequest) -> Reply:
        sent.append(request.time)
        return with_headers(headers if len(sent) == 1 else {})

    async with client_on(script, limiter=limiter) as client:
        await client.chat.completions.create(**REQUEST)
        statistics = limiter.statistics()
        assert statistics.paused_by == "header"
        assert statistics.paused_for == pytest.approx(20, abs=0.1)
        assert statistics.requests_available == 0
        await client.chat.completions.create(**REQUEST)
    assert sent == pytest.approx([0, 20], abs=0.1)


async def test_headers_never_raise_what_is_available() -> None:
    limiter = Limiter(4, requests_per_minute=3, tokens_per_minute=1000, estimate=lambda _: 10)
    headers = {"x-ratelimit-remaining-requests": "1000", "x-ratelimit-remaining-tokens": "100000"}
    async with client_on(MemoryNetwork(with_headers(headers)), limiter=limiter) as client:
        await client.chat.completions.create(**REQUEST)
    statistics = limiter.statistics()
    assert (statistics.requests_available, statistics.tokens_available) == (2, 998)


async def test_each_clients_max_retry_wait_bounds_what_its_server_says() -> None:
    limiter = Limiter(4, requests_per_minute=100)
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "30d"}
    network = MemoryNetwork(with_headers(headers))
    paused: list[float] = []
    for longest in (7, 25):
        async with client_on(network, limiter=limiter, max_retry_wait=longest) as client:
            await client.chat.completions.create(**REQUEST)
            paused.append(round(limiter.statistics().paused_for, 1))
    assert paused == [7, 25]


async def test_a_wait_that_is_too_long_says_what_it_was_for() -> None:
    limiter = Limiter(4, requests_per_minute=1)
    timeouts = penstock.Timeouts(slot=5)
    async with client_on(MemoryNetwork(HELLO), limiter=limiter, timeouts=timeouts) as client:
        await client.complete(REQUEST)
        with pytest.raises(penstock.SlotTimeout, match=r"5 s .*nothing for 5\d s \(requests\)"):
            await client.complete(REQUEST)


# --- what it costs ---


async def test_a_limiter_without_rates_calls_nothing_for_them() -> None:
    called: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            called.add(Path(frame.f_code.co_filename).stem)

    async def run(**rates: Any) -> None:
        network = MemoryNetwork(HELLO)
        async with client_on(network, limiter=Limiter(4, **rates)) as client:
            sys.setprofile(note)
            try:
                await client.complete(REQUEST)
                async with penstock.fan_out(client.complete, [REQUEST]) as results:
                    assert [result.error async for result in results] == [None]
            finally:
                sys.setprofile(None)

    await run()
    assert not called & {"rates", "window", "quotas", "estimate", "usage"}
    await run(requests_per_minute=100, tokens_per_minute=10_000)
    assert called >= {"rates", "window", "quotas", "estimate"}


# --- statistics ---


def test_a_limiter_without_rates_counts_none() -> None:
    statistics = Limiter(3).statistics()
    assert statistics.max_in_flight == 3
    assert (statistics.paused_for, statistics.paused_by) == (0, None)
    assert statistics.requests_available is statistics.tokens_available is None
    assert statistics.tokens_held is statistics.tokens_reserved is statistics.tokens_settled is None


async def test_statistics_say_why_nothing_starts() -> None:
    limiter = Limiter(4, requests_per_minute=2, tokens_per_minute=100)
    assert limiter.statistics().paused_by is None
    await limiter.acquire(60)
    async with anyio.create_task_group() as group:
        group.start_soon(limiter.acquire, 60)
        await anyio.sleep(1)
        statistics = limiter.statistics()
        assert (statistics.paused_by, statistics.waiting) == ("tokens", 1)
        assert statistics.paused_for == pytest.approx(MINUTE - 1)
        group.cancel_scope.cancel()
    assert limiter.statistics().paused_by is None
    await limiter.acquire()
    assert limiter.statistics().paused_by == "requests"
    limiter.pause(200)
    assert limiter.statistics().paused_by == "caller"
    assert limiter.statistics().paused_for == pytest.approx(200)


async def test_statistics_say_who_asked_to_wait() -> None:
    reasons: list[str | None] = []
    for headers in ([("retry-after", "7")], []):
        limiter = Limiter(4)
        network = MemoryNetwork(error_reply(429, headers=headers))
        async with client_on(network, limiter=limiter, max_retries=0) as client:
            with pytest.raises(penstock.RateLimitError):
                await client.complete(REQUEST)
        reasons.append(limiter.statistics().paused_by)
    pace = Limiter(4, per_second=1)
    async with pace:
        reasons.append(pace.statistics().paused_by)
    assert reasons == ["retry_after", "backoff", "per_second"]


# --- cancelled anywhere ---


@pytest.mark.sampled(0.34)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("how", ["call", "stream", "items", "retried"])
def test_a_cancellation_at_every_point_gives_back_what_was_not_sent(
    backend: Literal["asyncio", "trio"], how: str
) -> None:
    runs: list[tuple[Limiter, MemoryNetwork]] = []

    async def scenario() -> None:
        limiter = Limiter(4, requests_per_minute=10, tokens_per_minute=1000, estimate=lambda _: 300)
        refusals = [error_reply(500)] if how == "retried" else []
        network = MemoryNetwork([*refusals, *[answer(40) if how == "call" else HELLO] * 2])
        runs.append((limiter, network))
        async with client_on(network, limiter=limiter) as client:
            if how == "stream":
                async with client.chat.completions.stream(**REQUEST) as stream:
                    await stream.collect()
            elif how == "items":
                async with penstock.fan_out(client.complete, [REQUEST], limit=limiter) as results:
                    assert [result.error async for result in results] == [None]
            else:
                await client.chat.completions.create(**REQUEST)

    cancel_sweep(backend, scenario)
    assert len(runs) >= 3
    for limiter, network in runs:
        statistics = limiter.statistics()
        assert (statistics.in_flight, statistics.waiting, statistics.tokens_held) == (0, 0, 0)
        # A write to a network of the caller's own may have sent a part before it was cancelled.
        unseen = 10 - len(network.requests) - (statistics.requests_available or 0)
        assert unseen in (0, 1)
        if not network.connects:
            assert unseen == 0
        if not network.requests and not unseen:
            assert statistics.tokens_available == 1000
