"""Promise 9: a race shows one stream; losers are closed before the body runs; tokens alone win."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import AllAttemptsFailed, Limiter
from penstock._many.race import race
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import Event, error_reply, sse_reply, tokens
from penstock.testing.script import Pause, RecordedRequest, Reply, Reset
from penstock.testing.sweep import BackendName, cancel_sweep
from tests.support.chat import REQUEST, client_on

from .evidence import count
from .virtual_uvloop import virtual_backend as anyio_backend

__all__ = ["anyio_backend"]

# Multiples of a quarter: exact in binary, and few enough for ties.
TIMES = st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.25, 4.0])
STALE = 1000.0


@dataclass(frozen=True)
class Attempt:
    """What the server does with one of the requests."""

    head: float
    """Until the role-only chunks, which are no tokens."""
    then: float
    """From there until what decides."""
    end: Literal["token", "error", "reset", "empty", "account"]
    server: int
    """Which of two clients it goes to."""

    @property
    def decided(self) -> float:
        """Seconds from its start to what decides it."""
        return self.then if self.end in ("error", "account") else self.head + self.then

    def reply(self, name: str) -> Reply:
        if self.end in ("error", "account"):
            return error_reply(500 if self.end == "error" else 401).after(self.then)
        before: list[Event] = [Pause(self.head), *tokens(finish=None), Pause(self.then)]
        if self.end == "reset":
            return sse_reply([*before, Reset()])
        if self.end == "empty":
            return sse_reply([*before, *tokens(role_first=False)])
        return sse_reply(
            [*before, *tokens(name, role_first=False, finish=None), Pause(STALE),
             *tokens("end", role_first=False)]
        )  # fmt: skip


ATTEMPTS = st.builds(
    Attempt,
    head=TIMES,
    then=TIMES,
    end=st.sampled_from(["token", "token", "error", "reset", "empty", "account"]),
    server=st.integers(0, 1),
)


@pytest.mark.anyio
@given(
    attempts=st.lists(ATTEMPTS, min_size=1, max_size=6),
    delay=st.sampled_from([0.0, 0.25, 1.0, None]),
    max_live=st.integers(1, 4),
)
async def test_random_races(attempts: list[Attempt], delay: float | None, max_live: int) -> None:
    count("examples")

    def script(request: RecordedRequest) -> Reply:
        name = request.json["user"]
        return attempts[int(name)].reply(name)

    networks = [MemoryNetwork(script), MemoryNetwork(script)]
    async with (
        client_on(networks[0]) as first,
        client_on(networks[1], "http://b.test/v1") as second,
    ):
        clients = [first, second]
        entries: list[Any] = [
            (clients[attempt.server], {**REQUEST, "user": str(number)})
            for number, attempt in enumerate(attempts)
        ]
        contest = race(first, entries, delay=delay, max_live=max_live)
        started = anyio.current_time()
        winner: int | None = None
        text = ""
        try:
            async with contest as stream:
                decided_at = anyio.current_time()
                statistics = contest.statistics()
                winner = statistics.winner
                assert winner is not None
                # One stream, and the connections of whole answers that can be used again.
                ends = [attempts[a.index].end for a in statistics.attempts if a.index != winner]
                open_now = sum(network.open_connections for network in networks)
                assert open_now <= 1 + sum(end in ("empty", "error", "account") for end in ends)
                assert not [a for a in statistics.attempts if a.outcome == "running"]
                chunk = await anext(stream)
                assert chunk.choices[0].delta.role == "assistant"
                if attempts[winner].end == "token":
                    assert await anext(stream.text) == str(winner)
                assert anyio.current_time() == decided_at  # it had been received before
                text = attempts[winner].end
        except AllAttemptsFailed:
            decided_at = anyio.current_time()
    statistics = contest.statistics()
    begun = {a.index: a for a in statistics.attempts}
    # Nobody who had a token earlier lost.
    due = {n: a.started - started + attempts[n].decided for n, a in begun.items()}
    # When an account error ended all attempts on a client; a tie may go either way.
    barred = {0: STALE, 1: STALE}
    for n in begun:
        if attempts[n].end == "account":
            barred[attempts[n].server] = min(barred[attempts[n].server], due[n])
    tokens_due = {n: due[n] for n in begun if attempts[n].end == "token"}
    if text == "token":
        assert winner is not None
        assert due[winner] == decided_at - started
        for n, at in tokens_due.items():
            assert at >= due[winner] or at >= barred[attempts[n].server]
    else:
        # Ended by an account error before, perhaps; the rest had no token.
        for n, at in tokens_due.items():
            assert at >= decided_at - started or at >= barred[attempts[n].server]
        assert (winner is None) == (text == "")
    # Never more at once than allowed, one request each, in order.
    spans = []
    for n, a in begun.items():
        assert a.ended is not None
        # A winner ends with the block, but an answer without a token was over long before.
        spans.append((a.started, a.started + attempts[n].decided if n == winner else a.ended))
    for at, _ in spans:
        assert sum(since <= at < until for since, until in spans) <= max_live
    assert sorted(begun) == [a.index for a in statistics.attempts]
    sent = [request.json["user"] for network in networks for request in network.requests]
    assert len(sent) == len(set(sent)) <= len(begun)
    assert all(network.open_connections == 0 for network in networks)
    # 401: afterwards nothing starts on that client.
    for n, attempt in begun.items():
        if attempts[n].end == "account" and attempt.outcome == "failed":
            assert attempt.ended is not None
            for other in begun.values():
                if attempts[other.index].server == attempts[n].server and other.index != n:
                    assert other.started <= attempt.ended


# --- cancelling: at every suspension point of the host, and of every attempt ---


def paced(name: str, seconds: float) -> Reply:
    return sse_reply(
        [
            Pause(seconds / 2),
            *tokens(finish=None),
            Pause(seconds),
            *tokens(name, "z", role_first=False),
        ],
        one_segment_each=True,
    )


@pytest.mark.sampled(0.34)
@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
@pytest.mark.parametrize("tie", [False, True])
def test_cancelled_at_every_point(backend: BackendName, tie: bool) -> None:
    networks: list[MemoryNetwork] = []
    scale = 0.004 if backend == "uvloop" else 1.0  # its time is real

    def script(request: RecordedRequest) -> Reply:
        name = request.json["user"]
        if name == "bad":
            return error_reply(500).after(0.25 * scale)
        return paced(name, scale if tie or name == "a" else 2 * scale)

    @asynccontextmanager
    async def scenario() -> AsyncIterator[Callable[[], Awaitable[None]]]:
        network = MemoryNetwork(script)
        networks.append(network)
        limiter = Limiter(3)
        async with client_on(network, limiter=limiter) as client:

            async def body() -> None:
                requests = [{**REQUEST, "user": name} for name in ("bad", "a", "b")]
                async with race(client, requests, max_live=2) as stream:
                    assert network.open_connections <= 2  # of the failed one, to be used again
                    await stream.collect()

            yield body
            assert limiter.statistics().in_flight == 0
            assert network.open_connections <= 3
            async with race(client, [{**REQUEST, "user": "a"}]) as stream:
                assert (await stream.collect()).choices[0].message.content == "az"
        assert network.open_connections == 0

    points = cancel_sweep(backend, scenario, real=backend == "uvloop")
    count("cancel points", sum(points.values()))
    assert min(points.values()) >= 3
