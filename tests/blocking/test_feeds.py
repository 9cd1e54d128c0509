"""`fan_out`, `fan_out_chunks` and `race` for callers that block."""

from __future__ import annotations

import gc
import queue
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import penstock
from penstock import ChunkEvent, Client, Limiter, ResultEvent, StreamBusyError, StreamClosedError
from penstock.blocking import fan_out, fan_out_chunks, race
from penstock.testing.replies import error_reply, sse_event, sse_reply, tokens
from penstock.testing.script import RecordedRequest, Repeat, Reply
from penstock.testing.server import becomes_true, serve_in_thread
from tests.support.blocking import (
    HELLO,
    SILENT,
    STALLED,
    answer,
    client_of,
    in_thread,
    interrupted_when,
    saying,
    slowly,
)
from tests.support.chat import REQUEST

from .conftest import own_threads


def contents(results: Any) -> list[tuple[int, str | None]]:
    return [(each.index, each.unwrap().choices[0].message.content) for each in results]


def stalls_when_told(request: RecordedRequest) -> Reply:
    return STALLED if request.json["messages"][-1]["content"] == "stall" else answer(request)


# --- fan_out ---


def test_client_complete_runs_without_threads() -> None:
    with serve_in_thread(answer) as server, client_of(server) as client:
        threads: set[str] = set()
        with fan_out(client.complete, [saying(n) for n in range(20)], limit=4) as results:
            got = []
            for result in results:
                threads |= set(own_threads())
                got.append((result.index, result.unwrap().choices[0].message.content))
                assert result.item == saying(result.index)
                assert result.ended >= result.started
        assert sorted(got) == [(n, str(n)) for n in range(20)]
        assert threads == {"penstock"}
        statistics = results.statistics()
        assert (statistics.total, statistics.done, statistics.delivered) == (20, 20, 20)


def test_a_plain_function_runs_in_threads() -> None:
    together = threading.Barrier(4)

    def double(number: int) -> int:
        together.wait(10)
        return number * 2

    with fan_out(double, range(8), limit=4) as results:
        assert sorted(each.unwrap() for each in results) == [0, 2, 4, 6, 8, 10, 12, 14]
        assert results.statistics().failed == 0
        assert own_threads().count("penstock worker") == 4
    assert becomes_true(lambda: not own_threads())


def test_a_function_that_calls_the_client() -> None:
    with serve_in_thread(slowly) as server, client_of(server) as client:

        def ask(number: int) -> str:
            with client.chat.completions.stream(**saying(number)) as stream:
                first = "".join(stream.text)
            second = client.complete(saying(first)).choices[0].message.content or ""
            return second + "!"

        with fan_out(ask, range(12), limit=6) as results:
            assert sorted(each.unwrap() for each in results) == sorted(f"{n}!" for n in range(12))
        assert len(server.requests) == 24
        assert len(server.connections) <= 6


def test_a_function_whose_client_has_the_same_limiter() -> None:
    # Each call stands in the slot of its item; waiting for another would be for ever.
    limiter = Limiter(2)
    with serve_in_thread(answer) as server, client_of(server, limiter=limiter) as client:
        for fn in (client.complete, lambda request: client.complete(request)):
            with fan_out(fn, [saying(n) for n in range(6)], limit=limiter) as results:
                assert sorted(contents(results)) == [(n, str(n)) for n in range(6)]
        assert limiter.statistics().in_flight == 0


def test_errors_are_values() -> None:
    def half(number: int) -> int:
        if number % 2:
            raise LookupError(number)
        return number // 2

    with fan_out(half, range(6), ordered=True) as results:
        got = list(results)
    assert [each.error is None for each in got] == [True, False] * 3
    with pytest.raises(LookupError):
        got[1].unwrap()
    with serve_in_thread(error_reply(404)) as server, client_of(server) as client:
        with fan_out(client.complete, [REQUEST]) as completions:
            (result,) = completions
        assert isinstance(result.error, penstock.NotFoundError)


