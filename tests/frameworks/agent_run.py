"""An agent run by pydantic-ai over penstock's client, with the spans of both.

`python -m tests.frameworks.agent_run docs/pages/how-to/trace.svg` draws them: the picture on the
page "Logging, metrics and tracing". It needs the group frameworks-a.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from penstock.testing import (
    RecordedRequest,
    Reply,
    error_reply,
    serve_in_thread,
    text_reply,
    tool_calls_reply,
)
from tests.tools.timeline import drawing

USAGE = {"prompt_tokens": 42, "completion_tokens": 9, "total_tokens": 51}


class Provider:
    """A server that refuses the first request, has a tool called, and then answers.

    `every`: seconds before each chunk.
    """

    def __init__(self, every: float = 0.0) -> None:
        self.requests = 0
        self._every = every

    def __call__(self, request: RecordedRequest) -> Reply:
        self.requests += 1
        if self.requests == 1:
            return error_reply(429, headers={"retry-after-ms": "150"})
        if self.requests == 2:
            return tool_calls_reply(
                ("get_weather", {"city": "Oslo"}), usage=USAGE, every=self._every
            )
        words = ("It ", "rains ", "in ", "Oslo, ", "at ", "4 ", "degrees.")
        return text_reply(*words, usage=USAGE, every=self._every)


async def spans_of(provider: Provider, *, framework: bool = True) -> list[ReadableSpan]:
    """Run the agent once; return the spans that ended, `framework`: its own ones, too."""
    from pydantic_ai import Agent
    from pydantic_ai.models.instrumented import InstrumentationSettings
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    from penstock.compat.openai import AsyncOpenAI
    from penstock.otel import Observer

    exporter = InMemorySpanExporter()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))

    def get_weather(city: str) -> str:
        """The weather in a city."""
        return "4 degrees and rain"

    settings: Any = False
    if framework:
        settings = InstrumentationSettings(tracer_provider=tracers, include_content=False)
    with serve_in_thread(provider) as server:
        async with AsyncOpenAI(
            base_url=server.base_url, api_key="a-key", observer=Observer(tracers)
        ) as client:
            model = OpenAIChatModel("gpt-5-mini", provider=OpenAIProvider(openai_client=client))
            agent = Agent(model, name="weather", tools=[get_weather])
            agent.instrument = settings
            async with agent.run_stream("How is the weather in Oslo?") as result:
                assert await result.get_output() == "It rains in Oslo, at 4 degrees."
    return list(exporter.get_finished_spans())


if __name__ == "__main__":
    spans = asyncio.run(spans_of(Provider(every=0.06)))
    Path(sys.argv[1]).write_text(drawing(spans), encoding="utf-8")
