"""Where the time of a call goes: the phases together are the time since its start."""

from __future__ import annotations

import math
import sys
import time
from contextlib import AsyncExitStack, suppress
from typing import Any, get_args

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock import (
    Client,
    Limiter,
    PenstockError,
    Spread,
    Timeouts,
    fan_out,
    fan_out_chunks,
    race,
)
from penstock._call.phases import Phase, Phases
from penstock.observing import Finished, Waits
from penstock.testing.clock import virtual
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import error_reply, json_reply, sse_reply, tokens
from penstock.testing.script import Pause, Reply, Reset, Stall
from tests.support.chat import REQUEST, Watcher, client_on

STEPS = st.lists(
    st.tuples(st.sampled_from([*get_args(Phase), "fail"]), st.floats(0, 1e3)),
    min_size=1,
    max_size=20,
)


@given(start=st.floats(0, 1e6), steps=STEPS, rest=st.floats(0, 1e3))
def test_nothing_is_lost_between_two_phases(
    start: float, steps: list[tuple[Any, float]], rest: float
) -> None:
    phases, now = Phases(), start
    for phase, length in steps:
        if phase == "fail":
            phases.fail(now)
            assert phases.spent(now).body == 0
        else:
            phases.enter(phase, now)
        now += length
    spent = phases.spent(now + rest)
    seconds = [getattr(spent, name) for name in get_args(Phase)]
    assert math.fsum(seconds) == pytest.approx(now + rest - start, abs=1e-6)
    assert min(seconds) >= 0


@given(start=st.floats(0, 1e6), steps=STEPS)
def test_other_threads_see_no_phase_twice(start: float, steps: list[tuple[Any, float]]) -> None:
    phases, now = Phases(), start
    seen: list[tuple[float, float]] = []

    # Where Python may go on with another thread: after each call.
    def ask(_frame: object, event: str, _value: object) -> None:
        if event == "c_call":
            return
        sys.setprofile(None)
        spent = phases.spent(now)
        seen.append((math.fsum(getattr(spent, name) for name in get_args(Phase)), now - start))
        sys.setprofile(ask)

    for phase, length in steps:
        sys.setprofile(ask)
        try:
            if phase == "fail":
                phases.fail(now)
            else:
                phases.enter(phase, now)
        finally:
            sys.setprofile(None)
        now += length
    assert seen
    for total, since_start in seen:
        assert total == pytest.approx(since_start, abs=1e-6)


def parts(waits: Waits) -> list[float]:
    return [getattr(waits, name) for name in waits.__struct_fields__]


PAUSES = st.floats(0, 20)
WORDS = tokens("Hel", "lo", "!")


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    kind = draw(st.sampled_from(["whole", "refused", "reset", "cut", "stalled", "json"]))
    pause = draw(PAUSES)
    if kind == "refused":
        return error_reply(draw(st.sampled_from([429, 500, 503]))).after(pause)
    if kind == "json":
        return json_reply({"error": {"message": "no"}}).after(pause)
    steps: list[Any] = []
    for word in WORDS:
        steps += [Pause(draw(PAUSES)), word]
    if kind == "whole":
        return sse_reply(steps).after(pause)
    count = 0 if kind == "reset" else draw(st.integers(0, len(steps)))
    end = Stall() if kind == "stalled" else Reset()
    return sse_reply([*steps[:count], end], done=False).after(pause)


@settings(max_examples=60)
@given(
    backend=st.sampled_from(["asyncio", "trio"]),
    script=st.lists(replies(), min_size=1, max_size=4),
    held=PAUSES,
    delays=st.lists(PAUSES, max_size=6),
    patience=st.floats(1, 200),
)
def test_the_parts_of_every_request_add_up_to_its_duration(
    backend: str,
    script: list[Reply],
    held: float,
    delays: list[float],
    patience: float,
) -> None:
    watcher = Watcher()
    limiter = Limiter(1)

    async def main() -> None:
        network = MemoryNetwork(script)
        slot = await limiter.acquire()
        async with (
            client_on(
                network, observer=watcher, limiter=limiter, timeouts=Timeouts(read=60)
            ) as client,
            anyio.create_task_group() as group,
        ):

            async def release() -> None:
                await anyio.sleep(held)
                slot.release()

            group.start_soon(release)
            steps = iter(delays)
            with anyio.move_on_after(patience):
                try:
                    async with client.chat.completions.stream(**REQUEST) as stream:
                        async for _ in stream:
                            await anyio.sleep(next(steps, 0))
                            now = stream.statistics()
                            assert now.total == pytest.approx(sum(parts(now.waits)), abs=1e-6)
                except PenstockError:
                    pass
            group.cancel_scope.cancel()
        if watcher.outcomes() == ["completed"]:
            check_completed(watcher.of("finished")[0], held)

    def check_completed(finished: Finished, held: float) -> None:
        waits = finished.statistics.waits
        assert waits.slot == pytest.approx(held, abs=1e-3)
        backoff = sum(retry.retry_in or 0 for retry in finished.retries)
        # A slot taken by nobody else: only the back-off lies between two attempts.
        assert waits.backoff == pytest.approx(backoff, abs=1e-3)
        assert waits.consumer <= sum(delays) + 1e-3

    name, options = virtual(backend)
    anyio.run(main, backend=name, backend_options=options)
    check_sums(watcher)


