from __future__ import annotations

import math
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock import AsyncClient, CompletionStream, StreamStatistics
from penstock._call.phases import Phases
from penstock._call.timings import Timings
from penstock.testing.clock import virtual
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import REAL_BACKENDS
from penstock.testing.replies import sse_reply, tokens
from penstock.testing.script import Pause, Reply, Send
from penstock.testing.server import serve
from tests.support.chat import REQUEST, client_on

HELLO = sse_reply([b": ping\n\n", *tokens("Hel", "lo", "!")]).data


def statistics(
    timings: Timings, *, started: float = 0.0, headers_at: float = math.nan
) -> StreamStatistics:
    return timings.statistics(
        attempts=1,
        events=2,
        bytes=3,
        started=started,
        headers_at=headers_at,
        phases=Phases(),
    )


def test_nothing_is_known_before_it_happens() -> None:
    now = statistics(Timings())
    assert (now.headers, now.first_byte, now.first_token, now.total) == (None,) * 4
    assert (now.attempts, now.events, now.bytes, now.waited_for_consumer) == (1, 2, 3, 0)
    assert statistics(Timings(), headers_at=5.0).waited_for_consumer == 0


@given(
    started=st.floats(0, 1e6),
    before=st.floats(0, 100),
    steps=st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=1),
)
def test_the_consumers_time_is_what_is_not_spent_waiting(
    started: float, before: float, steps: list[tuple[float, float]]
) -> None:
    timings = Timings()
    timings.waited_for_head = timings.waited = before
    now = started
    away = 0.0
    for body, network in steps:
        now += body
        away += body
        now += network
        timings.waited += network
        timings.last_read = now
    result = statistics(timings, started=started, headers_at=started)
    assert math.isclose(result.waited_for_consumer, away, rel_tol=1e-6, abs_tol=1e-6)
    assert result.headers == 0
    assert result.total is not None
    assert math.isclose(result.total, now - started, rel_tol=1e-6, abs_tol=1e-6)


def check(numbers: StreamStatistics, timings: Timings) -> None:
    """What holds at any moment of any stream."""
    came = [numbers.headers, numbers.first_byte, numbers.first_token]
    known = [each for each in came if each is not None]
    assert came[: len(known)] == known
    if numbers.total is not None:
        known.append(numbers.total)
    assert all(math.isfinite(each) and each >= 0 for each in known)
    assert known == sorted(known)
    if numbers.total is None or numbers.headers is None:
        assert numbers.waited_for_consumer == 0
    else:
        assert 0 <= numbers.waited_for_consumer <= numbers.total - numbers.headers
        # All the waits for the network together; sums of many floats may be off a little.
        assert 0 <= timings.waited_for_head <= timings.waited <= numbers.total + 1e-9


async def read(
    stream: CompletionStream, delays: list[float], patience: float | None
) -> StreamStatistics:
    """Read it to the end, with these delays in the loop body and reads broken off after a time."""
    timings = stream._reader.timings
    steps = iter(delays)
    async with stream:
        check(stream.statistics(), timings)
        over = False
        while not over:
            with anyio.move_on_after(patience):
                over = await anext(stream, None) is None
            check(stream.statistics(), timings)
            await anyio.sleep(next(steps, 0))
    numbers = stream.statistics()
    check(numbers, timings)
    assert None not in (numbers.headers, numbers.first_byte, numbers.first_token, numbers.total)
    return numbers


def pieces(cuts: list[tuple[int, float]]) -> Reply:
    """The answer, cut at these places, with a pause before each of the pieces but the first."""
    places = sorted(dict(cuts).items())
    edges = [0, *(place for place, _ in places), len(HELLO)]
    steps: list[Any] = [Send(HELLO[: edges[1]])]
    for (start, pause), end in zip(places, edges[2:], strict=True):
        steps += [Pause(pause), Send(HELLO[start:end])]
    return Reply(tuple(steps))


@given(
    backend=st.sampled_from(["asyncio", "trio"]),
    cuts=st.lists(st.tuples(st.integers(1, len(HELLO) - 1), st.floats(0, 10)), max_size=12),
    delays=st.lists(st.floats(0, 10), max_size=12),
    max_read=st.none() | st.integers(1, 300),
    patience=st.none() | st.floats(0.5, 20),
    delay=st.floats(0, 5),
)
def test_of_any_stream_the_numbers_fit_together(
    backend: str,
    cuts: list[tuple[int, float]],
    delays: list[float],
    max_read: int | None,
    patience: float | None,
    delay: float,
) -> None:
    async def main() -> None:
        network = MemoryNetwork(pieces(cuts), max_read=max_read, delay=delay)
        async with client_on(network) as client:
            stream = client.chat.completions.stream(**REQUEST)
            numbers = await read(stream, delays, patience)
            timings = stream._reader.timings
            assert numbers.headers is not None
            assert numbers.total is not None
            # Nothing takes time here but the network and the loop body.
            assert numbers.headers == pytest.approx(delay + timings.waited_for_head, abs=1e-6)
            away = numbers.total - delay - timings.waited
            assert numbers.waited_for_consumer == pytest.approx(away, abs=1e-6)
            assert numbers.waited_for_consumer <= sum(delays) + 1e-6

    name, options = virtual(backend)
    anyio.run(main, backend=name, backend_options=options)


@pytest.mark.parametrize("backend", REAL_BACKENDS)
@settings(max_examples=15)
@given(
    cuts=st.lists(st.tuples(st.integers(1, len(HELLO) - 1), st.floats(0, 0.002)), max_size=6),
    delays=st.lists(st.floats(0, 0.002), max_size=6),
    patience=st.none() | st.floats(0.001, 0.004),
)
def test_the_same_on_sockets(
    backend: tuple[str, dict[str, Any]],
    cuts: list[tuple[int, float]],
    delays: list[float],
    patience: float | None,
) -> None:
    async def main() -> None:
        async with (
            serve(pieces(cuts)) as server,
            AsyncClient(server.base_url, api_key="k") as client,
        ):
            for _ in range(2):  # on a new connection, and on that one again
                await read(client.chat.completions.stream(**REQUEST), delays, patience)

    name, options = backend
    anyio.run(main, backend=name, backend_options=options)
