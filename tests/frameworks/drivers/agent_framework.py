"""agent-framework: `Agent.run` over `OpenAIChatCompletionClient`."""

from __future__ import annotations

from typing import Any

from agent_framework import Agent
from agent_framework.openai import OpenAIChatCompletionClient

from tests.frameworks.clients import async_client
from tests.frameworks.drivers.base import Answer, Driver

__all__ = ["Framework"]


class Framework(Driver):
    name = "agent-framework"

    def start(self) -> None:
        self.client = async_client(self.base_url, stock=self.stock, **self.options)
        self.chat = OpenAIChatCompletionClient(self.model, async_client=self.client)

    def agent(self) -> Any:
        tools = [self.tool] if self.tool is not None else None
        return Agent(
            self.chat,
            tools=tools,
            default_options={"extra_body": self.settings} if self.settings else None,
        )

    async def ask(self, prompt: str) -> Answer:
        answer = await self.agent().run(prompt)
        return Answer(answer.text, _usage(answer))

    async def read(
        self, prompt: str, heard: list[str], *, stop_after: int | None = None
    ) -> Answer | None:
        stream = self.agent().run(prompt, stream=True)
        self.kept.append(stream)
        async with stream:
            async for update in stream:
                if update.text:
                    heard.append(update.text)
                    if len(heard) == stop_after:
                        return None
            answer = await stream.get_final_response()
        return Answer(answer.text, _usage(answer))

    async def parse(self, prompt: str, kind: type[Any]) -> Any:
        return (await self.agent().run(prompt, options={"response_format": kind})).value

    async def aclose(self) -> None:
        await self.client.close()


def _usage(answer: Any) -> tuple[int, int] | None:
    usage = answer.usage_details
    return usage and (usage["input_token_count"], usage["output_token_count"])