def test_in_order() -> None:
    def nap(number: int) -> int:
        time.sleep(0.01 if number % 3 == 0 else 0)
        return number

    with fan_out(nap, iter(range(20)), limit=5, ordered=True, window=6) as results:
        assert [(each.index, each.unwrap()) for each in results] == [(n, n) for n in range(20)]


def test_no_more_is_pulled_than_is_wanted() -> None:
    pulled: list[int] = []

    def source() -> Iterator[int]:
        for number in range(1000):
            pulled.append(number)
            yield number

    with fan_out(str, source(), limit=3, buffer=2) as results:
        for count, _ in enumerate(results, 1):
            assert len(pulled) <= count + 5
            if count == 10:
                break
    after = len(pulled)
    time.sleep(0.02)
    assert len(pulled) == after <= 15
    assert after - 1 <= results.statistics().pulled <= after


def test_leaving_early_closes_every_connection_first() -> None:
    with serve_in_thread(stalls_when_told) as server, client_of(server) as client:
        for fn in (client.complete, lambda request: client.complete(request)):
            requests = [saying("quick"), *(saying("stall") for _ in range(5))]
            with fan_out(fn, requests, limit=6) as results:
                assert becomes_true(lambda: server.requests.count is not None)
                assert next(results).index == 0
            assert becomes_true(lambda: server.open_connections <= 1, seconds=2), (
                "all but the idle one"
            )
        assert client.complete(saying("more")).choices[0].message.content == "more"


def test_what_a_function_does_ends_with_the_block() -> None:
    caught: queue.SimpleQueue[BaseException] = queue.SimpleQueue()
    with serve_in_thread(STALLED) as server, client_of(server) as client:

        def read(_: object) -> None:
            try:
                with client.chat.completions.stream(**REQUEST) as stream:
                    list(stream)
            except StreamClosedError as error:
                caught.put(error)
                client.complete(REQUEST)

        def collect(_: object) -> None:
            try:
                client.complete(REQUEST)
            except StreamClosedError as error:
                caught.put(error)
                raise

        for fn in (read, collect):
            with fan_out(fn, range(3)) as results:
                assert becomes_true(lambda: len(server.requests) >= 3)
                assert results.statistics().running == 3
                begun = len(server.requests)
            assert [str(caught.get(timeout=5)) for _ in range(3)] == 3 * [
                "the block that this call was made in has been left"
            ]
            assert becomes_true(lambda: server.open_connections == 0)
            # What it then tried was refused.
            assert len(server.requests) == begun
            server.requests.clear()


def test_a_function_that_goes_on_does_not_hold_the_block() -> None:
    go_on = threading.Event()
    begun = threading.Semaphore(0)
    done: list[int] = []

    def work(number: int) -> None:
        begun.release()
        go_on.wait(10)
        done.append(number)

    with fan_out(work, range(4)):
        for _ in range(4):
            assert begun.acquire(timeout=5)
    assert done == []
    go_on.set()
    assert becomes_true(lambda: len(done) == 4)


def test_an_exception_of_the_body_comes_out_as_it_is() -> None:
    with serve_in_thread(STALLED) as server, client_of(server) as client:
        for make in (
            lambda: fan_out(client.complete, [REQUEST] * 2),
            lambda: fan_out(lambda request: client.complete(request), [REQUEST] * 2),
            lambda: fan_out_chunks(client, [REQUEST] * 2),
            lambda: race(client, [REQUEST]),
        ):
            for error in (KeyError("mine"), KeyboardInterrupt(), SystemExit(3), GeneratorExit()):
                with pytest.raises(type(error)) as caught, make():
                    raise error
                assert caught.value is error
                assert error.__context__ is None
        assert becomes_true(lambda: server.open_connections == 0)


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt()])
def test_an_exception_that_ends_programs_ends_the_block(raised: BaseException) -> None:
    def fail(number: int) -> int:
        if number == 3:
            raise raised
        return number

    with pytest.raises(type(raised)), fan_out(fail, range(6), limit=1) as results:
        list(results)
    with fan_out(str, [1]) as texts:
        assert [each.value for each in texts] == ["1"]