def check_sums(watcher: Watcher) -> None:
    for finished in watcher.of("finished"):
        spent = parts(finished.statistics.waits)
        assert min(spent) >= 0
        assert sum(spent) == pytest.approx(finished.time - finished.started, abs=1e-6)
    started = [event.id for event in watcher.of("request_started")]
    assert sorted(set(started)) == sorted(event.id for event in watcher.of("finished"))


async def completed(client: Any) -> None:
    await client.complete(REQUEST)


async def created(client: Any) -> None:
    await client.chat.completions.create(**REQUEST)


async def listed(client: Any) -> None:
    await client.models.list()


async def events(client: Any) -> None:
    async with client.events("/chat/completions", json=REQUEST) as stream:
        async for _ in stream:
            await anyio.sleep(1)


async def asked_by_functions(client: Any) -> None:
    async with fan_out(client.complete, [REQUEST] * 4, limit=2) as results:
        async for _ in results:
            await anyio.sleep(1)


async def chunks(client: Any) -> None:
    async with fan_out_chunks(client, [REQUEST] * 4, limit=3) as feed:
        async for _ in feed:
            await anyio.sleep(0.5)


async def raced(client: Any) -> None:
    async with race(client, [REQUEST] * 3, delay=2) as stream:
        await stream.collect()


async def broken_off_and_read_on(client: Any) -> None:
    async with client.chat.completions.stream(**REQUEST) as stream:
        while True:
            with anyio.move_on_after(3) as scope:
                try:
                    await anext(stream)
                except StopAsyncIteration:
                    return
            if scope.cancelled_caught:
                await anyio.sleep(1)


WAYS: list[Any] = [
    *(completed, created, listed, events, asked_by_functions, chunks, raced),
    broken_off_and_read_on,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@settings(max_examples=60)
@given(
    backend=st.sampled_from(["asyncio", "trio"]),
    scripts=st.lists(st.lists(replies(), min_size=1, max_size=4), min_size=1, max_size=3),
    slots=st.sampled_from([None, 1, 2]),
    patience=st.floats(1, 200),
)
def test_so_they_do_however_a_request_is_made(
    way: Any,
    backend: str,
    scripts: list[list[Reply]],
    slots: int | None,
    patience: float,
) -> None:
    """With several scripts it is made at several servers, by a Spread."""
    watcher = Watcher()
    limiter = None if slots is None else Limiter(slots)

    async def main() -> None:
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(
                    client_on(
                        MemoryNetwork(script, delay=number),
                        f"http://{number}.test/v1",
                        observer=watcher,
                        limiter=limiter,
                        timeouts=Timeouts(read=60),
                    )
                )
                for number, script in enumerate(scripts)
            ]
            client: Any = clients[0]
            if len(clients) > 1:
                client = await stack.enter_async_context(Spread(clients))
            with anyio.move_on_after(patience), suppress(PenstockError):
                await way(client)

    name, options = virtual(backend)
    anyio.run(main, backend=name, backend_options=options)
    check_sums(watcher)


@pytest.mark.parametrize("script", [WORDS, [Pause(0.01), *WORDS[:1], Pause(0.01), *WORDS[1:]]])
def test_so_they_do_in_the_blocking_client(script: list[Any]) -> None:
    watcher = Watcher()
    network = MemoryNetwork([error_reply(503, headers={"retry-after": "0"}), sse_reply(script)])
    with Client("http://api.test/v1", network=network, observer=watcher) as client:
        client.complete(REQUEST)
        for _ in client.chat.completions.stream(**REQUEST):
            time.sleep(0.001)
        stream = client.chat.completions.stream(**REQUEST)
        next(iter(stream))
        stream.close()
    check_sums(watcher)
    assert len(watcher.of("finished")) == 3
