"""Spans: one for each request, from its first attempt to its end, under the right parent."""

from __future__ import annotations

import gc
import warnings
from typing import Any

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

import penstock
from penstock import Client, fan_out, race
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import completion, error_reply, json_reply, sse_reply, tokens
from penstock.testing.script import Pause, Reset, Stall
from penstock.testing.server import serve_in_thread
from tests.support.chat import KEY, REQUEST, client_on

from .recording import Recording

__all__ = ["anyio_backend"]

USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 2,
    "total_tokens": 9,
    "prompt_tokens_details": {"cached_tokens": 5},
}
HELLO = sse_reply(tokens("Hel", "lo", usage=USAGE), headers={"x-request-id": "req-1"})
WHOLE = json_reply(completion("Hello", usage=USAGE))
HALF = tokens("Hel", finish=None)
ENDLESS = sse_reply([*HALF, Stall()], done=False)
CUT = sse_reply([*HALF, Reset()], done=False)


def events_of(span: Any) -> list[str]:
    return [event.name for event in span.events]


@pytest.mark.anyio
async def test_the_span_of_a_stream() -> None:
    recording = Recording()
    async with client_on(MemoryNetwork(HELLO), observer=recording.observer()) as client:
        await client.complete({**REQUEST, "temperature": 0.5, "stop": "x", "n": 1})
    span = recording.one()
    assert (span.name, span.kind, span.parent) == ("chat test-model", SpanKind.CLIENT, None)
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.system": "openai",
        "gen_ai.request.model": "test-model",
        "gen_ai.request.stream": True,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.stop_sequences": ("x",),
        "gen_ai.response.id": span.attributes["gen_ai.response.id"],  # type: ignore[index]
        "gen_ai.response.model": span.attributes["gen_ai.response.model"],  # type: ignore[index]
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.time_to_first_chunk": 0.0,
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 2,
        "gen_ai.usage.cache_read.input_tokens": 5,
        "penstock.outcome": "completed",
        "penstock.attempts": 1,
        "penstock.request_id": "req-1",
        "server.address": span.attributes["server.address"],  # type: ignore[index]
        "server.port": 80,
    }
    assert events_of(span) == ["penstock.response_started", "penstock.first_token"]


ENDS: dict[str, tuple[Any, str, str | None]] = {
    "completed": (HELLO, "completed", None),
    "refused": (error_reply(402), "failed", "InsufficientCreditsError"),
    "cut": (CUT, "failed", "StreamInterruptedError"),
    "left": (ENDLESS, "abandoned", None),
    "cancelled": (ENDLESS, "cancelled", None),
    "collected": (ENDLESS, "abandoned", None),
    "closed elsewhere": (ENDLESS, "abandoned", None),
}


async def meet(client: Any, end: str) -> None:
    if end == "collected":
        stream = client.chat.completions.stream(**REQUEST)
        await anext(stream)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            del stream
            gc.collect()
        await anyio.sleep(1)
        return
    with anyio.move_on_after(5):
        async with client.chat.completions.stream(**REQUEST) as stream:
            async for _ in stream:
                if end == "left":
                    break
                if end == "closed elsewhere":
                    async with anyio.create_task_group() as group:  # noqa: ASYNC112 - another task must do it
                        group.start_soon(stream.aclose)
                    break


@pytest.mark.anyio
@pytest.mark.parametrize("end", ENDS)
async def test_the_span_ends_with_the_request_however_it_ends(end: str) -> None:
    script, outcome, error = ENDS[end]
    recording = Recording()
    async with client_on(MemoryNetwork(script), observer=recording.observer()) as client:
        if error is None:
            await meet(client, end)
        else:
            with pytest.raises(penstock.PenstockError):
                await meet(client, end)
    span = recording.one()
    assert span.attributes is not None
    assert span.attributes["penstock.outcome"] == outcome
    assert span.attributes.get("error.type") == error
    assert (span.status.status_code is StatusCode.ERROR) == (error is not None)
    assert KEY not in span.to_json()


