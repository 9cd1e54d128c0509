"""Asking rows: what is asked again and how often, who waits, and when a run stops."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import pytest

import penstock
from penstock import Limiter, Timeouts
from penstock.batch.asking import FUSE, OVERLOAD_RETRIES, Asker, Policy
from penstock.batch.outcomes import Outcome
from penstock.batch.rows import Row
from penstock.batch.stops import Stop
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import (
    completion,
    error_event,
    error_reply,
    json_reply,
    sse_reply,
    status_reply,
    tokens,
)
from penstock.testing.script import End, Pause, RecordedRequest, Reply, Reset, Script, Stall, reply

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

OK = json_reply(completion("Hello"))
CUT = reply(OK.data[:-20], Reset())


def row(name: str = "a", path: str = "/chat/completions", **body: Any) -> Row:
    members = {"model": "m", "messages": [{"role": "user", "content": name}], **body}
    return Row(name, path, json.dumps(members).encode(), "penstock-" + "0" * 24)


def name_of(request: RecordedRequest) -> str:
    name: str = request.json["messages"][0]["content"]
    return name


class Run:
    """Asks rows on a scripted network, and remembers what came of them."""

    def __init__(self, script: Script, *, limit: int = 64, **policy: Any) -> None:
        self.network = MemoryNetwork(script)
        self.limiter = Limiter(limit)
        self.policy = Policy(**policy)
        self.stops: list[Stop] = []
        self.outcomes: dict[str, Outcome | None] = {}
        self.asker: Asker

    async def ask(self, *rows: Row, timeouts: Timeouts = Timeouts()) -> list[Outcome | None]:  # noqa: B008
        async with penstock.AsyncClient(
            "http://api.test/v1", api_key="sk-secret", network=self.network, timeouts=timeouts
        ) as client:
            self.asker = Asker(client, self.limiter, self.policy, on_stop=self.stops.append)

            async def one(index: int, row: Row) -> None:
                await anyio.sleep(index * 1e-6)  # trio starts tasks in any order
                self.outcomes[row.custom_id] = await self.asker.ask(index, row)

            async with anyio.create_task_group() as group:
                for index, each in enumerate(rows):
                    group.start_soon(one, index, each)
            assert self.limiter.statistics().in_flight == 0
        return [self.outcomes[each.custom_id] for each in rows]

    @property
    def asked(self) -> list[str]:
        return [name_of(request) for request in self.network.requests]


def scripted(**answers: Sequence[Reply]) -> Callable[[RecordedRequest], Reply]:
    """Answer each row by its name with its replies in order, the last for all the rest."""
    asked: dict[str, int] = {}

    def answer(request: RecordedRequest) -> Reply:
        name = name_of(request)
        number = asked.get(name, 0)
        asked[name] = number + 1
        replies = answers.get(name, [OK])
        return replies[min(number, len(replies) - 1)]

    return answer


async def test_an_answer() -> None:
    run = Run(json_reply(completion("Hello"), headers={"x-request-id": "req-1"}))
    [outcome] = await run.ask(row())
    assert outcome is not None
    assert outcome.error is None
    assert outcome.text == "Hello"
    assert (outcome.index, outcome.custom_id) == (0, "a")
    assert (outcome.status_code, outcome.request_id, outcome.requests) == (200, "req-1", 1)
    assert run.network.requests[0].body == row().body
    assert run.network.requests[0].target == "/v1/chat/completions"
    assert (run.asker.requests, run.asker.retries) == (1, 0)
    assert run.asker.tokens == {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


async def test_an_answer_without_a_request_id_has_the_rows_own() -> None:
    [outcome] = await Run(OK).ask(row())
    assert outcome is not None
    assert outcome.request_id == outcome.id


@pytest.mark.parametrize("status", [400, 403, 404, 413, 422, 405, 418])
async def test_a_rejected_row_fails_at_once(status: int) -> None:
    run = Run(error_reply(status, "the key sk-secret is odd"))
    [outcome] = await run.ask(row())
    assert outcome is not None
    assert outcome.error is not None
    assert outcome.requests == 1
    assert len(run.network.requests) == 1
    assert b"sk-secret" not in outcome.to_line()
    assert b"the key" in outcome.body


@pytest.mark.parametrize(
    "failure",
    [
        error_reply(408),
        error_reply(409),
        error_reply(500),
        error_reply(502),
        json_reply({"error": {"message": "no"}}),
        status_reply(200, "<html>"),
        status_reply(200),
        CUT,
        reply(OK.data[:-20], End()),
    ],
)
async def test_what_is_asked_again_whole(failure: Reply) -> None:
    run = Run([failure, failure, OK])
    [outcome] = await run.ask(row())
    assert outcome is not None
    assert outcome.error is None
    assert outcome.requests == 3
    assert outcome.body == json.dumps(completion("Hello")).encode()
    assert run.asker.retries == 2

    run = Run(failure, max_retries=2)
    [outcome] = await run.ask(row())
    assert outcome is not None
    assert outcome.error is not None
    assert outcome.requests == 3
    assert len(run.network.requests) == 3


async def test_a_timeout_is_of_one_attempt() -> None:
    run = Run([reply(Stall()), OK])
    [outcome] = await run.ask(row(), timeouts=Timeouts(total=7.0))
    assert outcome is not None
    assert outcome.error is None
    assert 7.3 <= outcome.ended - outcome.started <= 8

    run = Run(reply(Stall()), max_retries=1)
    [outcome] = await run.ask(row(), timeouts=Timeouts(total=7.0))
    assert outcome is not None
    assert outcome.error is not None
    assert outcome.error.code == "timeout"
    assert outcome.requests == 2


async def test_who_pays_for_every_token_is_not_asked_twice() -> None:
    run = Run([CUT, OK], on_cut="fail")
    [outcome] = await run.ask(row())
    assert outcome is not None
    assert outcome.error is not None
    assert outcome.error.code == "interrupted"
    assert outcome.requests == 1
    # What was not cut off is asked again as ever.
    [outcome] = await Run([error_reply(500), OK], on_cut="fail").ask(row())
    assert outcome is not None
    assert outcome.error is None


@pytest.mark.parametrize("kind", ["overload", "connection"])
async def test_a_failure_counts_when_a_later_request_was_answered(kind: str) -> None:
    bad = error_reply(429) if kind == "overload" else reply(Reset())
    times = OVERLOAD_RETRIES if kind == "overload" else 3
    run = Run(scripted(bad=[bad]), limit=2, max_retries=3, patience=1000.0)
    others = [row(f"good {number}") for number in range(200)]
    # One at a time beside the bad row, each a while: the server is there all the time.
    pause = 2.0

    async def later() -> None:
        for other in others:
            await anyio.sleep(pause)
            if run.outcomes.get("bad") is not None:
                return
            run.outcomes[other.custom_id] = await run.asker.ask(1, other)

    network_client = penstock.AsyncClient("http://api.test/v1", network=run.network)
    async with network_client as client:
        run.asker = Asker(client, run.limiter, run.policy)
        async with anyio.create_task_group() as group:
            group.start_soon(later)
            outcome = await run.asker.ask(0, row("bad"))
            run.outcomes["bad"] = outcome
    assert outcome is not None
    assert outcome.error is not None
    assert outcome.error.code == ("rate_limit" if kind == "overload" else "connection")
    # At least so often: the first waits are too short for anybody to be answered.
    assert times + 1 <= outcome.requests <= times + 4
    assert run.asker.stopped is None


@pytest.mark.parametrize("kind", ["429", "503", "529", "reset", "refused"])
async def test_a_server_that_is_away_is_waited_for(kind: str) -> None:
    bad = reply(Reset()) if kind == "reset" else error_reply(int(kind) if kind.isdigit() else 503)
    run = Run([OK] if kind == "refused" else [*[bad] * 100, OK], limit=4, max_retries=1)
    if kind == "refused":
        run.network.refuse = 100
    outcomes = await run.ask(*[row(f"{number}") for number in range(4)])
    assert all(outcome is not None and outcome.error is None for outcome in outcomes)
    assert run.asker.stopped is None
    assert run.asker.notice is None


@pytest.mark.parametrize("kind", ["429", "503", "reset", "refused"])
async def test_patience_ends(kind: str) -> None:
    bad = reply(Reset()) if kind == "reset" else error_reply(int(kind) if kind.isdigit() else 503)
    run = Run(bad, limit=4, patience=60.0)
    if kind == "refused":
        run.network.refuse = 10**6
    before = anyio.current_time()
    outcomes = await run.ask(*[row(f"{number}") for number in range(4)])
    assert outcomes == [None] * 4
    assert [stop.reason for stop in run.stops] == ["unavailable"]
    assert 60.0 <= anyio.current_time() - before <= 61.0
    assert run.asker.notice is not None
    # They waited ever longer, eight seconds at last.
    assert run.asker.requests <= 4 * 14


async def test_retry_after_is_for_all() -> None:
    run = Run(scripted(a=[error_reply(429, headers={"retry-after": "30"}), OK]), limit=1)
    before = anyio.current_time()
    outcomes = await run.ask(row("a"), row("b"))
    assert all(outcome is not None and outcome.error is None for outcome in outcomes)
    first, *rest = [request.time - before for request in run.network.requests]
    assert first < 1
    assert all(30.0 <= time <= 31.0 for time in rest)


async def test_a_wait_longer_than_patience_is_not_waited_for() -> None:
    run = Run(error_reply(429, headers={"retry-after": "3600"}), limit=4, patience=20.0)
    before = anyio.current_time()
    assert await run.ask(*[row(f"{number}") for number in range(8)]) == [None] * 8
    assert anyio.current_time() - before <= 21.0


async def test_no_busy_loop_where_no_wait_is_asked_for() -> None:
    run = Run(error_reply(503, headers={"retry-after": "0"}), patience=60.0)
    assert await run.ask(row()) == [None]
    assert run.asker.requests <= 20


async def test_long_answers_from_before_an_outage_are_waited_for() -> None:
    slow = reply(Pause(100.0), OK.data)
    run = Run(scripted(slow=[slow], bad=[error_reply(429)]), patience=10.0)
    outcomes = await run.ask(row("slow"), row("bad"))
    assert outcomes[0] is not None
    assert outcomes[0].error is None
    assert outcomes[0].ended >= 100.0


@pytest.mark.parametrize(
    "refusal",
    [error_reply(401), error_reply(402), error_reply(429, code="insufficient_quota")],
)
async def test_a_refused_account_stops_the_run(refusal: Reply) -> None:
    slow = reply(Pause(5.0), OK.data)
    run = Run(scripted(bad=[refusal], slow=[slow]), limit=2)
    rows = [row("slow"), row("bad"), *[row(f"{number}") for number in range(50)]]
    outcomes = await run.ask(*rows)
    assert outcomes[0] is not None
    assert outcomes[0].error is None
    assert outcomes[1:] == [None] * 51
    # Those who waited for a place look again.
    assert run.asked == ["slow", "bad"]
    assert [stop.reason for stop in run.stops] == ["refused"]


async def test_a_refused_account_may_be_a_rows_failure() -> None:
    run = Run(error_reply(401), on_refused="row")
    [outcome] = await run.ask(row())
    assert outcome is not None
    assert outcome.error is not None
    assert outcome.error.status_code == 401
    assert run.asker.stopped is None


async def test_many_failures_in_a_row_stop_the_run() -> None:
    run = Run(error_reply(500), limit=1, max_retries=0)
    outcomes = await run.ask(*[row(f"{number}") for number in range(FUSE + 20)])
    assert sum(outcome is not None for outcome in outcomes) == FUSE
    assert [stop.reason for stop in run.stops] == ["fuse"]


async def test_an_answer_between_spares_the_fuse() -> None:
    odd = scripted(**{f"{number}": [error_reply(500)] for number in range(FUSE - 1)})
    run = Run(odd, limit=1, max_retries=0)
    rows = [row(f"{number}") for number in range(FUSE - 1)]
    await run.ask(*rows, row("good"), *[row(f"{number}") for number in range(FUSE - 1)])
    assert run.asker.stopped is None


async def test_rejected_rows_blow_the_fuse_only_before_the_first_answer() -> None:
    run = Run(error_reply(400), limit=1)
    await run.ask(*[row(f"{number}") for number in range(FUSE + 20)])
    assert len(run.network.requests) == FUSE
    names = [f"{number}" for number in range(3 * FUSE)]
    run = Run(scripted(**{name: [error_reply(400)] for name in names}), limit=1)
    await run.ask(row("good"), *map(row, names))
    assert run.asker.stopped is None


async def test_a_stop_ends_every_wait_at_once() -> None:
    run = Run(scripted(bad=[error_reply(429, headers={"retry-after": "50"})]), limit=1)

    async def stop() -> None:
        await anyio.sleep(3.0)
        run.asker.stop("interrupted", "a signal")

    async with anyio.create_task_group() as group:
        group.start_soon(stop)
        before = anyio.current_time()
        assert await run.ask(row("bad"), row("b"), row("c")) == [None] * 3
        assert anyio.current_time() - before <= 3.1


async def test_a_row_that_cannot_be_asked_fails_without_a_request() -> None:
    run = Run(OK)
    broken = Row("a", "/chat completions", b'{"model":"m"}', "penstock-0")
    [outcome] = await run.ask(broken)
    assert outcome is not None
    assert outcome.error is not None
    assert (outcome.error.code, outcome.requests) == ("invalid_row", 0)
    assert run.network.requests == []


async def test_a_streamed_answer_that_is_cut_off_keeps_what_came() -> None:
    cut = sse_reply([*tokens("Hel", finish=None), Reset()], done=False)
    run = Run(cut, stream=True, on_cut="fail")
    [outcome] = await run.ask(row())
    assert outcome is not None
    assert outcome.error is not None
    assert outcome.error.code == "interrupted"
    assert outcome.error.partial is not None
    assert outcome.error.partial["choices"][0]["message"]["content"] == "Hel"


async def test_an_error_inside_a_stream() -> None:
    failing = sse_reply([*tokens("Hel", finish=None), error_event("no sk-secret")], done=False)
    run = Run([failing, sse_reply(tokens("Hello"))], stream=True)
    [outcome] = await run.ask(row())
    assert outcome is not None
    assert outcome.text == "Hello"
    assert outcome.requests == 2


@pytest.mark.parametrize(
    "policy",
    [
        {"max_retries": -1},
        {"max_retries": True},
        {"max_retries": 1.5},
        {"patience": -1},
        {"patience": float("nan")},
        {"patience": "5"},
        {"on_cut": "glue"},
        {"on_refused": "ignore"},
    ],
)
def test_policies_that_make_no_sense(policy: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Policy(**policy)


async def test_the_log_says_why_it_waits_without_the_words_of_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = Run(error_reply(503, "these words"), patience=60.0)
    await run.ask(row())
    [record] = [each for each in caplog.records if each.name == "penstock.batch"]
    shown = vars(record)
    assert (record.levelname, shown["reason"], shown["status_code"], shown["patience"]) == (
        "WARNING",
        "server_error",
        503,
        60.0,
    )
    assert "these words" not in caplog.text
