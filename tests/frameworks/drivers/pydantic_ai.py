"""pydantic-ai: `Agent.run`, `Agent.run_stream`."""

from __future__ import annotations

from typing import Any

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from tests.frameworks.clients import async_client
from tests.frameworks.drivers.base import Answer, Driver

__all__ = ["Framework"]


class Framework(Driver):
    name = "pydantic-ai"
    gives_back = frozenset({"reasoning_content", "extra_content"})

    def start(self) -> None:
        self.client = async_client(self.base_url, stock=self.stock, **self.options)
        provider = OpenAIProvider(openai_client=self.client)
        self.chat = OpenAIChatModel(self.model, provider=provider)

    def agent(self, **more: Any) -> Agent[None, Any]:
        tools = [self.tool] if self.tool is not None else []
        return Agent(self.chat, tools=tools, model_settings=self.settings or None, **more)

    async def ask(self, prompt: str) -> Answer:
        result = await self.agent().run(prompt)
        return Answer(result.output, _usage(result))

    async def read(
        self, prompt: str, heard: list[str], *, stop_after: int | None = None
    ) -> Answer | None:
        async with self.agent().run_stream(prompt) as result:
            self.kept.append(result)
            async for piece in result.stream_text(delta=True, debounce_by=None):
                heard.append(piece)
                if len(heard) == stop_after:
                    return None
        return Answer("".join(heard), _usage(result))

    async def parse(self, prompt: str, kind: type[Any]) -> Any:
        return (await self.agent(output_type=kind).run(prompt)).output

    async def aclose(self) -> None:
        await self.client.close()


def _usage(result: Any) -> tuple[int, int]:
    return result.usage.input_tokens, result.usage.output_tokens
