"""Instrumentations of the SDK see each call of penstock's client, and see it once."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from penstock.testing import by_stream, no_leaks, text_reply
from tests.frameworks.agent_run import Provider, spans_of
from tests.frameworks.clients import async_client
from tests.frameworks.conftest import Serve

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
SCRIPT = by_stream(text_reply("blue.", usage=USAGE), text_reply("blue.", usage=USAGE, stream=False))
REQUEST: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "Why is the sky blue?"}],
}


async def ask(client: Any) -> None:
    assert (await client.chat.completions.create(**REQUEST)).choices[0].message.content == "blue."


async def read(client: Any) -> None:
    options = {"include_usage": True}
    chunks = await client.chat.completions.create(**REQUEST, stream=True, stream_options=options)
    text = ""
    async for chunk in chunks:
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
    assert text == "blue."


@contextmanager
def _opentelemetry(instrumentor: Any) -> Iterator[Callable[[Any], list[str]]]:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor.instrument(tracer_provider=provider)
    try:
        yield lambda client: [span.name for span in exporter.get_finished_spans()]
    finally:
        instrumentor.uninstrument()


@contextmanager
def opentelemetry() -> Iterator[Callable[[Any], list[str]]]:
    """The one of OpenTelemetry itself."""
    from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor

    with _opentelemetry(OpenAIInstrumentor()) as spans:
        yield spans


@contextmanager
def openinference() -> Iterator[Callable[[Any], list[str]]]:
    """The one of Arize."""
    from openinference.instrumentation.openai import OpenAIInstrumentor

    with _opentelemetry(OpenAIInstrumentor()) as spans:
        yield spans


@contextmanager
def logfire() -> Iterator[Callable[[Any], list[str]]]:
    """Pydantic's; it instruments the classes, when it is given no client."""
    import logfire
    from logfire.testing import TestExporter
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    exporter = TestExporter()
    logfire.configure(
        send_to_logfire=False,
        console=False,
        metrics=False,
        additional_span_processors=[SimpleSpanProcessor(exporter)],
    )
    with logfire.instrument_openai():
        yield lambda client: [
            span["name"]
            for span in exporter.exported_spans_as_dict()
            if span["attributes"].get("logfire.span_type") != "pending_span"
        ]


@pytest.mark.parametrize("use", [ask, read])
@pytest.mark.parametrize("instrumentation", [opentelemetry, openinference, logfire])
def test_a_call_is_one_span(
    serve: Serve, instrumentation: Any, use: Callable[[Any], Awaitable[None]]
) -> None:
    server = serve(SCRIPT)

    async def main() -> list[str]:
        with instrumentation() as spans:
            async with async_client(server.base_url) as client:
                await use(client)
                return list(spans(client))

    names = asyncio.run(main())
    # A stream is a second line in logfire's view, once it has ended.
    expected = 2 if instrumentation is logfire and use is read else 1
    assert len(names) == expected, names
    assert len(server.requests) == 1


@pytest.mark.parametrize("use", [ask, read])
def test_langsmith_sees_a_call_once(serve: Serve, use: Callable[[Any], Awaitable[None]]) -> None:
    from langsmith import Client, tracing_context
    from langsmith.wrappers import wrap_openai

    server = serve(SCRIPT)
    runs: list[dict[str, Any]] = []

    class Here(Client):
        """Sends nothing anywhere."""

        def create_run(self, name: str, inputs: Any, run_type: Any, **more: Any) -> None:
            runs.append({"name": name, "type": run_type})

        def update_run(self, run_id: Any, **more: Any) -> None:
            runs[-1] |= more

    async def main() -> None:
        here = Here(api_url="http://127.0.0.1:9", api_key="none", auto_batch_tracing=False)
        with tracing_context(enabled=True, client=here):
            async with async_client(server.base_url) as client:
                await use(wrap_openai(client))

    asyncio.run(main())
    (seen,) = runs
    assert seen["type"] == "llm"
    assert "blue." in str(seen["outputs"])
    assert len(server.requests) == 1


@pytest.mark.parametrize("instrumented", [True, False])
def test_an_agent_run_has_one_span_for_each_call(instrumented: bool) -> None:
    """Where pydantic-ai has a span for a call, penstock's observer adds what it knows to it."""
    provider = Provider()
    with no_leaks():
        spans = asyncio.run(spans_of(provider, framework=instrumented))
        gc.collect()
    assert provider.requests == 3  # one was refused, and sent again
    chats = [span for span in spans if span.name == "chat gpt-5-mini"]
    assert [[event.name for event in span.events] for span in chats] == [
        ["penstock.attempt_failed", "penstock.response_started", "penstock.first_token"],
        ["penstock.response_started", "penstock.first_token"],
    ]
    if instrumented:
        run = next(span for span in spans if span.name == "invoke_agent weather")
        assert {span.parent.span_id for span in spans if span.parent} == {run.context.span_id}
        assert len(spans) == 4
    else:
        assert len(spans) == 2