def test_a_source_that_blocks_and_uses_the_client() -> None:
    with serve_in_thread(answer) as server, client_of(server) as client:
        items: queue.Queue[str | None] = queue.Queue()

        def source() -> Iterator[dict[str, Any]]:
            while (item := items.get()) is not None:
                yield saying(client.complete(saying(item)).choices[0].message.content)

        with fan_out(client.complete, source()) as results:
            for text in ("a", "b", "c"):
                items.put(text)
                assert contents([next(results)])[0][1] == text
            items.put(None)
            assert list(results) == []
        assert len(server.requests) == 6


def test_a_source_in_which_somebody_waits_does_not_hold_the_block() -> None:
    items: queue.Queue[int] = queue.Queue()
    closed = threading.Event()

    def source() -> Iterator[int]:
        try:
            while True:
                yield items.get()
        finally:
            closed.set()

    with fan_out(str, source()) as results:
        items.put(1)
        assert next(results).value == "1"
    assert not closed.is_set()
    items.put(2)
    assert closed.wait(5)


def test_a_source_is_closed_before_the_block_is_left() -> None:
    closed: list[str] = []

    def source() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            time.sleep(0.01)
            closed.append("closed")

    with fan_out(str, source(), limit=2) as results:
        next(results)
    assert closed == ["closed"]
    with fan_out(str, source(), limit=2) as results:
        list(results)
    assert closed == ["closed"] * 2


def test_a_call_of_the_source_ends_with_the_block() -> None:
    caught: queue.SimpleQueue[BaseException] = queue.SimpleQueue()
    with serve_in_thread(SILENT) as server, client_of(server) as client:

        def source() -> Iterator[dict[str, Any]]:
            try:
                yield {"messages": client.complete(REQUEST)}
            except StreamClosedError as error:
                caught.put(error)
                raise

        with fan_out(client.complete, source()):
            assert becomes_true(lambda: server.requests)
        assert becomes_true(lambda: server.open_connections == 0)
        assert "has been left" in str(caught.get(timeout=5))


def test_an_error_of_the_source_comes_after_the_last_result() -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise LookupError("no more")

    seen: list[Any] = []
    with fan_out(str, source()) as results, pytest.raises(LookupError, match="no more"):
        seen.extend(each.value for each in results)
    assert sorted(seen) == ["1", "2"]


def test_an_error_of_the_sources_clean_up() -> None:
    def source() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            raise LookupError("in the clean-up")

    with (
        pytest.raises(LookupError, match="clean-up"),
        fan_out(str, source(), limit=1) as results,
    ):
        next(results)
    error = KeyError("mine")
    with (  # noqa: PT012
        pytest.raises(KeyError) as caught,
        fan_out(str, source(), limit=1) as results,
    ):
        next(results)
        raise error
    assert caught.value is error


async def asynchronous(_: object) -> None:
    raise AssertionError("never called")


async def async_source() -> Any:  # noqa: ASYNC900 - a source, as users write them
    yield 1


def test_what_cannot_be_fanned_out() -> None:
    client = Client("http://127.0.0.1:1/v1")
    cases: list[tuple[type[Exception], Callable[[], object]]] = [
        (TypeError, lambda: fan_out(asynchronous, [1])),
        (TypeError, lambda: fan_out(3, [1])),  # type: ignore[arg-type]
        (TypeError, lambda: fan_out(str, 3)),  # type: ignore[arg-type]
        (TypeError, lambda: fan_out(str, async_source())),
        (TypeError, lambda: fan_out(str, [1], limit="3")),  # type: ignore[arg-type]
        (ValueError, lambda: fan_out(str, [1], limit=0)),
        (ValueError, lambda: fan_out(str, [1], buffer=-1)),
        (ValueError, lambda: fan_out(str, [1], window=3)),
        (TypeError, lambda: fan_out_chunks(client, 3)),  # type: ignore[arg-type]
        (ValueError, lambda: fan_out_chunks(client, [], buffer=0)),
        (ValueError, lambda: race(client, [])),
        (TypeError, lambda: race(client, [3])),  # type: ignore[list-item]
        (ValueError, lambda: race(client, [REQUEST], max_live=0)),
        (ValueError, lambda: race(client, [{**REQUEST, "model": ""}])),
    ]
    for error, make in cases:
        with pytest.raises(error):
            make()
    assert own_threads() == []


