"""`Limiter`: never more in flight than allowed, first come first served, at a steady pace."""

from __future__ import annotations

import gc
import itertools
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock
from penstock import Limiter, RateLimitError
from penstock._limiter.lent import lent, lent_slots
from penstock._limiter.line import _Ticket
from penstock.testing.clock import virtual
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import completion, error_reply, json_reply, sse_reply, tokens
from penstock.testing.script import RecordedRequest, Reply, Stall
from penstock.testing.sweep import cancel_sweep
from tests.support.chat import REQUEST, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

HELLO = sse_reply(tokens("Hel", "lo"))


# --- making one ---


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"max_in_flight": 0}, ValueError),
        ({"max_in_flight": -1}, ValueError),
        ({"max_in_flight": 4, "min_in_flight": 5}, ValueError),
        ({"max_in_flight": 4, "min_in_flight": 0}, ValueError),
        ({"max_in_flight": 4, "per_second": 0}, ValueError),
        ({"max_in_flight": 4, "per_second": -1}, ValueError),
        ({"max_in_flight": 4, "per_second": float("nan")}, ValueError),
        ({"max_in_flight": 4, "per_second": float("inf")}, ValueError),
        ({"max_in_flight": "4"}, TypeError),
        ({"max_in_flight": 2.5}, TypeError),
        ({"max_in_flight": True}, TypeError),
        ({"max_in_flight": 4, "min_in_flight": 1.5}, TypeError),
        ({"max_in_flight": 4, "per_second": "1"}, TypeError),
    ],
)
def test_bad_bounds(arguments: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        Limiter(**arguments)


def test_a_new_one_outside_of_any_event_loop() -> None:
    statistics = Limiter(4, per_second=2).statistics()
    assert (statistics.in_flight, statistics.limit, statistics.waiting) == (0, 4, 0)
    assert (statistics.granted, statistics.refused, statistics.paused_for) == (0, 0, 0.0)


# --- slots ---


async def test_never_more_than_the_limit_and_in_the_order_of_asking() -> None:
    limiter = Limiter(3)
    order: list[int] = []
    most = 0

    async def work(number: int) -> None:
        nonlocal most
        async with limiter:
            order.append(number)
            most = max(most, limiter.statistics().in_flight)
            await anyio.sleep(1 + number % 3)

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(work, number)
            await anyio.lowlevel.checkpoint()
    assert most == 3
    assert order == list(range(20))
    assert limiter.statistics().in_flight == 0
    assert limiter.statistics().granted == 20


async def test_who_comes_later_does_not_overtake_those_who_wait() -> None:
    limiter = Limiter(1)
    order: list[str] = []

    async def wait() -> None:
        async with limiter:
            order.append("waiter")

    async with anyio.create_task_group() as group:
        slot = await limiter.acquire()
        group.start_soon(wait)
        await anyio.sleep(1)
        slot.release()  # the waiter has been told, but has not run yet
        async with limiter:
            order.append("latecomer")
    assert order == ["waiter", "latecomer"]


async def test_a_slot_is_given_back_once() -> None:
    limiter = Limiter(2)
    slot = await limiter.acquire()
    await slot.acquire()
    other = await limiter.acquire()
    for _ in range(3):
        slot.release()
    assert limiter.statistics().in_flight == 1
    other.release()
    assert limiter.statistics().in_flight == 0
    await slot.acquire()
    assert limiter.statistics().in_flight == 1
    slot.release()


@pytest.mark.parametrize("first", [0, 1, 2])
async def test_a_cancelled_wait_takes_nothing_and_stops_nobody(first: int) -> None:
    limiter = Limiter(1)
    scopes = [anyio.CancelScope() for _ in range(3)]
    done: list[int] = []

    async def wait(number: int) -> None:
        with scopes[number]:
            async with limiter:
                done.append(number)

    async with anyio.create_task_group() as group, limiter:
        for number in range(3):
            group.start_soon(wait, number)
            await anyio.sleep(1)
        scopes[first].cancel()
        await anyio.sleep(1)
        assert limiter.statistics().waiting == 2
    assert done == [number for number in range(3) if number != first]
    assert limiter.statistics().in_flight == limiter.statistics().waiting == 0


async def test_cancelled_waiters_leave_nothing_behind_while_the_first_in_line_waits() -> None:
    waiters = 4_000
    limiter = Limiter(1)

    def tickets() -> int:
        return sum(type(each) is _Ticket for each in gc.get_objects())

    async def enter() -> None:
        async with limiter:
            pass

    async with limiter, anyio.create_task_group() as first:
        first.start_soon(enter)
        await anyio.sleep(1)
        async with anyio.create_task_group() as others:
            for _ in range(waiters):
                others.start_soon(enter)
            await anyio.sleep(1)
            assert limiter.statistics().waiting == tickets() == waiters + 1
            others.cancel_scope.cancel()
        assert limiter.statistics().waiting == 1
        gc.collect()
        assert tickets() == 1
        first.cancel_scope.cancel()


async def test_a_slot_passed_on_to_a_task_that_was_cancelled_goes_to_the_next() -> None:
    limiter = Limiter(1)
    scope = anyio.CancelScope()
    done: list[str] = []

    async def cancelled() -> None:
        with scope:
            async with limiter:
                done.append("cancelled")

    async def second() -> None:
        async with limiter:
            done.append("second")

    async with anyio.create_task_group() as group:
        slot = await limiter.acquire()
        group.start_soon(cancelled)
        await anyio.sleep(1)
        group.start_soon(second)
        await anyio.sleep(1)
        slot.release()
        scope.cancel()
    assert done in (["second"], ["cancelled", "second"])
    assert limiter.statistics().in_flight == 0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancellation_at_every_point_leaks_no_slot(backend: Any) -> None:
    limiters: list[Limiter] = []

    async def scenario() -> None:
        limiter = Limiter(2, per_second=10)
        limiters.append(limiter)
        for _ in range(3):
            async with limiter:
                await anyio.sleep(0.1)

    cancel_sweep(backend, scenario)
    assert len(limiters) > 3
    assert all(limiter.statistics().in_flight == 0 for limiter in limiters)


# --- pace ---


async def starts(limiter: Limiter, count: int) -> list[float]:
    times: list[float] = []

    async def start() -> None:
        async with limiter:
            times.append(anyio.current_time())

    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(start)
    return times


@pytest.mark.parametrize("per_second", [0.5, 1, 4, 10, 100])
async def test_the_pace_is_steady(per_second: float) -> None:
    times = await starts(Limiter(1000, per_second=per_second), max(1, round(per_second)) * 5)
    began = times[0]
    assert times == sorted(times)
    # One after each interval: a new limiter has nothing to catch up.
    for number, time in enumerate(times):
        assert time - began == pytest.approx(number / per_second, abs=1e-6)


async def test_an_idle_second_saves_up_no_more_than_a_seconds_worth() -> None:
    limiter = Limiter(1000, per_second=5)
    await starts(limiter, 5)
    await anyio.sleep(100)
    began = anyio.current_time()
    times = await starts(limiter, 10)
    assert [round(time - began, 6) for time in times[:5]] == [0] * 5
    assert [round(time - began, 6) for time in times[5:]] == [0.2, 0.4, 0.6, 0.8, 1.0]


async def test_pace_and_number_together() -> None:
    limiter = Limiter(1, per_second=2)
    times: list[float] = []
    for _ in range(4):
        async with limiter:
            times.append(anyio.current_time())
            await anyio.sleep(3)
    assert times == pytest.approx([0, 3, 6, 9])


# --- pauses ---


async def test_a_pause_holds_everybody_back_and_a_shorter_one_does_not_end_it() -> None:
    limiter = Limiter(2)
    limiter.pause(10)
    limiter.pause(3)
    assert limiter.statistics().paused_for == pytest.approx(10)
    times = await starts(limiter, 4)
    assert times == pytest.approx([10] * 4)
    assert limiter.statistics().paused_for == 0


async def test_a_pause_that_comes_while_others_wait() -> None:
    limiter = Limiter(1)
    times: list[float] = []

    async def wait() -> None:
        async with limiter:
            times.append(anyio.current_time())

    async with anyio.create_task_group() as group, limiter:
        group.start_soon(wait)
        await anyio.sleep(1)
        limiter.pause(5)
    assert times == pytest.approx([6])


def test_many_free_places_are_taken_in_a_few_turns_of_the_loop() -> None:
    # On a busy loop a turn takes milliseconds: one place in each would leave most of them idle.
    # On asyncio alone, as trio shuffles what is done in a turn, and so which of those woken
    # find themselves first in line.
    async def main() -> None:
        limiter = Limiter(64)
        slots = [await limiter.acquire() for _ in range(64)]

        async def work() -> None:
            async with limiter:
                await anyio.sleep_forever()

        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(work)
            await anyio.sleep(1)
            for slot in slots:
                slot.release()
            turns = 0
            while limiter.statistics().in_flight < 64:
                await anyio.lowlevel.checkpoint()
                turns += 1
            assert turns <= 8
            group.cancel_scope.cancel()

    backend, options = virtual("asyncio")
    anyio.run(main, backend=backend, backend_options=options)


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_pauses_every_user_and_nobody_sleeps_with_a_slot(status: int) -> None:
    limiter = Limiter(2)
    sent: list[float] = []

    def script(request: RecordedRequest) -> Reply:
        sent.append(request.time)
        return error_reply(status, headers={"retry-after": "7"}) if len(sent) == 1 else HELLO

    watched: list[tuple[int, float]] = []

    async with client_on(script, limiter=limiter) as one, client_on(script, limiter=limiter) as two:

        async def later() -> None:
            await anyio.sleep(1)
            statistics = limiter.statistics()
            watched.append((statistics.in_flight, round(statistics.paused_for, 3)))
            await two.complete(REQUEST)

        async with anyio.create_task_group() as group:
            group.start_soon(later)
            await one.complete(REQUEST)
    assert watched == [(0, 6.0)]
    assert sent == pytest.approx([0, 7, 7], abs=0.01)
    assert limiter.statistics().refused == 1


async def test_a_fan_outs_limiter_hears_of_refusals_though_the_client_has_none() -> None:
    limiter = Limiter(1)
    sent: list[float] = []
    watched: list[tuple[int, float]] = []

    def script(request: RecordedRequest) -> Reply:
        sent.append(request.time)
        return error_reply(429, headers={"retry-after": "7"}) if len(sent) == 1 else HELLO

    async def watch() -> None:
        await anyio.sleep(3)
        statistics = limiter.statistics()
        watched.append((statistics.in_flight, round(statistics.paused_for, 3)))

    async with (
        client_on(script) as client,
        anyio.create_task_group() as group,
        penstock.fan_out_chunks(client, [REQUEST] * 2, limit=limiter) as events,
    ):
        group.start_soon(watch)
        errors = [event.error async for event in events if isinstance(event, penstock.ResultEvent)]
    assert errors == [None, None]
    # Nobody held a slot while waiting, and nobody was sent before the wait was over.
    assert watched == [(0, 4.0)]
    assert sent == pytest.approx([0, 7, 7], abs=0.01)


async def test_other_refusals_pause_nobody() -> None:
    limiter = Limiter(2, adaptive=True)
    network = MemoryNetwork([error_reply(400, headers={"retry-after": "9"}), HELLO])
    async with client_on(network, limiter=limiter, max_retries=0) as client:
        with pytest.raises(penstock.BadRequestError):
            await client.complete(REQUEST)
        await client.complete(REQUEST)
    statistics = limiter.statistics()
    assert (anyio.current_time(), statistics.refused, statistics.cuts) == (0, 0, 0)


async def test_between_two_attempts_others_get_the_slot() -> None:
    limiter = Limiter(1)

    def script(request: RecordedRequest) -> Reply:
        name = request.json["messages"][0]["content"]
        order.append(name)
        return error_reply(500) if order == ["first"] else HELLO

    order: list[str] = []
    async with client_on(script, limiter=limiter) as client:

        async def call(name: str) -> None:
            await client.complete({"model": "m", "messages": [{"role": "user", "content": name}]})

        async with anyio.create_task_group() as group:
            group.start_soon(call, "first")
            await anyio.lowlevel.checkpoint()
            group.start_soon(call, "second")
    assert order == ["first", "second", "first"]
    assert limiter.statistics().in_flight == 0


# --- on a client ---


@pytest.mark.parametrize("streaming", [True, False])
async def test_requests_in_flight_stay_below_the_limit(streaming: bool) -> None:
    limiter = Limiter(3)
    answer = (HELLO if streaming else json_reply(completion())).after(1)
    network = MemoryNetwork(answer)
    open_at_once: list[int] = []

    def script(request: RecordedRequest) -> Reply:
        open_at_once.append(limiter.statistics().in_flight)
        return answer

    network = MemoryNetwork(script)
    async with client_on(network, limiter=limiter) as client, anyio.create_task_group() as group:
        for _ in range(10):
            call = client.complete if streaming else client.chat.completions.create
            group.start_soon(lambda call: call(**one(call)), call)
    assert max(open_at_once) == 3
    assert anyio.current_time() == pytest.approx(4, abs=0.3)
    assert len(network.connections) == 3


def one(call: Any) -> dict[str, Any]:
    return {"request": REQUEST} if call.__name__ == "complete" else dict(REQUEST)


async def test_waiting_for_a_slot_has_its_own_timeout() -> None:
    limiter = Limiter(1)
    network = MemoryNetwork(HELLO)
    timeouts = penstock.Timeouts(slot=2)
    async with client_on(network, limiter=limiter, timeouts=timeouts) as client, limiter:
        with pytest.raises(penstock.SlotTimeout, match="2 s"):
            await client.complete(REQUEST)
        assert anyio.current_time() == pytest.approx(2)
        assert limiter.statistics().waiting == 0
    assert network.connects == []


async def test_an_open_stream_holds_its_slot_until_it_is_over() -> None:
    limiter = Limiter(4)
    network = MemoryNetwork([HELLO, sse_reply([*tokens("a", finish=None), Stall()])])
    async with client_on(network, limiter=limiter) as client:
        async with client.chat.completions.stream(**REQUEST) as stream:
            assert limiter.statistics().in_flight == 1
            await stream.collect()
            assert limiter.statistics().in_flight == 0
        stream = client.chat.completions.stream(**REQUEST)
        assert limiter.statistics().in_flight == 0
        async with stream:
            await anext(stream)
            assert limiter.statistics().in_flight == 1
        assert limiter.statistics().in_flight == 0


# --- adaptive ---


async def test_a_refusal_halves_the_limit_once_for_each_wave() -> None:
    limiter = Limiter(8, adaptive=True, min_in_flight=2)
    slots = [await limiter.acquire() for _ in range(8)]
    refusal = RateLimitError("no", status_code=429)
    for slot in slots:
        slot.refused(refusal, refusal.retry_after)
    assert limiter.statistics().limit == 4
    assert limiter.statistics().refused == 8
    for slot in slots:
        slot.release()
    for expected in (2, 2):
        slot = await limiter.acquire()
        others = [await limiter.acquire() for _ in range(limiter.statistics().limit - 1)]
        slot.refused(refusal, refusal.retry_after)
        assert limiter.statistics().limit == expected
        for each in (slot, *others):
            each.release()


async def test_successes_win_it_back_and_never_more_than_the_maximum() -> None:
    limiter = Limiter(6, adaptive=True)
    slots = [await limiter.acquire() for _ in range(6)]
    slots[0].refused(RateLimitError("no", status_code=429), None)
    for slot in slots:
        slot.release()
    seen = [limiter.statistics().limit]
    for _ in range(30):
        busy = [await limiter.acquire() for _ in range(limiter.statistics().limit)]
        for slot in busy:
            slot.succeeded()
        for slot in busy:
            slot.release()
        seen.append(limiter.statistics().limit)
    assert seen[0] == 3
    assert seen == sorted(seen)
    assert all(after - before <= 1 for before, after in itertools.pairwise(seen))
    assert seen[-1] == 6


async def test_success_without_pressure_proves_nothing() -> None:
    limiter = Limiter(8, adaptive=True)
    slots = [await limiter.acquire() for _ in range(8)]
    slots[0].refused(RateLimitError("no", status_code=429), None)
    for slot in slots:
        slot.release()
    for _ in range(50):
        slot = await limiter.acquire()
        slot.succeeded()
        slot.release()
    assert limiter.statistics().limit == 4


async def test_success_proves_nothing_where_the_pace_holds_others_back() -> None:
    limiter = Limiter(8, adaptive=True, per_second=1)
    slots = [await limiter.acquire() for _ in range(8)]
    slots[0].refused(RateLimitError("no", status_code=429), None)
    for slot in slots:
        slot.release()

    async def work() -> None:
        slot = await limiter.acquire()
        slot.succeeded()
        slot.release()

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(work)
    assert limiter.statistics().limit == 4


async def test_success_counts_while_the_next_in_line_is_about_to_take_a_place() -> None:
    limiter = Limiter(4, adaptive=True)
    slots = [await limiter.acquire() for _ in range(4)]
    slots[0].refused(RateLimitError("no", status_code=429), None)
    for slot in slots:
        slot.release()
    one, other = await limiter.acquire(), await limiter.acquire()
    async with anyio.create_task_group() as group:
        group.start_soon(limiter.__aenter__)
        await anyio.sleep(1)
        for slot in (one, other):
            slot.succeeded()
            slot.release()
    assert limiter.statistics().limit == 3


async def test_an_adaptive_limiter_finds_what_a_server_can_take() -> None:
    limiter = Limiter(32, adaptive=True)
    capacity = 6

    def script(request: RecordedRequest) -> Reply:
        if limiter.statistics().in_flight > capacity:
            return error_reply(429)
        return HELLO.after(1)

    client = client_on(script, limiter=limiter, max_retries=50)
    async with client, anyio.create_task_group() as group:
        for _ in range(150):
            group.start_soon(client.complete, REQUEST)
    assert limiter.statistics().in_flight == 0
    assert 3 <= limiter.statistics().limit <= 8


async def test_a_cut_below_what_is_in_flight_lets_them_finish_and_starts_no_more() -> None:
    limiter = Limiter(4, adaptive=True)
    slots = [await limiter.acquire() for _ in range(4)]
    slots[0].refused(RateLimitError("no", status_code=429), None)
    assert limiter.statistics().limit == 2
    with anyio.move_on_after(1) as scope:
        await limiter.acquire()
    assert scope.cancelled_caught
    for slot in slots[:3]:
        slot.release()
    another = await limiter.acquire()
    assert limiter.statistics().in_flight == 2
    for slot in (another, slots[3]):
        slot.release()


# --- lent slots ---


async def test_a_lent_slot_is_found_within_and_not_after() -> None:
    limiter, other = Limiter(1), Limiter(1)
    slot = await limiter.acquire()
    assert lent_slots() == ()
    with lent(slot):
        assert lent_slots() == (slot,)
        assert slot.line is limiter.line
        with lent(await other.acquire()):
            assert [each.line for each in lent_slots()] == [limiter.line, other.line]
    assert lent_slots() == ()
    slot.release()


# --- anything at all ---


@given(
    limit=st.integers(1, 4),
    per_second=st.none() | st.sampled_from([1.0, 3.0]),
    jobs=st.lists(
        st.tuples(st.integers(0, 8), st.integers(0, 5), st.none() | st.integers(0, 6)), max_size=12
    ),
)
async def test_whatever_comes_it_ends_empty(
    limit: int, per_second: float | None, jobs: list[tuple[int, int, int | None]]
) -> None:
    limiter = Limiter(limit, per_second=per_second)

    async def work(arrives: int, takes: int, patience: int | None) -> None:
        await anyio.sleep(arrives)
        with anyio.move_on_after(patience):
            async with limiter:
                assert limiter.statistics().in_flight <= limit
                await anyio.sleep(takes)

    async with anyio.create_task_group() as group:
        for job in jobs:
            group.start_soon(work, *job)
    assert limiter.statistics().in_flight == limiter.statistics().waiting == 0
    async with limiter:
        pass