@pytest.mark.anyio
async def test_what_was_retried_is_in_the_span() -> None:
    recording = Recording()
    network = MemoryNetwork([error_reply(503), HELLO])
    async with client_on(network, observer=recording.observer()) as client:
        await client.complete(REQUEST)
    span = recording.one()
    assert events_of(span)[0] == "penstock.attempt_failed"
    failed = span.events[0].attributes
    assert failed is not None
    assert (
        failed["error.type"],
        failed["http.response.status_code"],
        failed["penstock.attempt"],
    ) == (
        "EndpointNotReadyError",
        503,
        1,
    )
    assert 0 < failed["penstock.retry_in"] <= 0.5  # type: ignore[operator]


@pytest.mark.anyio
async def test_the_parent_is_the_span_in_which_the_request_was_made() -> None:
    recording = Recording()
    tracer = recording.tracers.get_tracer("program")
    async with client_on(MemoryNetwork(HELLO), observer=recording.observer()) as client:
        with tracer.start_as_current_span("maker") as maker:
            stream = client.chat.completions.stream(**REQUEST)
        with tracer.start_as_current_span("reader"):
            async with stream, anyio.create_task_group() as group:  # noqa: ASYNC112 - another task must do it
                group.start_soon(stream.collect)
    chat = next(span for span in recording.spans if span.name.startswith("chat"))
    assert chat.parent is not None
    assert chat.parent.span_id == maker.get_span_context().span_id


def test_so_it_is_in_the_blocking_client() -> None:
    recording = Recording()
    tracer = recording.tracers.get_tracer("program")
    with (
        serve_in_thread(HELLO) as server,
        Client(server.base_url, api_key=KEY, observer=recording.observer()) as client,
        tracer.start_as_current_span("maker") as maker,
    ):
        client.complete(REQUEST)
        client.chat.completions.create(**REQUEST)
    chats = [span for span in recording.spans if span.name.startswith("chat")]
    assert len(chats) == 2
    for span in chats:
        assert span.parent is not None
        assert span.parent.span_id == maker.get_span_context().span_id


@pytest.mark.anyio
async def test_fan_outs_and_races_have_spans_of_their_own() -> None:
    recording = Recording()
    tracer = recording.tracers.get_tracer("program")
    network = MemoryNetwork([HELLO, sse_reply([Stall()], done=False), HELLO])
    async with client_on(network, observer=recording.observer()) as client:
        with tracer.start_as_current_span("program"):
            async with fan_out(client.complete, [REQUEST]) as results:
                assert [result.unwrap().text async for result in results] == ["Hello"]
            async with race(client, [REQUEST, REQUEST]) as stream:
                await stream.collect()
    spans = {span.context.span_id: span for span in recording.spans if span.context}

    def path(span: Any) -> list[str]:
        above = [] if span.parent is None else path(spans[span.parent.span_id])
        return [*above, span.name]

    paths = sorted(path(span) for span in recording.spans)
    assert paths == [
        ["program"],
        ["program", "fan_out"],
        ["program", "fan_out", "chat test-model"],
        ["program", "race"],
        ["program", "race", "chat test-model"],
        ["program", "race", "chat test-model"],
    ]
    raced = [span for span in recording.spans if span.parent and path(span)[1] == "race"]
    lost = [bool((span.attributes or {}).get("penstock.lost_race")) for span in raced]
    assert sorted(lost) == [False, False, True]
    group = next(span for span in recording.spans if span.name == "race")
    assert (group.attributes or {})["penstock.requests"] == 2
    assert (group.attributes or {})["penstock.outcome"] == "completed"


@pytest.mark.anyio
async def test_a_span_of_the_program_inside_of_a_fan_out_is_nearer() -> None:
    recording = Recording()
    tracer = recording.tracers.get_tracer("program")
    async with client_on(MemoryNetwork(HELLO), observer=recording.observer()) as client:

        async def step(request: Any) -> None:
            with tracer.start_as_current_span("step"):
                await client.complete(request)

        async with fan_out(step, [REQUEST]) as results:
            async for result in results:
                result.unwrap()
    chat = next(span for span in recording.spans if span.name.startswith("chat"))
    step_span = next(span for span in recording.spans if span.name == "step")
    assert chat.parent is not None
    assert step_span.context is not None
    assert chat.parent.span_id == step_span.context.span_id