def test_outside_of_its_block() -> None:
    results = fan_out(str, [1, 2, 3])
    with pytest.raises(RuntimeError, match="enter it first"):
        next(results)
    with results:
        next(results)
        with pytest.raises(RuntimeError, match="once"):
            results.__enter__()
        assert len(list(results)) == 2
    for _ in range(2):
        with pytest.raises(StreamClosedError):
            next(results)
        results.__exit__(None, None, None)
    assert results.statistics().delivered == 3
    with pytest.raises(RuntimeError, match="once"):
        results.__enter__()


def test_one_thread_reads_at_a_time() -> None:
    go_on = threading.Event()
    with fan_out(lambda _: go_on.wait(10), [1]) as results:
        with in_thread(lambda: list(results)) as outcome:
            assert becomes_true(lambda: results.statistics().running == 1)
            time.sleep(0.02)
            with pytest.raises(StreamBusyError):
                next(results)
            go_on.set()
        assert [each.value for each in outcome[0]] == [True]


def test_a_fan_out_in_a_fan_out() -> None:
    with serve_in_thread(answer) as server, client_of(server) as client:

        def inner(number: int) -> list[str | None]:
            requests = [saying(f"{number}.{n}") for n in range(3)]
            with fan_out(client.complete, requests, ordered=True) as results:
                return [text for _, text in contents(results)]

        with fan_out(inner, range(3), ordered=True) as results:
            got = [each.unwrap() for each in results]
        assert got == [[f"{a}.{b}" for b in range(3)] for a in range(3)]


def test_an_inner_fan_out_ends_with_the_outer_block() -> None:
    ended: queue.SimpleQueue[str] = queue.SimpleQueue()
    with serve_in_thread(STALLED) as server, client_of(server) as client:

        def inner(_: object) -> None:
            try:
                with fan_out_chunks(client, [REQUEST] * 2) as events:
                    list(events)
            except StreamClosedError:
                ended.put("closed")

        with fan_out(inner, range(2)):
            assert becomes_true(lambda: len(server.requests) == 4)
        assert [ended.get(timeout=5) for _ in range(2)] == ["closed"] * 2
        assert becomes_true(lambda: server.open_connections == 0)


# --- fan_out_chunks ---


@pytest.mark.parametrize("lazy", [False, True])
def test_chunks_of_many_requests(lazy: bool) -> None:
    with serve_in_thread(slowly) as server, client_of(server) as client:
        requests = [saying("abc"), saying("defg"), saying("h")]
        texts = ["", "", ""]
        ends: list[int] = []
        with fan_out_chunks(client, iter(requests) if lazy else requests, limit=2) as events:
            for event in events:
                assert event.request == requests[event.index]
                if isinstance(event, ResultEvent):
                    assert event.unwrap().choices[0].message.content == texts[event.index]
                    assert event.statistics is not None
                    ends.append(event.index)
                else:
                    assert isinstance(event, ChunkEvent)
                    assert event.index not in ends
                    texts[event.index] += event.chunk.choices[0].delta.content or ""
        assert texts == ["abc", "defg", "h"]
        assert sorted(ends) == [0, 1, 2]


def test_leaving_chunks_early_closes_every_connection_first() -> None:
    with serve_in_thread(STALLED) as server, client_of(server) as client:
        with fan_out_chunks(client, (REQUEST for _ in range(10)), limit=4) as events:
            for _ in events:
                if len(server.requests) == 4:
                    break
        assert becomes_true(lambda: server.open_connections == 0, seconds=2)
        assert len(server.requests) == 4
        with pytest.raises(StreamClosedError):
            next(events)


