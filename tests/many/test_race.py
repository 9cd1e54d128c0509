"""race: several attempts at one answer. Virtual time."""

from __future__ import annotations

import asyncio
import copy
import pickle
from typing import Any

import anyio
import pytest

import penstock
from penstock._limiter.limiter import Limiter
from penstock._many.race import race
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import Event, error_reply, sse_reply, status_reply, tokens
from penstock.testing.script import Pause, Reply, Reset, Stall
from tests.support.chat import REQUEST, Watcher, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

ROLE = tokens(finish=None)[0]


def delta(**fields: Any) -> dict[str, Any]:
    chunk = copy.deepcopy(ROLE)
    chunk["choices"][0]["delta"] = fields
    return chunk


def with_usage(chunk: dict[str, Any], total: int) -> dict[str, Any]:
    usage = {"prompt_tokens": 1, "completion_tokens": total - 1, "total_tokens": total}
    return {**chunk, "usage": usage}


def request(name: str, **more: Any) -> dict[str, Any]:
    return {**REQUEST, "user": name, **more}


def requests(*names: str) -> list[dict[str, Any]]:
    return [request(name) for name in names]


def network_of(**replies: Reply) -> MemoryNetwork:
    return MemoryNetwork(lambda seen: replies[seen.json["user"]])


def starts(network: MemoryNetwork) -> list[tuple[str, float]]:
    return [(seen.json["user"], seen.time) for seen in network.requests]


def token_after(seconds: float, *texts: str) -> Reply:
    """Answer with a role at once, the first token later, and the last one much later."""
    return sse_reply(
        [ROLE, Pause(seconds), *tokens(*(texts or ("a",)), role_first=False, finish=None),
         Pause(1000), *tokens("end", role_first=False)]
    )  # fmt: skip


def relative(network: MemoryNetwork, started: float) -> list[tuple[str, float]]:
    return [(name, round(at - started, 6)) for name, at in starts(network)]


# --- who wins ---


async def test_the_first_token_wins_and_the_rest_is_closed_before_the_body() -> None:
    network = network_of(slow=token_after(2), fast=token_after(1, "f1", "f2"))
    async with client_on(network) as client:
        started = anyio.current_time()
        async with race(client, requests("slow", "fast")) as stream:
            assert anyio.current_time() - started == 1
            assert network.open_connections == 1
            chunks = [await anext(stream) for _ in range(3)]
        # From its first chunk on.
        assert [c.choices[0].delta.content for c in chunks] == ["", "f1", "f2"]
        assert network.open_connections == 0
        assert len(network.requests) == 2


def shown(event: Event) -> str:
    """An id; pytest escapes backslashes anew whenever it collects, so there are none."""
    return str(event).replace("\\", "/")


TOKENLESS: list[Event] = [
    ROLE,
    delta(content=""),
    delta(content=None),
    delta(),
    delta(reasoning_content=""),
    delta(tool_calls=[]),
    delta(refusal=""),
    b": ping\n\n",
    {**ROLE, "choices": []},
]


@pytest.mark.parametrize("event", TOKENLESS, ids=shown)
async def test_what_is_no_token_never_wins(event: Event) -> None:
    network = network_of(
        empty=sse_reply([event, event, Pause(5), *tokens("late")]),
        token=sse_reply([Pause(1), *tokens("early")]),
    )
    async with client_on(network) as client, race(client, requests("empty", "token")) as stream:
        assert (await stream.collect()).choices[0].message.content == "early"


