"""Promise 11: no minute gets more than its rates, whatever clients do and servers answer."""

from __future__ import annotations

from typing import Any, NamedTuple

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import penstock
import penstock.batch as batch
from penstock import Limiter
from penstock._policy.window import GRAIN, MINUTE
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import error_reply, sse_reply, tokens
from penstock.testing.script import Pause, RecordedRequest, Reply, Reset
from tests.support.chat import MESSAGES, client_on

from .evidence import count
from .virtual_uvloop import virtual_backend as anyio_backend

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio


class Work(NamedTuple):
    arrives: float
    how: str
    sizes: list[int]
    """The estimate of each request's tokens."""
    patience: float | None


class Answer(NamedTuple):
    what: str
    per_cent: int
    """What it costs, of the estimate."""
    seconds: float


works = st.lists(
    st.builds(
        Work,
        st.floats(0, 90),
        st.sampled_from(["call", "items", "nested", "chunks", "race", "batch"]),
        st.lists(st.integers(0, 120), min_size=1, max_size=4),
        st.sampled_from([None, None, None, 0.5, 40.0]),
    ),
    min_size=1,
    max_size=6,
)
answers = st.lists(
    st.builds(
        Answer,
        st.sampled_from(["whole", "whole", "uncounted", "cut", "500", "429", "later", "lower"]),
        st.integers(0, 100),
        st.sampled_from([0.0, 0.0, 3.0, 70.0]),
    ),
    min_size=1,
    max_size=8,
)


class Provider:
    """Counts what it is asked, and in the end what each request has cost, or may have."""

    def __init__(self, answers: list[Answer], most: int) -> None:
        self._answers = answers
        self._most = most
        self.costs: list[tuple[float, int]] = []

    def __call__(self, request: RecordedRequest) -> Reply:
        answer = self._answers[len(self.costs) % len(self._answers)]
        estimate = min(request.json["max_tokens"], self._most)
        cost = max(1, estimate * answer.per_cent // 100) if estimate else 0
        refused = answer.what in ("500", "429", "later")
        # A refusal costs nothing; what is cut off or not counted, as much as was reserved.
        self.costs.append(
            (request.time, cost if answer.what == "whole" else 0 if refused else estimate)
        )
        if answer.what == "500":
            return error_reply(500)
        if refused:
            return error_reply(429, headers={"retry-after": "4"} if answer.what == "later" else {})
        if answer.what == "lower":
            headers = {"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "9s"}
            return sse_reply(tokens("a"), headers=list(headers.items()))
        usage = {"prompt_tokens": 0, "completion_tokens": cost, "total_tokens": cost}
        last = [{"choices": [], "usage": usage}] if answer.what == "whole" and cost else []
        parts: list[Any] = [Pause(answer.seconds), *tokens("a", "b"), *last]
        if answer.what == "cut":
            return sse_reply([*parts[:2], Reset()])
        return sse_reply(parts)


@settings(max_examples=max(10, settings().max_examples // 2))  # they are long
@given(
    places=st.integers(1, 4),
    requests=st.none() | st.integers(1, 6),
    most=st.none() | st.integers(10, 200),
    works=works,
    answers=answers,
)
async def test_no_minute_is_above_the_rates(
    places: int,
    requests: int | None,
    most: int | None,
    works: list[Work],
    answers: list[Answer],
) -> None:
    count("examples")
    limiter = Limiter(
        places,
        requests_per_minute=requests,
        tokens_per_minute=most,
        estimate=lambda request: request["max_tokens"],
    )
    provider = Provider(answers, most or 0)
    network = MemoryNetwork(provider)

    def request(size: int) -> dict[str, Any]:
        return {"model": "m", "messages": MESSAGES, "max_tokens": size}

    async def drain(results: Any) -> None:
        async with results as each:
            async for _ in each:
                pass

    async def run(client: penstock.AsyncClient, work: Work) -> None:
        await anyio.sleep(work.arrives)
        asked = [request(size) for size in work.sizes]
        with anyio.move_on_after(work.patience):
            try:
                if work.how == "call":
                    for each in asked:
                        await client.complete(each)
                elif work.how == "items":
                    await drain(penstock.fan_out(client.complete, asked, limit=limiter))
                elif work.how == "chunks":
                    await drain(penstock.fan_out_chunks(client, asked, limit=limiter))
                elif work.how == "batch":
                    rows = [batch.Request(f"row-{n}", each) for n, each in enumerate(asked)]
                    await drain(batch.run(client, rows, limit=limiter, patience=30.0))
                elif work.how == "nested":

                    async def several(size: int) -> None:
                        inner = [request(size), request(size // 2)]
                        await drain(penstock.fan_out(client.complete, inner, limit=limiter))

                    await drain(penstock.fan_out(several, work.sizes, limit=limiter))
                else:
                    async with penstock.race(client, asked, delay=0.5) as stream:
                        await stream.collect()
            except penstock.PenstockError:
                pass

    async with (
        client_on(network, limiter=limiter) as client,
        anyio.create_task_group() as group,
    ):
        for work in works:
            group.start_soon(run, client, work)
    for since, _ in provider.costs:
        within = [cost for at, cost in provider.costs if since <= at <= since + 60]
        assert requests is None or len(within) <= requests
        assert most is None or sum(within) <= most
    statistics = limiter.statistics()
    assert statistics.in_flight == statistics.waiting == 0
    assert not statistics.tokens_held
    await anyio.sleep(MINUTE + GRAIN + 60)
    assert limiter.statistics().requests_available == requests
    assert limiter.statistics().tokens_available == most
