"""openai-agents: `Runner.run`, `Runner.run_streamed`, on chat completions."""

from __future__ import annotations

from typing import Any

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)

from tests.frameworks.clients import async_client
from tests.frameworks.drivers.base import Answer, Driver

__all__ = ["Framework"]


class Framework(Driver):
    name = "openai-agents"

    def start(self) -> None:
        set_tracing_disabled(True)
        self.client = async_client(self.base_url, stock=self.stock, **self.options)
        self.chat = OpenAIChatCompletionsModel(self.model, openai_client=self.client)

    def agent(self, **more: Any) -> Agent[Any]:
        tools: list[Any] = [function_tool(self.tool)] if self.tool is not None else []
        settings = ModelSettings(include_usage=True, extra_body=self.settings or None)
        return Agent("agent", model=self.chat, tools=tools, model_settings=settings, **more)

    async def ask(self, prompt: str) -> Answer:
        result = await Runner.run(self.agent(), prompt)
        return Answer(result.final_output, _usage(result))

    async def read(
        self, prompt: str, heard: list[str], *, stop_after: int | None = None
    ) -> Answer | None:
        result = Runner.run_streamed(self.agent(), prompt)
        self.kept.append(result)
        async for event in result.stream_events():
            if event.type != "raw_response_event":
                continue
            if event.data.type == "response.output_text.delta":
                heard.append(event.data.delta)
                if len(heard) == stop_after:
                    # A bare break leaves the task running that the framework started.
                    result.cancel()
                    return None
        return Answer(result.final_output, _usage(result))

    async def parse(self, prompt: str, kind: type[Any]) -> Any:
        return (await Runner.run(self.agent(output_type=kind), prompt)).final_output

    async def aclose(self) -> None:
        await self.client.close()


def _usage(result: Any) -> tuple[int, int]:
    usage = result.context_wrapper.usage
    return usage.input_tokens, usage.output_tokens