TOKENS = [
    delta(content="a"),
    delta(reasoning_content="hm"),
    delta(reasoning="hm"),
    delta(refusal="no"),
    delta(tool_calls=[{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]),
    delta(content=[{"type": "text", "text": "a"}]),
]


@pytest.mark.parametrize("event", TOKENS, ids=shown)
async def test_what_is_a_token_wins(event: Event) -> None:
    network = network_of(
        first=sse_reply([ROLE, Pause(1), event, Pause(9), *tokens(role_first=False)]),
        second=sse_reply([Pause(2), *tokens("b")]),
    )
    async with client_on(network) as client:
        contest = race(client, requests("first", "second"))
        async with contest as stream:
            assert len([chunk async for chunk in stream]) == 3
        assert contest.statistics().winner == 0


async def test_two_winners_in_one_tick() -> None:
    for names in (("a", "b"), ("b", "a"), ("a", "a")):
        network = network_of(a=token_after(1, "a"), b=token_after(1, "b"))
        async with client_on(network) as client:
            contest = race(client, requests(*names))
            async with contest as stream:
                assert network.open_connections == 1
                assert (await anext(stream)).choices
                text = await anext(stream.text)
                statistics = contest.statistics()
            assert statistics.winner is not None
            assert text == names[statistics.winner]
            outcomes = [attempt.outcome for attempt in contest.statistics().attempts]
            assert sorted(outcomes) == ["lost", "won"]
        assert network.open_connections == 0


async def test_a_token_in_the_same_read_as_a_failure_wins_and_then_fails() -> None:
    broken = sse_reply([*tokens("a", finish=None), Reset()])
    network = network_of(broken=broken, slow=token_after(5))
    async with client_on(network) as client, race(client, requests("broken", "slow")) as stream:
        assert [(await anext(stream)).choices[0].delta.content for _ in range(2)] == ["", "a"]
        with pytest.raises(penstock.StreamInterruptedError):
            await anext(stream)
    assert network.open_connections == 0


async def test_the_winner_is_an_ordinary_stream() -> None:
    network = network_of(only=sse_reply(tokens("a", "b")))
    async with client_on(network) as client:
        async with race(client, requests("only")) as stream:
            assert isinstance(stream, penstock.CompletionStream)
            assert [text async for text in stream.text] == ["a", "b"]
            assert stream.state == "completed"
        # The answer was whole: its connection is kept.
        assert network.open_connections == 1
        async with race(client, requests("only")) as stream:
            assert (await stream.collect()).choices[0].message.content == "ab"
        assert len(network.connections) == 1


# --- when the attempts start ---


async def test_delay_0_starts_as_many_as_may_live() -> None:
    network = network_of(a=token_after(9), b=token_after(9), c=token_after(9), d=token_after(1))
    for max_live, expected in ((1, 1), (2, 2), (3, 3), (9, 4)):
        network.requests.clear()
        async with client_on(network) as client:
            started = anyio.current_time()
            contest = race(client, requests("a", "b", "c", "d"), max_live=max_live)
            async with contest:
                assert anyio.current_time() - started == (1 if max_live == 9 else 9)
            times = relative(network, started)
        assert sorted(times) == [(name, 0) for name in "abcd"[:expected]]
        assert len(contest.statistics().attempts) == expected


async def test_a_number_of_seconds_hedges() -> None:
    network = network_of(a=token_after(9), b=token_after(5), c=token_after(5), d=token_after(1))
    async with client_on(network) as client:
        started = anyio.current_time()
        async with race(client, requests("a", "b", "c", "d"), delay=1.5, max_live=3):
            assert anyio.current_time() - started == 6.5
        assert relative(network, started) == [("a", 0), ("b", 1.5), ("c", 3)]
        network.requests.clear()
        started = anyio.current_time()
        async with race(client, requests("d", "b"), delay=1.5):
            assert anyio.current_time() - started == 1
        assert relative(network, started) == [("d", 0)]


async def test_none_starts_the_next_only_after_a_failure() -> None:
    network = network_of(
        fails=error_reply(500).after(2), slow=token_after(100), other=token_after(1)
    )
    async with client_on(network) as client:
        started = anyio.current_time()
        async with race(client, requests("fails", "slow", "other"), delay=None):
            assert anyio.current_time() - started == 102
        assert relative(network, started) == [("fails", 0), ("slow", 2)]


async def test_a_failed_attempt_starts_the_next_at_once() -> None:
    network = network_of(
        fails=error_reply(503).after(1),
        breaks=sse_reply([ROLE, Pause(1), Reset()]),
        slow=token_after(50),
        good=token_after(1),
    )
    async with client_on(network) as client:
        started = anyio.current_time()
        names = ("fails", "breaks", "slow", "good")
        contest = race(client, requests(*names), delay=10, max_live=2)
        async with contest:
            # 0: fails; 1: breaks, in its place; 2: slow; 12: good, as the delay says
            assert relative(network, started) == [
                ("fails", 0), ("breaks", 1), ("slow", 2), ("good", 12)
            ]  # fmt: skip
            assert anyio.current_time() - started == 13
        outcomes = [attempt.outcome for attempt in contest.statistics().attempts]
        assert outcomes == ["failed", "failed", "lost", "won"]


async def test_a_failure_beside_a_live_attempt_starts_the_next_at_once() -> None:
    network = network_of(slow=token_after(100), bad=error_reply(500).after(1))
    async with client_on(network) as client:
        for delay, due in ((10.0, 11.0), (30.0, 31.0)):
            network.requests.clear()
            started = anyio.current_time()
            names = ("slow", "bad", "slow", "slow")
            async with race(client, requests(*names), delay=delay, max_live=3):
                pass
            times = relative(network, started)
            assert times[:3] == [("slow", 0), ("bad", delay), ("slow", due)]
            # One for one: the next comes when it is due by the delay, if there is room.
            assert times[3:] == [("slow", due + delay)]


async def test_two_failures_at_once_start_two() -> None:
    network = network_of(fails=error_reply(500).after(1), good=token_after(1))
    async with client_on(network) as client:
        started = anyio.current_time()
        async with race(client, requests("fails", "fails", "good", "good"), delay=50, max_live=4):
            pass
        times = relative(network, started)
        assert times == [("fails", 0), ("fails", 1), ("good", 2)]
        network.requests.clear()
        started = anyio.current_time()
        async with race(client, requests("fails", "fails", "good", "good")):
            pass
        times = relative(network, started)
        assert times == [("fails", 0), ("fails", 0), ("good", 1), ("good", 1)]


async def test_two_failures_beside_a_live_attempt_start_two() -> None:
    network = network_of(
        slow=token_after(100), late=error_reply(500).after(25), soon=error_reply(500).after(15)
    )
    async with client_on(network) as client:
        names = ("late", "soon", "slow", "slow", "slow", "slow")
        async with race(client, requests(*names), delay=10, max_live=4):
            pass
        due = [("slow", 25), ("slow", 25), ("slow", 35)]
        assert relative(network, 0) == [("late", 0), ("soon", 10), ("slow", 20), *due]


async def test_attempts_are_not_sent_again_unless_they_say_so() -> None:
    network = network_of(fails=error_reply(500), good=token_after(1))
    async with client_on(network, max_retries=5) as client:
        async with race(client, requests("fails", "good"), delay=None):
            assert [name for name, _ in starts(network)] == ["fails", "good"]
        network.requests.clear()
        async with race(client, [request("fails", max_retries=2), request("good")], delay=None):
            assert [name for name, _ in starts(network)] == ["fails", "fails", "fails", "good"]


# --- failures ---


async def test_all_failed() -> None:
    network = network_of(
        one=error_reply(500, "first").after(2),
        two=sse_reply([ROLE, Pause(1), Reset()]),
        three=status_reply(400, "third"),
    )
    async with client_on(network) as client:
        contest = race(client, requests("one", "two", "three"), max_live=3)
        with pytest.raises(penstock.AllAttemptsFailed) as caught:
            async with contest:
                raise AssertionError
        error = caught.value
        # In the order of their starts, not of their ends.
        assert [type(each) for each in error.errors] == [
            penstock.InternalServerError,
            penstock.StreamInterruptedError,
            penstock.BadRequestError,
        ]
        assert isinstance(error.__cause__, ExceptionGroup)
        assert list(error.__cause__.exceptions) == error.errors
        assert "3 attempts" in str(error)
        assert [type(each) for each in pickle.loads(pickle.dumps(error)).errors] == [
            type(each) for each in error.errors
        ]
        statistics = contest.statistics()
        assert statistics.winner is None
        assert [attempt.error for attempt in statistics.attempts] == error.errors
        assert {attempt.outcome for attempt in statistics.attempts} == {"failed"}
    assert network.open_connections == 0


async def test_the_error_of_an_attempt_has_what_it_had_received() -> None:
    network = network_of(one=sse_reply([with_usage(ROLE, 7), Pause(1), Reset()]))
    async with client_on(network) as client:
        with pytest.raises(penstock.AllAttemptsFailed) as caught:
            async with race(client, requests("one")):
                raise AssertionError
    partial = caught.value.errors[0].partial  # type: ignore[attr-defined]
    assert partial is not None
    assert partial.choices[0].message.role == "assistant"
    assert partial.usage.total_tokens == 7


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_an_account_error_ends_all_attempts_on_the_same_client(status: int) -> None:
    network = network_of(bad=error_reply(status).after(1), slow=token_after(10))
    async with client_on(network) as client:
        started = anyio.current_time()
        contest = race(client, requests("bad", "slow", "slow", "slow"), max_live=3)
        with pytest.raises(penstock.AllAttemptsFailed) as caught:
            async with contest:
                raise AssertionError
        assert anyio.current_time() - started == 1
        assert [error.status_code for error in caught.value.errors] == [status]  # type: ignore[attr-defined]
        assert sorted(starts(network)) == [("bad", started), ("slow", started), ("slow", started)]
        outcomes = [attempt.outcome for attempt in contest.statistics().attempts]
        assert outcomes == ["failed", "lost", "lost"]
    assert network.open_connections == 0


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_an_account_error_leaves_other_clients_alone(status: int) -> None:
    network = network_of(bad=error_reply(status).after(1), slow=token_after(2))
    other = network_of(good=token_after(5), slow=token_after(50))
    async with client_on(network) as client, client_on(other, "http://b.test/v1") as second:
        started = anyio.current_time()
        entries: list[Any] = [
            request("bad"),
            (second, request("slow")),
            (client, request("slow")),
            (second, request("good")),
        ]
        contest = race(client, entries, delay=100, max_live=4)
        async with contest as stream:
            assert (await anext(stream.text)) == "a"
            assert anyio.current_time() - started == 1 + 50
        outcomes = [(a.index, a.outcome) for a in contest.statistics().attempts]
        assert outcomes == [(0, "failed"), (1, "won")]
        contest = race(client, entries, delay=0.7, max_live=4)
        async with contest as stream:
            pass
        outcomes = [(a.index, a.outcome) for a in contest.statistics().attempts]
        assert outcomes == [(0, "failed"), (1, "lost"), (3, "won")]


async def test_an_account_error_in_the_tick_in_which_the_next_attempt_starts() -> None:
    # On connections that are there already nothing is waited for before a request is sent.
    for turn in (0.9999999, 1.0, 1.0000001):
        network = network_of(
            warm=sse_reply(tokens("a")), bad=error_reply(401).after(1), late=token_after(9)
        )
        async with client_on(network) as client:
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(client.complete, request("warm"))
            assert network.open_connections == 3
            network.requests.clear()
            with pytest.raises(penstock.AllAttemptsFailed):
                async with race(client, requests("bad", "late"), delay=turn):
                    raise AssertionError
            late = [seen for seen in network.requests if seen.json["user"] == "late"]
            assert all(seen.time < network.requests[0].time + 1 for seen in late)


async def test_no_attempt_starts_in_the_tick_of_the_win() -> None:
    network = network_of(warm=sse_reply(tokens("a")), first=token_after(1), late=token_after(9))
    for delay in (0.9999999, 1.0, 1.0000001):
        async with client_on(network) as client:
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(client.complete, request("warm"))
            network.requests.clear()
            async with race(client, requests("first", "late"), delay=delay):
                pass
            late = [seen for seen in network.requests if seen.json["user"] == "late"]
            assert all(seen.time < network.requests[0].time + 1 for seen in late)


@pytest.mark.parametrize("why", ["its client's account", "a winner"])
async def test_an_attempt_that_was_ended_before_it_began_sends_nothing(why: str) -> None:
    network = network_of(warm=sse_reply(tokens("a")), late=token_after(9))
    async with client_on(network) as client:
        await client.complete(request("warm"))
        network.requests.clear()
        # One turn of the loop lies between starting a task and its first step.
        contest = race(client, requests("late", "late"))
        runner, other = contest._pending
        runner.scope = anyio.CancelScope()
        if why == "a winner":
            contest._winner = other
        else:
            runner.scope.cancel()
        await contest._run(runner)
        assert not network.requests
        assert contest._report(runner).outcome == "lost"


@pytest.mark.parametrize("status", [400, 404, 422, 429])
async def test_other_errors_end_only_their_own_attempt(status: int) -> None:
    network = network_of(bad=error_reply(status), good=token_after(1))
    async with (
        client_on(network) as client,
        race(client, requests("bad", "good", "bad")) as stream,
    ):
        assert await anext(stream.text) == "a"


async def test_connections_that_fail() -> None:
    network = network_of(good=token_after(1))
    network.refuse = 2
    async with client_on(network) as client:
        async with race(client, requests("good", "good", "good"), delay=None) as stream:
            assert await anext(stream.text) == "a"
        network.refuse = 9
        with pytest.raises(penstock.AllAttemptsFailed) as caught:
            async with race(client, requests("good", "good", "good"), delay=None):
                raise AssertionError
        assert [type(e) for e in caught.value.errors] == [penstock.APIConnectionError] * 3


async def test_a_cancellation_that_nobody_asked_for(anyio_backend_name: str) -> None:
    if anyio_backend_name != "asyncio":
        return
    network = network_of(a=token_after(1))
    keys = 0

    async def key() -> str:
        nonlocal keys
        keys += 1
        if keys == 1 or broken:
            future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            future.cancel()
            return await future
        return "sk"

    broken = False
    async with client_on(network, api_key=key) as client:
        async with race(client, requests("a", "a")) as stream:
            assert await anext(stream.text) == "a"
        broken = True
        with pytest.raises(penstock.AllAttemptsFailed) as caught:
            async with race(client, requests("a", "a")):
                raise AssertionError
        assert [type(error) for error in caught.value.errors] == [RuntimeError] * 2


# --- answers without a token ---


async def test_an_answer_complete_without_a_token_is_kept_for_the_end() -> None:
    empty = sse_reply([with_usage(ROLE, 3), *tokens(role_first=False, finish="length")])
    network = network_of(empty=empty, late=token_after(5), bad=error_reply(500).after(1))
    async with client_on(network) as client:
        contest = race(client, requests("empty", "late"))
        async with contest as stream:
            assert await anext(stream.text) == "a"
        outcomes = [(a.outcome, a.usage) for a in contest.statistics().attempts]
        assert [outcome for outcome, _ in outcomes] == ["lost", "won"]
        assert outcomes[0][1] is not None
        assert outcomes[0][1].total_tokens == 3
        # With nobody better, it is the answer, from its first chunk on.
        for names in (("empty",), ("empty", "bad"), ("bad", "empty"), ("empty", "empty")):
            contest = race(client, requests(*names))
            async with contest as stream:
                chunks = [chunk async for chunk in stream]
                assert stream.partial.choices[0].finish_reason == "length"
                assert stream.state == "completed"
            assert [len(chunk.choices) for chunk in chunks] == [1, 1]
            assert chunks[0].choices[0].delta.role == "assistant"
            assert contest.statistics().winner == names.index("empty")
    assert network.open_connections == 0


async def test_a_place_given_back_by_such_an_answer_is_used() -> None:
    network = network_of(empty=sse_reply(tokens()), late=token_after(5))
    async with client_on(network) as client:
        started = anyio.current_time()
        async with race(client, requests("empty", "empty", "late"), max_live=1, delay=None):
            assert anyio.current_time() - started == 5


# --- statistics ---


async def test_statistics_tell_the_attempts() -> None:
    network = network_of(
        bad=error_reply(500).after(1),
        slow=sse_reply(
            [with_usage(ROLE, 5), Pause(1), with_usage(ROLE, 6), Pause(60), *tokens("x")]
        ),
        good=sse_reply([Pause(2), *tokens("a", usage={"total_tokens": 9}), Pause(3)]),
    )
    async with client_on(network) as client:
        contest = race(client, requests("bad", "slow", "good"))
        assert contest.statistics().attempts == []
        started = anyio.current_time()
        async with contest as stream:
            now = contest.statistics()
            assert now.winner == 2
            assert [a.outcome for a in now.attempts] == ["failed", "lost", "won"]
            assert [a.index for a in now.attempts] == [0, 1, 2]
            assert [a.request["user"] for a in now.attempts] == ["bad", "slow", "good"]
            assert [a.started - started for a in now.attempts] == [0, 0, 1]
            ended = [a.ended for a in now.attempts]
            assert ended == [started + 1, started + 3, None]
            # What a loser cost, as far as its server has told.
            assert now.attempts[1].usage is not None
            assert now.attempts[1].usage.total_tokens == 6
            assert now.attempts[2].usage is None
            await stream.collect()
        now = contest.statistics()
        assert now.attempts[2].usage is not None
        assert now.attempts[2].usage.total_tokens == 9
        assert now.attempts[2].ended == anyio.current_time()
        assert now.attempts[2].statistics.events > 2
        assert isinstance(now.attempts[0].error, penstock.InternalServerError)


async def test_statistics_while_it_runs() -> None:
    network = network_of(slow=token_after(5))
    async with client_on(network) as client, anyio.create_task_group() as group:
        contest = race(client, requests("slow", "slow"), delay=3)

        async def run() -> None:
            async with contest:
                pass

        group.start_soon(run)
        await anyio.sleep(1)
        assert [a.outcome for a in contest.statistics().attempts] == ["running"]
        await anyio.sleep(3)
        assert [a.outcome for a in contest.statistics().attempts] == ["running"] * 2
        await anyio.sleep(3)
        assert [a.outcome for a in contest.statistics().attempts] == ["won", "lost"]


# --- bad arguments, misuse ---


async def test_bad_requests_are_refused_before_any_io() -> None:
    network = network_of(a=token_after(1))
    async with client_on(network) as client:
        good = request("a")
        with pytest.raises(ValueError, match="at least one"):
            race(client, [])
        for bad in ({"model": "m"}, {"model": "", "messages": []}, {"model": "m", "messages": []}):
            with pytest.raises((ValueError, TypeError)):
                race(client, [good, bad])
        for junk in ("model", 3, None, ["model"]):
            with pytest.raises(TypeError, match="mapping"):
                race(client, [good, junk])  # type: ignore[list-item]
        with pytest.raises(TypeError, match="pair"):
            race(client, [(client, good, good)])  # type: ignore[list-item]
        for delay in (-1, float("nan")):
            with pytest.raises(ValueError, match="delay"):
                race(client, [good], delay=delay)
        for max_live in (0, -1):
            with pytest.raises(ValueError, match="max_live"):
                race(client, [good], max_live=max_live)
        assert not network.connects


async def test_a_race_is_run_once() -> None:
    network = network_of(a=token_after(1))
    async with client_on(network) as client:
        contest = race(client, requests("a"))
        async with contest:
            pass
        with pytest.raises(RuntimeError, match="once"):
            async with contest:
                raise AssertionError


async def test_a_race_that_is_never_run_holds_nothing(recwarn: pytest.WarningsRecorder) -> None:
    network = network_of(a=token_after(1))
    async with client_on(network) as client:
        race(client, requests("a", "a"))
        await anyio.sleep(1)
    assert not network.connects
    assert not recwarn.list


# --- leaving and cancelling ---


async def test_leaving_the_block_closes_the_winner() -> None:
    network = network_of(a=token_after(1))

    class Left(Exception):
        pass

    async with client_on(network) as client:
        with pytest.raises(Left):
            async with race(client, requests("a", "a")):
                raise Left
        assert network.open_connections == 0
        with anyio.CancelScope() as scope:
            async with race(client, requests("a", "a")):
                scope.cancel()
                await anyio.sleep(1)
        assert scope.cancelled_caught
        assert network.open_connections == 0


@pytest.mark.parametrize("way", ["left", "cancelled"])
async def test_an_observer_is_told_how_the_winner_was_left(way: str) -> None:
    watcher = Watcher()
    async with client_on(network_of(a=token_after(1)), observer=watcher) as client:
        with anyio.CancelScope() as scope:
            async with race(client, requests("a")):
                if way == "cancelled":
                    scope.cancel()
                    await anyio.sleep(1)
    assert watcher.outcomes() == ["abandoned" if way == "left" else way]


async def test_what_is_no_error_leaves_the_race_bare() -> None:
    class Stop(BaseException):
        pass

    def key() -> str:
        raise Stop

    network = network_of(a=token_after(1))
    async with client_on(network, api_key=key) as stopped, client_on(network) as client:
        with pytest.raises(Stop):
            async with race(client, [request("a"), (stopped, request("a"))], delay=0.5):
                raise AssertionError
        assert network.open_connections == 0


async def test_cancelled_while_it_runs() -> None:
    network = network_of(a=token_after(100))
    async with client_on(network) as client:
        for seconds in (0, 0.5, 5):
            with anyio.move_on_after(seconds) as scope:
                async with race(client, requests("a", "a", "a"), delay=1, max_live=3):
                    raise AssertionError
            assert scope.cancelled_caught
            assert network.open_connections == 0


async def test_cancelled_in_the_tick_of_the_win() -> None:
    for seconds in (0.9999999, 1.0, 1.0000001):
        network = network_of(a=token_after(1))
        async with client_on(network) as client:
            with anyio.move_on_after(seconds) as scope:
                async with race(client, requests("a", "a")):
                    await anyio.sleep(1)
            assert scope.cancelled_caught
            assert network.open_connections == 0


async def test_cancelled_natively_just_as_the_next_attempt_is_due(
    anyio_backend_name: str,
) -> None:
    # anyio's deadline and asyncio's cancellation in one turn of the loop: the latter counts.
    if anyio_backend_name != "asyncio":
        return
    network = network_of(a=token_after(100), bad=error_reply(500).after(0.125))
    for names in (("a", "a"), ("bad", "a"), ("a", "bad")):
        for again in (None, 0, 1, 2):
            async with client_on(network) as client:

                async def run(client: Any = client, names: tuple[str, ...] = names) -> None:
                    async with race(client, requests(*names), delay=0.125):
                        pass

                task = asyncio.create_task(run())
                await asyncio.sleep(0.125)
                task.cancel()
                if again is not None:
                    for _ in range(again):
                        await asyncio.sleep(0)
                    task.cancel()
                await asyncio.wait([task])
                assert task.cancelled()
                assert network.open_connections <= 1


async def test_a_deadline_of_an_attempt_is_a_failure_of_the_attempt() -> None:
    network = network_of(mute=Reply((Stall(),)), good=token_after(1))
    async with client_on(network, timeouts=penstock.Timeouts(first_token=3)) as client:
        started = anyio.current_time()
        contest = race(client, requests("mute", "good"), delay=None)
        async with contest:
            assert anyio.current_time() - started == 4
        error = contest.statistics().attempts[0].error
        assert isinstance(error, penstock.FirstTokenTimeout)


async def test_a_race_on_a_client_with_a_limiter() -> None:
    network = network_of(slow=token_after(9), good=token_after(1))
    limiter = Limiter(1)
    async with client_on(network, limiter=limiter) as client:
        started = anyio.current_time()
        async with race(client, requests("slow", "good"), delay=0.5):
            # The second waits for the slot of the first, and loses.
            assert anyio.current_time() - started == 9
            assert limiter.statistics().in_flight == 1
        assert limiter.statistics().in_flight == 0