def test_a_failed_request_does_not_touch_the_others() -> None:
    def script(request: RecordedRequest) -> Reply:
        return error_reply(400, "bad") if request.json.get("seed") == 1 else HELLO

    requests: list[dict[str, Any]] = [{**REQUEST, "seed": n} for n in range(3)]
    requests.append({"model": "", "messages": []})
    with serve_in_thread(script) as server, client_of(server) as client:
        with fan_out_chunks(client, requests) as events:
            results = {each.index: each for each in events if isinstance(each, ResultEvent)}
        assert [type(results[n].error) for n in range(4)] == [
            type(None),
            penstock.BadRequestError,
            type(None),
            ValueError,
        ]


def test_a_slow_consumer_of_chunks_slows_the_servers() -> None:
    first, *_ = tokens("x" * 1000)
    endless = sse_reply([Repeat(sse_event(first) * 50)], done=False)
    with serve_in_thread(endless) as server, client_of(server) as client:
        with fan_out_chunks(client, [REQUEST] * 3) as events:
            next(events)

            def sent() -> int:
                return sum(each.bytes_sent for each in server.connections)

            def settled() -> bool:
                before = sent()
                time.sleep(0.05)
                return sent() == before

            assert becomes_true(settled)
            assert sent() < 3 * 16_000_000
            for _ in range(1000):
                next(events)
        assert becomes_true(lambda: server.open_connections == 0)


def test_a_limiter_that_was_paused() -> None:
    limiter = Limiter(2)
    busy = error_reply(429, headers={"retry-after-ms": "5"})
    with serve_in_thread([busy, HELLO]) as server, client_of(server, limiter=limiter) as client:
        client.complete(REQUEST)
        with fan_out_chunks(client, [REQUEST] * 3, limit=limiter) as events:
            assert sum(isinstance(event, ResultEvent) for event in events) == 3
        with fan_out(client.complete, [REQUEST] * 3, limit=limiter) as results:
            assert len(list(results)) == 3


def test_the_client_is_closed_in_the_block() -> None:
    with serve_in_thread(STALLED) as server:
        client = client_of(server)
        with fan_out_chunks(client, [REQUEST] * 2) as events:
            next(events)
            client.close()
            rest = [each for each in events if isinstance(each, ResultEvent)]
            assert [type(each.error) for each in rest] == [StreamClosedError] * 2
        assert becomes_true(lambda: server.open_connections == 0)
        with pytest.raises(StreamClosedError), fan_out_chunks(client, [REQUEST]):
            raise AssertionError("never entered")


# --- race ---


def test_the_winner_of_a_race() -> None:
    def script(request: RecordedRequest) -> Reply:
        return HELLO if request.json["seed"] == 1 else SILENT

    with serve_in_thread(script) as server, client_of(server) as client:
        attempts = race(client, [{**REQUEST, "seed": n} for n in range(2)])
        with attempts as stream:
            # The losers are closed before the body runs.
            assert becomes_true(lambda: server.open_connections == 1, seconds=2)
            assert "".join(stream.text) == "Hello!"
            assert stream.collect().choices[0].message.content == "Hello!"
        statistics = attempts.statistics()
        assert statistics.winner == 1
        assert [each.outcome for each in statistics.attempts] == ["lost", "won"]
        assert list(stream) == []


def test_a_race_between_clients() -> None:
    with serve_in_thread(SILENT) as slow, serve_in_thread(HELLO) as fast:
        with client_of(slow) as first:
            second = client_of(fast)
            with race(first, [REQUEST, (second, REQUEST)]) as stream:
                assert "".join(stream.text) == "Hello!"
            # The other client has a connection now, which is its own to close.
            assert fast.open_connections == 1
            second.close()
            assert becomes_true(lambda: fast.open_connections == 0)
        assert becomes_true(lambda: slow.open_connections == 0)


