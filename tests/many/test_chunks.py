"""`fan_out_chunks`: bounded, merged in order, errors as values, nothing left behind."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import penstock
from penstock import AsyncClient, ChunkEvent, Limiter, ResultEvent, fan_out_chunks
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import (
    completion,
    error_reply,
    json_reply,
    sse_event,
    sse_reply,
    tokens,
)
from penstock.testing.script import End, Pause, RecordedRequest, Repeat, Reply
from tests.support.chat import REQUEST, Watcher, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

HELLO = sse_reply(tokens("Hel", "lo"))


def asking(name: object, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": str(name)}], **more}


def asked(request: RecordedRequest) -> str:
    content: str = request.json["messages"][0]["content"]
    return content


def slowly(*texts: str, every: float = 1) -> Reply:
    """Each text in a network read of its own."""
    events: list[Any] = []
    for event in tokens(*texts):
        events += [Pause(every), event]
    return sse_reply(events)


def endless(every: float = 0.0) -> Reply:
    (event,) = tokens("x", finish=None, role_first=False)
    return sse_reply([Repeat(sse_event(event), every=every)], done=False)


async def collected(events: Any) -> tuple[dict[int, str], dict[int, ResultEvent]]:
    texts: dict[int, str] = {}
    results: dict[int, ResultEvent] = {}
    async for event in events:
        if isinstance(event, ResultEvent):
            assert event.index not in results
            results[event.index] = event
        else:
            assert event.index not in results  # no chunk after the result
            for choice in event.chunk.choices:
                texts[event.index] = texts.get(event.index, "") + (choice.delta.content or "")
    return texts, results


# --- what comes out ---


async def test_every_request_has_its_chunks_in_order_and_one_result() -> None:
    requests = [asking(number) for number in range(20)]

    def script(request: RecordedRequest) -> Reply:
        words = [f"{asked(request)}-{n};" for n in range(5)]
        return slowly(*words, every=0.1 + int(asked(request)) % 3)

    async with client_on(script) as client, fan_out_chunks(client, requests, limit=7) as events:
        texts, results = await collected(events)
    assert texts == {n: "".join(f"{n}-{k};" for k in range(5)) for n in range(20)}
    assert sorted(results) == list(range(20))
    for number, result in results.items():
        assert result.error is None
        assert result.request is requests[number]
        assert result.completion is not None
        assert result.completion.choices[0].message.content == texts[number]
        assert result.unwrap() is result.completion
        assert result.statistics is not None
        assert result.statistics.attempts == 1


async def test_chunks_arrive_merged_as_they_come() -> None:
    def script(request: RecordedRequest) -> Reply:
        return slowly("a", "b", every=2 if asked(request) == "0" else 3)

    order: list[tuple[int, float]] = []
    requests = [asking(0), asking(1)]
    async with client_on(script) as client, fan_out_chunks(client, requests) as events:
        async for event in events:
            if isinstance(event, ChunkEvent):
                order.append((event.index, round(anyio.current_time(), 3)))
    assert order == [(0, 2), (1, 3), (0, 4), (0, 6), (1, 6), (0, 8), (1, 9), (1, 12)] or order == [
        (0, 2),
        (1, 3),
        (0, 4),
        (1, 6),
        (0, 6),
        (0, 8),
        (1, 9),
        (1, 12),
    ]


@pytest.mark.parametrize("requests", [[], (), iter(())])
async def test_no_requests_at_all(requests: Any) -> None:
    async with client_on(HELLO) as client, fan_out_chunks(client, requests) as events:
        assert await collected(events) == ({}, {})
        assert [event async for event in events] == []


# --- bounds ---


@pytest.mark.sampled(0.34)
@pytest.mark.parametrize("limit", [1, 3, 64])
@pytest.mark.parametrize("buffer", [None, 1, 5])
@pytest.mark.parametrize("as_limiter", [False, True])
async def test_in_flight_and_pulled_stay_within_their_bounds(
    limit: int, buffer: int | None, as_limiter: bool
) -> None:
    pulled = delivered = 0
    network: MemoryNetwork

    def source() -> Iterator[dict[str, Any]]:
        nonlocal pulled
        for number in range(40):
            pulled += 1
            assert pulled <= delivered + limit + (limit if buffer is None else buffer)
            yield asking(number)

    def script(request: RecordedRequest) -> Reply:
        assert network.open_connections <= limit
        return slowly("a", "b", every=0.5)

    network = MemoryNetwork(script)
    bound: int | Limiter = Limiter(limit) if as_limiter else limit
    async with (
        client_on(network) as client,
        fan_out_chunks(client, source(), limit=bound, buffer=buffer) as events,
    ):
        async for event in events:
            delivered += isinstance(event, ResultEvent)
            if delivered % 7 == 0:
                await anyio.sleep(5)
    assert delivered == pulled == 40
    assert len(network.connections) <= limit


async def test_pulled_stays_bounded_while_refused_requests_sleep_without_a_slot() -> None:
    limiter = Limiter(2)
    pulled = results = 0

    def source() -> Iterator[dict[str, Any]]:
        nonlocal pulled
        while True:
            pulled += 1
            assert pulled <= results + 2 + 2
            yield asking(pulled)

    async with (
        client_on(error_reply(500), limiter=limiter, max_retries=3) as client,
        fan_out_chunks(client, source(), limit=limiter) as events,
    ):
        async for _ in events:
            results += 1
            if results == 8:
                break
    assert limiter.statistics().in_flight == 0


async def test_requests_are_pulled_only_when_they_can_start() -> None:
    pulled: list[float] = []

    def source() -> Iterator[dict[str, Any]]:
        for number in range(4):
            pulled.append(round(anyio.current_time(), 3))
            yield asking(number)

    async with (
        client_on(HELLO.after(3)) as client,
        fan_out_chunks(client, source(), limit=2) as events,
    ):
        await collected(events)
    assert pulled[:2] == [0, 0]
    assert all(time >= 3 for time in pulled[2:])


async def test_a_stalled_consumer_stops_the_reading() -> None:
    network = MemoryNetwork(endless())
    size = len(endless().data)
    async with (
        client_on(network) as client,
        fan_out_chunks(client, [asking(n) for n in range(5)], limit=5, buffer=3) as events,
    ):
        await anext(events)
        await anyio.sleep(1)
        read = [connection.bytes_sent for connection in network.connections]
        await anyio.sleep(100)
        assert [connection.bytes_sent for connection in network.connections] == read
        # Of all five together: the bound, and one read of each beyond it.
        assert sum(read) <= (3 + 5 + 5) * 2 * size
    assert network.open_connections == 0


@pytest.mark.parametrize("buffer", [1, 2, 10])
async def test_a_small_buffer_leaves_no_stream_waiting_behind_silent_ones(buffer: int) -> None:
    # The first fall silent; the others must not wait for them.
    def script(request: RecordedRequest) -> Reply:
        if int(asked(request)) < silent:
            return sse_reply([*tokens("a", finish=None), Pause(1000), *tokens("b")])
        return slowly(*"abcdef", every=1)

    silent = buffer + 3
    ended: dict[int, float] = {}
    requests = [asking(number) for number in range(20)]
    async with (
        client_on(script, timeouts=penstock.Timeouts(read=None)) as client,
        fan_out_chunks(client, requests, limit=20, buffer=buffer) as events,
    ):
        await anyio.sleep(5)  # a slow start of the consumer, then it is always there
        async for event in events:
            if isinstance(event, ResultEvent):
                ended[event.index] = anyio.current_time()
    assert len(ended) == 20
    assert max(ended[number] for number in range(silent, 20)) < 30


# --- errors are values ---


async def test_bad_requests_come_back_as_values() -> None:
    network = MemoryNetwork(HELLO)
    requests: list[Any] = [
        asking(0),
        {"model": "", "messages": [{"role": "user", "content": "x"}]},
        {"model": "m", "messages": []},
        {"model": "m"},
        {},
        None,
        "text",
        asking(7, tools=object()),
        asking(8, timeouts=5),
        asking(9, extra_headers={"a": "\r\n"}),
        asking(10),
    ]
    async with client_on(network) as client, fan_out_chunks(client, requests) as events:
        _, results = await collected(events)
    assert sorted(results) == list(range(11))
    for number in range(1, 10):
        error = results[number].error
        assert isinstance(error, (ValueError, TypeError)), number
        assert results[number].completion is None
        assert results[number].statistics is None
        assert results[number].request is requests[number]
        with pytest.raises(type(error)):
            results[number].unwrap()
    assert results[0].error is results[10].error is None
    assert len(network.requests) == 2


async def test_a_failure_touches_no_sibling_and_keeps_what_had_come() -> None:
    def script(request: RecordedRequest) -> Reply:
        match asked(request):
            case "0":
                return sse_reply([Pause(1), *tokens("half", finish=None), End()], done=False)
            case "1":
                return error_reply(402, "no credits left")
            case "2":
                return sse_reply([*tokens("so far", finish=None), {"error": {"message": "broke"}}])
            case "3":
                return sse_reply(tokens("polite", finish=None), done=False)
        return slowly("fine", every=2)

    requests = [asking(number) for number in range(6)]
    async with client_on(script) as client, fan_out_chunks(client, requests) as events:
        texts, results = await collected(events)
    kinds = [type(results[number].error) for number in range(6)]
    assert kinds == [
        penstock.StreamInterruptedError,
        penstock.InsufficientCreditsError,
        penstock.StreamError,
        penstock.IncompleteStreamError,
        type(None),
        type(None),
    ]
    for number, text in ((0, "half"), (2, "so far"), (3, "polite")):
        error = results[number].error
        assert isinstance(error, penstock.PenstockError)
        for seen in (error, copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
            assert seen.partial is not None
            assert seen.partial.choices[0].message.content == text == texts[number]
    assert texts[4] == texts[5] == "fine"


async def test_a_closed_client_fails_every_request() -> None:
    network = MemoryNetwork(endless(every=1))
    client = client_on(network)
    errors: list[Exception | None] = []
    async with fan_out_chunks(client, [asking(n) for n in range(4)], limit=2) as events:
        async for event in events:
            if isinstance(event, ResultEvent):
                errors.append(event.error)
            elif not errors:
                await client.aclose()
    assert [type(error) for error in errors] == [penstock.StreamClosedError] * 4
    assert network.open_connections == 0


# --- leaving ---


@pytest.mark.parametrize("limiter", [True, False])
async def test_leaving_early_closes_every_connection_first(limiter: bool) -> None:
    network = MemoryNetwork(endless(every=1))
    pulled = 0

    def source() -> Iterator[dict[str, Any]]:
        nonlocal pulled
        while True:
            pulled += 1
            yield asking(pulled)

    shared = Limiter(5)
    watcher = Watcher()
    client = client_on(network, limiter=shared if limiter else None, observer=watcher)
    async with fan_out_chunks(client, source(), limit=shared) as events:
        async for event in events:
            assert isinstance(event, ChunkEvent)
            if anyio.current_time() > 3:
                break
        assert network.open_connections == 5
        before = pulled
    assert network.open_connections == 0
    assert shared.statistics().in_flight == shared.statistics().waiting == 0
    await anyio.sleep(10)
    assert pulled == before == 5
    assert watcher.outcomes() == ["cancelled"] * 5
    await client.aclose()


@pytest.mark.parametrize("error", [KeyError("mine"), BaseExceptionGroup("mine", [KeyError()])])
async def test_an_exception_of_the_body_comes_out_bare(error: BaseException) -> None:
    network = MemoryNetwork(endless(every=1))
    async with client_on(network) as client:
        with pytest.raises(type(error)) as caught:  # noqa: PT012
            async with fan_out_chunks(client, [asking(n) for n in range(3)]) as events:
                await anext(events)
                raise error
        assert caught.value is error
        assert network.open_connections == 0


async def test_an_outer_cancellation_stays_one() -> None:
    network = MemoryNetwork(endless(every=1))
    async with client_on(network) as client:
        with anyio.move_on_after(5) as scope:
            async with fan_out_chunks(client, [asking(n) for n in range(3)]) as events:
                async for _ in events:
                    pass
        assert scope.cancelled_caught
        assert anyio.current_time() == pytest.approx(5, abs=0.2)
        assert network.open_connections == 0


async def test_reading_after_the_block_was_left() -> None:
    async with client_on(HELLO) as client:
        events = fan_out_chunks(client, [asking(n) for n in range(3)])
        async with events:
            await anext(events)
        for _ in range(3):
            with pytest.raises(penstock.StreamClosedError):
                await anext(events)


async def test_misuse_is_told() -> None:
    async with client_on(HELLO) as client:
        events = fan_out_chunks(client, [asking(0)])
        with pytest.raises(RuntimeError, match="enter"):
            await anext(events)
        async with events:
            with pytest.raises(RuntimeError, match="once"):
                await events.__aenter__()
            await collected(events)
        with pytest.raises(RuntimeError, match="once"):
            await events.__aenter__()


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"limit": 0}, ValueError),
        ({"limit": -1}, ValueError),
        ({"limit": None}, TypeError),
        ({"limit": 2.0}, TypeError),
        ({"limit": True}, TypeError),
        ({"buffer": 0}, ValueError),
        ({"requests": 5}, TypeError),
        ({"requests": None}, TypeError),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        fan_out_chunks(client_on(HELLO), **{"requests": [], **arguments})


async def test_two_readers_at_once() -> None:
    async with (
        client_on(endless(every=5)) as client,
        fan_out_chunks(client, [asking(0)]) as events,
        anyio.create_task_group() as group,
    ):
        group.start_soon(anext, events)
        await anyio.sleep(1)
        with pytest.raises(penstock.StreamBusyError):
            await anext(events)


async def test_a_fan_out_that_is_never_entered_leaves_nothing() -> None:
    async with client_on(HELLO) as client:
        fan_out_chunks(client, [asking(0)])
        gc.collect()


# --- cancelled reads ---


@pytest.mark.parametrize("patience", [0.0, 0.3, 1.0])
async def test_a_cancelled_read_loses_nothing(patience: float) -> None:
    words = [f"{n}," for n in range(10)]
    requests = [asking(n) for n in range(4)]
    texts: dict[int, str] = {}
    results = 0
    async with (
        client_on(slowly(*words, every=0.7)) as client,
        fan_out_chunks(client, requests, limit=2, buffer=1) as events,
    ):
        while results < 4:
            with anyio.move_on_after(patience):
                event = await anext(events)
                if isinstance(event, ResultEvent):
                    results += 1
                else:
                    for choice in event.chunk.choices:
                        text = choice.delta.content or ""
                        texts[event.index] = texts.get(event.index, "") + text
                continue
            await anyio.sleep(0.05)
    assert texts == dict.fromkeys(range(4), "".join(words))


# --- sources ---


async def test_an_error_of_the_source_comes_after_the_last_result() -> None:
    def source() -> Iterator[dict[str, Any]]:
        yield asking(0)
        yield asking(1)
        raise LookupError("no more")

    results = 0
    async with client_on(slowly("a")) as client:
        with pytest.raises(LookupError, match="no more"):  # noqa: PT012
            async with fan_out_chunks(client, source()) as events:
                async for event in events:
                    results += isinstance(event, ResultEvent)
    assert results == 2


class AsyncSource:
    """An async source that notes which task it is used in."""

    def __init__(self, count: int, fail_at: int | None = None) -> None:
        self.count = count
        self.fail_at = fail_at
        self.tasks: set[int] = set()
        self.closed_in: list[int] = []

    async def __call__(self) -> AsyncIterator[dict[str, Any]]:  # noqa: ASYNC900 - a source, as users write them
        try:
            for number in range(self.count):
                self.tasks.add(anyio.get_current_task().id)
                with anyio.CancelScope():  # only legal where one task pulls and closes
                    await anyio.sleep(0.5)
                if number == self.fail_at:
                    raise LookupError(number)
                yield asking(number)
        finally:
            self.closed_in.append(anyio.get_current_task().id)
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.1)


async def test_an_async_source() -> None:
    source = AsyncSource(5)
    async with client_on(HELLO) as client, fan_out_chunks(client, source(), limit=2) as events:
        _, results = await collected(events)
        assert sorted(results) == list(range(5))
    assert source.closed_in == list(source.tasks)


@pytest.mark.parametrize("ending", ["break", "raise", "cancel"])
async def test_an_async_source_is_closed_before_the_block_is_left_by_who_pulled(
    ending: str,
) -> None:
    source = AsyncSource(1000)
    async with client_on(endless(every=0.3)) as client:
        try:
            with anyio.move_on_after(3):
                async with fan_out_chunks(client, source(), limit=3) as events:
                    async for _ in events:
                        if ending == "break" and anyio.current_time() > 2:
                            break
                        if ending == "raise" and anyio.current_time() > 2:
                            raise KeyError
        except KeyError:
            assert ending == "raise"
        assert source.closed_in == list(source.tasks)


async def test_an_async_source_that_fails() -> None:
    source = AsyncSource(5, fail_at=2)
    async with client_on(HELLO) as client:
        with pytest.raises(LookupError):
            async with fan_out_chunks(client, source()) as events:
                await collected(events)
    assert source.closed_in == list(source.tasks)


async def test_a_source_that_never_ends_starves_nobody() -> None:
    def source() -> Iterator[Any]:
        while True:
            yield None  # a bad request: refused without any I/O

    async with client_on(HELLO) as client:
        with anyio.fail_after(5):
            async with fan_out_chunks(client, source(), limit=4) as events:
                for _ in range(50):
                    assert isinstance(await anext(events), ResultEvent)


# --- with a limiter of the client's ---


@pytest.mark.parametrize("limit", [1, 3])
async def test_a_limiter_shared_with_the_client_counts_each_request_once(limit: int) -> None:
    limiter = Limiter(limit)
    network = MemoryNetwork(HELLO.after(1))
    async with (
        client_on(network, limiter=limiter) as client,
        fan_out_chunks(client, [asking(n) for n in range(9)], limit=limiter) as events,
    ):
        with anyio.fail_after(60):
            _, results = await collected(events)
    assert len(results) == 9
    assert limiter.statistics().in_flight == 0
    assert len(network.connections) == limit


async def test_two_fan_outs_on_one_limiter() -> None:
    limiter = Limiter(2)
    done: list[int] = []
    network = MemoryNetwork(HELLO.after(1))

    async def run(client: AsyncClient) -> None:
        async with fan_out_chunks(client, [asking(n) for n in range(5)], limit=limiter) as events:
            _, results = await collected(events)
            done.append(len(results))

    async with client_on(network, limiter=limiter) as client, anyio.create_task_group() as group:
        group.start_soon(run, client)
        group.start_soon(run, client)
    assert done == [5, 5]
    assert len(network.connections) == 2


@pytest.mark.parametrize("own_limiter", [True, False])
async def test_retry_after_holds_back_the_whole_fan_out(own_limiter: bool) -> None:
    sent: list[float] = []

    def script(request: RecordedRequest) -> Reply:
        sent.append(round(request.time, 2))
        return error_reply(429, headers={"retry-after": "5"}) if len(sent) == 1 else HELLO

    limiter = Limiter(1)
    async with (
        client_on(script, limiter=limiter if own_limiter else None) as client,
        fan_out_chunks(client, [asking(n) for n in range(4)], limit=limiter) as events,
    ):
        _, results = await collected(events)
    assert sent[0] == 0
    assert min(sent[1:]) >= 5
    assert [result.error for result in results.values()] == [None] * 4


# --- events are values ---


async def test_results_pickle() -> None:
    def script(request: RecordedRequest) -> Reply:
        return error_reply(404, "no such model") if asked(request) == "0" else HELLO

    async with (
        client_on(script) as client,
        fan_out_chunks(client, [asking(0), asking(1)]) as events,
    ):
        _, results = await collected(events)
    for result in results.values():
        again = pickle.loads(pickle.dumps(result))
        assert (again.index, again.request) == (result.index, result.request)
        assert again.completion == result.completion
        assert str(again.error) == str(result.error)
        assert again.statistics == result.statistics


async def test_a_request_that_is_answered_without_streaming() -> None:
    network = MemoryNetwork(json_reply(completion("Hello")))
    async with client_on(network) as client, fan_out_chunks(client, [REQUEST]) as events:
        seen = [event async for event in events]
    # The whole answer as one chunk.
    chunk, result = seen
    assert isinstance(chunk, ChunkEvent)
    assert chunk.chunk.choices[0].delta.content == "Hello"
    assert isinstance(result, ResultEvent)
    assert result.unwrap().choices[0].message.content == "Hello"
