"""`EventStream` in use: the guarantees of a completion stream, at any endpoint."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

import penstock
from penstock import Event, EventStream, Limiter, StreamState, Timeouts
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import error_reply, json_reply, sse_event, sse_reply
from penstock.testing.script import End, Pause, Reply, Reset, Stall
from tests.support.chat import KEY, Watcher, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio


def named(name: str, **payload: Any) -> bytes:
    return f"event: {name}\n".encode() + sse_event(payload)


WORDS = [named("delta", t="Hel"), named("delta", t="lo")]
STOP = named("stop")
HELLO = sse_reply([*WORDS, STOP], done=False)
HANGING = sse_reply([*WORDS, Stall()], done=False)
DONE = ("stop",)


def slowly(*events: Any, done: bool = False) -> Reply:
    spaced: list[Any] = []
    for event in events:
        spaced += [Pause(1), event]
    return sse_reply(spaced, done=done)


def text_of(events: list[Event]) -> str:
    return "".join(event.json().get("t", "") for event in events)


async def test_it_is_read_to_its_end_and_its_connection_used_again() -> None:
    network = MemoryNetwork([HELLO, HELLO, slowly(*WORDS, done=True)])
    async with client_on(network) as client:
        for _ in range(2):
            async with client.events("/x", json={"a": 1}, done=DONE) as events:
                assert events.state == "open"
                read = [event async for event in events]
                assert [event.event for event in read] == ["delta", "delta", "stop"]
                assert text_of(read) == "Hello"
                assert events.state == "completed"
        stream = client.events("/x", done=DONE)
        assert text_of([event async for event in stream]) == "Hello"
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        assert len(network.connections) == 1
    request = network.requests[0]
    assert (request.method, request.target, request.json) == ("POST", "/v1/x", {"a": 1})
    assert request.headers["accept"] == "text/event-stream"
    assert request.headers["authorization"] == f"Bearer {KEY}"


async def test_what_is_known_of_it() -> None:
    reply = sse_reply([*WORDS, STOP], done=False, headers={"x-request-id": "r1"})
    async with client_on(reply.after(1)) as client:
        stream = client.events("/x", done=DONE)
        assert isinstance(stream, EventStream)
        assert repr(stream) == "<EventStream /v1/x new>"
        assert (stream.status_code, stream.request_id, dict(stream.headers)) == (None, None, {})
        read = [event async for event in stream]
        assert (stream.status_code, stream.request_id) == (200, "r1")
        statistics = stream.statistics()
        assert (statistics.attempts, statistics.events) == (1, len(read))
        assert statistics.first_token == statistics.first_byte == statistics.headers == 1.0
        assert statistics.bytes > 0


async def test_its_repr_shows_no_credential_of_the_url() -> None:
    async with client_on(sse_reply([]), default_query={"api_key": KEY, "a": "b"}) as client:
        for stream in (client.events("/x"), client.stream("GET", "/x")):
            assert repr(stream) == f"<{type(stream).__name__} /v1/x?api_key=...&a=b new>"


@pytest.mark.parametrize("way", ["break", "raise", "aclose", "cancel"])
async def test_leaving_closes_the_connection_at_once(way: str) -> None:
    network = MemoryNetwork(HANGING)
    limiter, watcher = Limiter(1), Watcher()
    async with client_on(network, limiter=limiter, observer=watcher) as client:
        stream = client.events("/x", done=DONE)
        with anyio.CancelScope() as scope:
            try:
                async with stream:
                    await anext(stream)
                    assert limiter.statistics().in_flight == 1
                    if way == "raise":
                        raise KeyError
                    if way == "aclose":
                        await stream.aclose()
                        await stream.aclose()
                    if way == "cancel":
                        scope.cancel()
                        await anyio.sleep(1)
            except KeyError:
                pass
        assert network.open_connections == 0
        assert limiter.statistics().in_flight == 0
        assert stream.state is StreamState.CLOSED
        assert watcher.outcomes() == ["cancelled" if way == "cancel" else "abandoned"]
        with pytest.raises(penstock.StreamClosedError):
            await anext(stream)


async def test_a_reader_elsewhere_is_told() -> None:
    async with client_on(HANGING) as client:
        stream = client.events("/x")
        errors: list[Exception] = []

        async def read() -> None:
            try:
                async for _ in stream:
                    pass
            except penstock.StreamClosedError as error:
                errors.append(error)

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await anyio.sleep(1)
            with pytest.raises(penstock.StreamBusyError):
                await stream.fill()
            await stream.aclose()
        assert len(errors) == 1


async def test_a_cancelled_read_loses_nothing() -> None:
    network = MemoryNetwork(slowly(*WORDS, b": ping\n\n", *WORDS, STOP))
    for patience in (0.07, 0.3, 1.0, 1.7):
        async with client_on(network) as client:
            stream = client.events("/x", done=DONE)
            read: list[Event] = []
            while stream.state is not StreamState.COMPLETED:
                with anyio.move_on_after(patience):
                    read += [await anext(stream, Event("", b"{}"))]
                await anyio.sleep(0.1)
            assert text_of(read) == "HelloHello"
    assert len(network.requests) == 4


async def test_it_is_sent_again_only_before_the_first_byte() -> None:
    refusals = [error_reply(503), sse_reply([Reset()]), Reply((Reset(),))]
    network = MemoryNetwork([*refusals, HELLO])
    async with client_on(network, max_retries=3) as client:
        stream = client.events("/x", done=DONE)
        assert text_of([event async for event in stream]) == "Hello"
        assert stream.statistics().attempts == 4
    broken = sse_reply([WORDS[0], Reset()], done=False)
    network = MemoryNetwork([broken, HELLO])
    watcher = Watcher()
    async with client_on(network, max_retries=3, observer=watcher) as client:
        stream = client.events("/x", done=DONE)
        assert (await anext(stream)).json() == {"t": "Hel"}
        for _ in range(2):
            with pytest.raises(penstock.StreamInterruptedError):
                await anext(stream)
    assert len(network.requests) == 1
    assert watcher.outcomes() == ["failed"]


@pytest.mark.parametrize("retries", [0, 1])
async def test_how_often_is_up_to_the_caller(retries: int) -> None:
    network = MemoryNetwork(error_reply(503))
    async with client_on(network, max_retries=5) as client:
        with pytest.raises(penstock.EndpointNotReadyError):
            await anext(client.events("/x", max_retries=retries))
    assert len(network.requests) == 1 + retries


@pytest.mark.parametrize(
    ("limits", "kind", "at"),
    [
        ({"first_token": 0.5}, penstock.FirstTokenTimeout, 0.5),
        ({"idle": 2.0}, penstock.IdleTimeout, 4.0),
        ({"read": 1.5}, penstock.ReadTimeout, 4.5),
        ({"total": 2.5}, penstock.TotalTimeout, 2.5),
    ],
)
async def test_deadlines_count_any_event_as_progress(
    limits: dict[str, float], kind: type[Exception], at: float
) -> None:
    events: list[Any] = [Pause(1), named("started"), Pause(1), named("odd"), Pause(1)]
    events += [b": ping\n\n", Stall()]
    async with client_on(sse_reply(events, done=False), max_retries=0) as client:
        stream = client.events("/x", timeouts=Timeouts(**limits))
        with pytest.raises(kind):
            async for _ in stream:
                pass
        assert anyio.current_time() == pytest.approx(at)


async def test_silence_at_its_end_is_no_end() -> None:
    # An event of any endpoint has no finish_reason: the grace of completions is not for it.
    async with client_on(sse_reply([*WORDS, Stall()], done=False)) as client:
        stream = client.events("/x", done=DONE, timeouts=Timeouts(read=5, trailing=1))
        with pytest.raises(penstock.ReadTimeout):
            async for _ in stream:
                pass


async def test_an_error_inside() -> None:
    for event in (
        named("error", message=f"no: {KEY}", code="c"),
        sse_event({"error": {"message": f"no: {KEY}", "code": "c"}}),
        sse_event({"type": "error", "message": f"no: {KEY}", "code": "c"}),
    ):
        network = MemoryNetwork(
            sse_reply([*WORDS, event, STOP], headers={"x-request-id": "r1"}, done=False)
        )
        async with client_on(network) as client:
            stream = client.events("/x", done=DONE)
            assert text_of([await anext(stream), await anext(stream)]) == "Hello"
            with pytest.raises(penstock.StreamError) as caught:
                await anext(stream)
            error = caught.value
            assert (error.code, error.request_id) == ("c", "r1")
            assert KEY not in f"{error} {error.body} {vars(error)}"
            with pytest.raises(penstock.StreamError):
                await anext(stream)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (error_reply(401, f"no: {KEY}"), penstock.AuthenticationError),
        (error_reply(400, f"no: {KEY}"), penstock.BadRequestError),
        (json_reply({"error": {"message": f"no: {KEY}"}}), penstock.StreamError),
        (json_reply({"detail": f"no: {KEY}"}), penstock.APIResponseError),
        (sse_reply([*WORDS], done=False), penstock.IncompleteStreamError),
        (sse_reply([b"data: x" * 10, End()], done=False, chunked="close"), None),
    ],
)
async def test_other_answers(reply: Reply, kind: type[penstock.PenstockError] | None) -> None:
    async with client_on(reply) as client:
        stream = client.events("/x", done=DONE if kind else ())
        if kind is None:
            assert [event async for event in stream] == []
            return
        with pytest.raises(kind) as caught:
            async for _ in stream:
                pass
        assert KEY not in f"{caught.value} {vars(caught.value)}"


async def test_a_closed_client() -> None:
    client = client_on(HANGING)
    stream = client.events("/x")
    await anext(stream)
    await client.aclose()
    assert (await anext(stream)).json() == {"t": "lo"}
    with pytest.raises(penstock.StreamClosedError):
        await anext(stream)
    with pytest.raises(penstock.StreamClosedError):
        await anext(client.events("/x"))


async def test_a_forgotten_one_warns() -> None:
    limiter = Limiter(1)
    async with client_on(HANGING, limiter=limiter) as client:
        streams = [client.events("/x")]
        await anext(streams[0])
        with pytest.warns(ResourceWarning, match="unclosed <EventStream /v1/x flowing>"):
            streams.clear()
        assert limiter.statistics().in_flight == 0


async def test_an_observer_is_told() -> None:
    watcher = Watcher()
    async with client_on(HELLO, observer=watcher) as client:
        async for _ in client.events("/x", done=DONE):
            pass
    assert watcher.names == ["request_started", "response_started", "first_token", "finished"]
    assert watcher.outcomes() == ["completed"]
    assert watcher.events[0][1].path == "/v1/x"


async def test_in_bulk() -> None:
    async with client_on(HELLO) as client:
        stream = client.events("/x", done=DONE)
        with pytest.raises(anyio.WouldBlock):
            stream.receive_nowait()
        assert await stream.fill()
        first = stream.receive_nowait()
        assert json.loads(first.data) == {"t": "Hel"}
        assert [event.event for event in await stream.read_batch()] == ["delta", "stop"]
        assert await stream.read_batch() == []
