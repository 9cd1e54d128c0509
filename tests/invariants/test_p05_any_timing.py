"""Promise 5 whatever the timing: which deadline ends a stream, and when, as a model says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import anyio
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

import penstock
from penstock import AsyncClient, Timeouts
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import sse_reply
from penstock.testing.script import Pause, Reply, Stall, Step
from tests.support.chat import REQUEST, URL

from .evidence import count
from .recorded import FINISH, call, delta, text_of
from .virtual_uvloop import virtual_backend as anyio_backend

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

Kind = Literal["ping", "role", "empty", "text", "reasoning", "tool", "finish"]
EVENTS: dict[Kind, Any] = {
    "ping": b": ping\n\n",
    "role": delta("", role="assistant"),
    "empty": delta(""),
    "text": delta("a"),
    "reasoning": delta(reasoning="b"),
    "tool": call("{"),
    "finish": FINISH,
}
TOKENS = ("text", "reasoning", "tool")

# Quarters of seconds for what server and user do, and each kind of deadline between them at a
# place of its own: exact in binary, and never two things at the same time.
QUARTERS = st.integers(0, 12).map(lambda n: n / 4)
SHORT = st.integers(0, 16)
READS = st.none() | st.integers(4, 40).map(lambda n: n / 4 + 1 / 32)
TOKEN_LIMITS = st.none() | SHORT.map(lambda n: n / 4 + 1 / 16)
TOTALS = st.none() | st.integers(0, 60).map(lambda n: n / 4 + 1 / 8)


@dataclass(frozen=True)
class Segment:
    """One event, how long after the one before it comes, and how long the user takes over it."""

    kind: Kind
    after: float
    body: float


SEGMENTS = st.builds(Segment, st.sampled_from(list(EVENTS)), QUARTERS, QUARTERS)
TIMEOUTS = st.builds(
    Timeouts,
    connect=st.none(),
    read=READS,
    first_token=TOKEN_LIMITS,
    idle=TOKEN_LIMITS,
    total=TOTALS,
    trailing=st.none(),  # call/test_trailing.py has its timing
)


@dataclass
class Expected:
    error: type[penstock.APITimeoutError] | None
    at: float
    text: str


def expect(
    timeouts: Timeouts, head: float, segments: list[Segment], done: float | None
) -> Expected:
    """The rules of topics/deadlines.md, wait after wait. `done`: when [DONE] comes, or never."""
    read, total = _limit(timeouts.read), _limit(timeouts.total)
    token, idle = _limit(timeouts.first_token), _limit(timeouts.idle)
    error: type[penstock.APITimeoutError] = penstock.FirstTokenTimeout
    now = arrives = silent = tokenless = 0.0
    text = ""
    last = [] if done is None else [(None, done)]
    stalled = [(None, math.inf)] if done is None else []
    steps: list[tuple[Segment | None, float]] = [
        (None, head),
        *((segment, segment.after) for segment in segments),
        *last,
        *stalled,
    ]
    for number, (segment, after) in enumerate(steps):
        arrives += after
        if arrives <= now:
            # Nobody waits, but all the time there is may have gone by.
            if now > total:
                return Expected(penstock.TotalTimeout, now, text)
        else:
            limits: dict[float, type[penstock.APITimeoutError]] = {
                now + read - silent: penstock.ReadTimeout,
                now + token - tokenless: error,
                max(now, total): penstock.TotalTimeout,
            }
            if min(limits) < arrives:
                return Expected(limits[min(limits)], min(limits), text)
            tokenless += arrives - now
            now = arrives
        silent = 0.0
        if segment is None:
            if number:
                break
            continue
        if segment.kind in TOKENS:
            error, token, tokenless = penstock.IdleTimeout, idle, 0.0
        if segment.kind == "text":
            text += "a"
        if segment.kind != "ping":
            now += segment.body
    return Expected(None, now, text)


def _limit(seconds: float | None) -> float:
    return math.inf if seconds is None else seconds


def reply_of(head: float, segments: list[Segment], done: float | None) -> Reply:
    """The same for a server."""
    events = [EVENTS[segment.kind] for segment in segments]
    first, *rest = sse_reply(events, one_segment_each=True).steps
    steps: list[Step] = [Pause(head), first]
    for step, segment in zip(rest, segments, strict=False):
        steps += [Pause(segment.after), step]
    ending = [Stall()] if done is None else [Pause(done), *rest[len(segments) :]]
    return Reply((*steps, *ending))


@given(
    timeouts=TIMEOUTS,
    head=QUARTERS,
    segments=st.lists(SEGMENTS, max_size=8),
    done=st.none() | QUARTERS,
    bare=st.booleans(),
)
async def test_any_timing(
    timeouts: Timeouts, head: float, segments: list[Segment], done: float | None, bare: bool
) -> None:
    count("examples")
    expected = expect(timeouts, head, segments, done)
    if expected.at == math.inf:
        return  # nothing would ever end it
    bodies = iter([segment.body for segment in segments if segment.kind != "ping"])
    network = MemoryNetwork(reply_of(head, segments, done))
    error: penstock.APITimeoutError | None = None
    client = AsyncClient(URL, network=network, timeouts=timeouts, max_retries=0)
    async with client:
        stream = client.chat.completions.stream(**REQUEST)
        at = start = anyio.current_time()

        async def read() -> None:
            async for _ in stream:
                await anyio.sleep(next(bodies))

        try:
            if bare:
                await read()
            else:
                async with stream:
                    await read()
                    at = anyio.current_time()
        except penstock.APITimeoutError as caught:
            error = caught
        if error is not None or bare:
            at = anyio.current_time()
        event(type(error).__name__)
        assert (None if error is None else type(error)) is expected.error
        assert at - start == expected.at
        choices = text_of(stream.partial).choices
        assert choices.get(0, "") == expected.text
        if error is not None:
            assert text_of(error.partial).choices == choices
            assert network.open_connections == 0
    assert len(network.requests) == 1