def test_a_race_that_nobody_wins() -> None:
    with serve_in_thread(error_reply(500)) as server, client_of(server) as client:
        with pytest.raises(penstock.AllAttemptsFailed) as caught, race(client, [REQUEST] * 3):
            raise AssertionError("never entered")
        assert [type(each) for each in caught.value.errors] == [penstock.InternalServerError] * 3
        assert len(server.requests) == 3


def test_leaving_a_race_closes_the_winner() -> None:
    with serve_in_thread(STALLED) as server, client_of(server) as client:
        with race(client, [REQUEST] * 2) as stream:
            assert next(stream.text) == "a"
        assert becomes_true(lambda: server.open_connections == 0, seconds=2)
        with pytest.raises(StreamClosedError):
            next(stream)


# --- interruptions ---


@pytest.mark.parametrize("kind", ["complete", "function", "chunks", "race", "winner"])
def test_ctrl_c(kind: str) -> None:
    script = SILENT if kind == "race" else STALLED
    with serve_in_thread(script) as server, client_of(server) as client:
        blocks: dict[str, Callable[[], Any]] = {
            "complete": lambda: fan_out(client.complete, [REQUEST] * 2),
            "function": lambda: fan_out(lambda item: client.complete(item), [REQUEST] * 2),
            "chunks": lambda: fan_out_chunks(client, (REQUEST for _ in range(2))),
            "race": lambda: race(client, [REQUEST] * 2),
            "winner": lambda: race(client, [REQUEST] * 2),
        }

        def read() -> None:
            with blocks[kind]() as block:
                for _ in block:
                    pass

        with (
            interrupted_when(lambda: len(server.requests) == 2),
            pytest.raises(KeyboardInterrupt),
        ):
            read()
        assert becomes_true(lambda: server.open_connections == 0, seconds=2)
        assert len(server.requests) == 2


def test_an_interrupted_read_loses_nothing() -> None:
    go_on = threading.Event()

    def work(number: int) -> int:
        go_on.wait(10)
        return number

    begun = threading.Event()
    with fan_out(work, range(3)) as results:
        with interrupted_when(begun.is_set), pytest.raises(KeyboardInterrupt):  # noqa: PT012
            begun.set()
            next(results)
        go_on.set()
        assert sorted(each.unwrap() for each in results) == [0, 1, 2]


# --- forgotten ---


@pytest.mark.parametrize("kind", ["fan_out", "chunks", "race"])
def test_a_forgotten_block_warns_and_closes_everything(kind: str) -> None:
    closed: list[str] = []

    def source() -> Iterator[dict[str, Any]]:
        try:
            yield REQUEST
            yield REQUEST
        finally:
            closed.append("closed")

    with serve_in_thread(STALLED) as server, client_of(server) as client:
        blocks: dict[str, Callable[[], Any]] = {
            "fan_out": lambda: fan_out(lambda item: client.complete(item), source()),
            "chunks": lambda: fan_out_chunks(client, source()),
            "race": lambda: race(client, [REQUEST]),
        }
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            holder = [blocks[kind]()]
            holder[0].__enter__()
            assert becomes_true(lambda: server.requests)
            holder.clear()
            gc.collect()
            assert becomes_true(lambda: server.open_connections == 0, seconds=5)
        assert {each.category for each in caught} == {ResourceWarning}
        assert becomes_true(lambda: closed == ([] if kind == "race" else ["closed"]), seconds=5)
        caught.clear()  # they know what they are about
        gc.collect()
        assert becomes_true(lambda: own_threads() == ["penstock"], seconds=5), own_threads()


def test_blocks_that_were_never_entered_need_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client = Client("http://127.0.0.1:1/v1")
        fan_out(str, iter([1]))
        fan_out_chunks(client, [REQUEST])
        race(client, [REQUEST])
        gc.collect()
    assert own_threads() == []