@pytest.mark.anyio
@pytest.mark.parametrize("by", ["chat", "invoke_agent"])
async def test_one_inference_has_one_span(by: str) -> None:
    recording = Recording()
    tracer = recording.tracers.get_tracer("framework")
    async with client_on(MemoryNetwork(HELLO), observer=recording.observer()) as client:
        with tracer.start_as_current_span(f"{by} m", attributes={"gen_ai.operation.name": by}):
            await client.complete(REQUEST)
    names = [span.name for span in recording.spans]
    assert names == (["chat m"] if by == "chat" else ["chat test-model", "invoke_agent m"])
    assert "penstock.first_token" in events_of(recording.spans[0])
    assert bool(recording.points("gen_ai.client.operation.duration")) == (by != "chat")
    assert [point.value for point in recording.points("penstock.client.active_requests")] == [0]


@pytest.mark.anyio
@pytest.mark.parametrize("propagate", [True, False])
async def test_the_trace_goes_on_at_the_server_where_asked(propagate: bool) -> None:
    recording = Recording()
    network = MemoryNetwork([error_reply(500), HELLO])
    observer = recording.observer(propagate=propagate)
    async with client_on(network, observer=observer) as client:
        await client.complete(REQUEST)
    context = recording.one().context
    assert context is not None
    sent = [request.headers.get("traceparent") for request in network.requests]
    if propagate:
        assert len(set(sent)) == 1
        assert trace.format_span_id(context.span_id) in (sent[0] or "")
    else:
        assert sent == [None, None]


@pytest.mark.anyio
@pytest.mark.parametrize("content", [True, False])
async def test_content_is_there_only_where_asked(content: bool) -> None:
    recording = Recording()
    network = MemoryNetwork([HELLO, error_reply(400, "Hello is not allowed")])
    async with client_on(network, observer=recording.observer(content=content)) as client:
        await client.complete(REQUEST)
        with pytest.raises(penstock.BadRequestError):
            await client.complete(REQUEST)
    for span in recording.spans:
        text = span.to_json()
        assert ("Hello" in text) == content
        assert ("gen_ai.input.messages" in text) == content
        assert KEY not in text


@pytest.mark.anyio
async def test_other_endpoints_have_a_plain_span() -> None:
    recording = Recording()
    async with client_on(
        MemoryNetwork(json_reply({"x": 1})), observer=recording.observer()
    ) as client:
        await client.request("GET", "/files?secret=1")
        await client.request("POST", "/embeddings", json={"model": "e", "input": "text"})
    plain, embeddings = recording.spans
    assert plain.name == "GET /v1/files"
    assert (plain.attributes or {})["url.path"] == "/v1/files"
    assert "gen_ai.operation.name" not in (plain.attributes or {})
    assert embeddings.name == "embeddings e"
    assert (embeddings.attributes or {})["gen_ai.request.model"] == "e"
    assert len(recording.points("gen_ai.client.operation.duration")) == 1


@pytest.mark.anyio
async def test_a_span_lasts_as_long_as_its_stream_is_open() -> None:
    recording = Recording()
    slow = sse_reply([Pause(1), *tokens("Hello")])
    async with client_on(MemoryNetwork(slow), observer=recording.observer()) as client:
        async with client.chat.completions.stream(**REQUEST) as stream:
            await anext(stream)
            assert recording.spans == []
        assert len(recording.spans) == 1


@pytest.mark.anyio
async def test_a_framework_may_end_its_span_before_the_stream(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recording = Recording()
    tracer = recording.tracers.get_tracer("framework")
    async with client_on(MemoryNetwork(HELLO), observer=recording.observer()) as client:
        with tracer.start_as_current_span("chat m", attributes={"gen_ai.operation.name": "chat"}):
            stream = client.chat.completions.stream(**REQUEST)
            await stream.__aenter__()
        await stream.collect()
        await stream.aclose()
    assert [span.name for span in recording.spans] == ["chat m"]
    assert caplog.records == []
