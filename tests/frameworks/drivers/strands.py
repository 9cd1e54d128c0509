"""Strands: `Agent.invoke_async` and `Agent.stream_async` over `OpenAIModel`."""

from __future__ import annotations

from typing import Any

import strands
from strands.models.openai import OpenAIModel

from tests.frameworks.clients import async_client
from tests.frameworks.drivers.base import Answer, Driver

__all__ = ["Framework"]


class Framework(Driver):
    name = "strands"

    def start(self) -> None:
        self.client = async_client(self.base_url, stock=self.stock, **self.options)

    def agent(self, *, stream: bool) -> Any:
        chat = OpenAIModel(
            self.client, model_id=self.model, stream=stream, params={"extra_body": self.settings}
        )
        tools: list[Any] = [strands.tool(self.tool)] if self.tool is not None else []
        # Its own retries, of a 429, would come on top of the client's.
        return strands.Agent(chat, tools=tools, callback_handler=None, retry_strategy=None)

    async def ask(self, prompt: str) -> Answer:
        result = await self.agent(stream=False).invoke_async(prompt)
        return Answer(str(result).rstrip("\n"), _usage(result))

    async def read(
        self, prompt: str, heard: list[str], *, stop_after: int | None = None
    ) -> Answer | None:
        agent = self.agent(stream=True)
        events = agent.stream_async(prompt)
        self.kept.append(events)
        result: Any = None
        async for event in events:
            result = event.get("result", result)
            if event.get("data"):
                heard.append(event["data"])
                if len(heard) == stop_after:
                    agent.cancel()  # it ends at the next event
        if stop_after is not None:
            return None
        return Answer(str(result).rstrip("\n"), _usage(result))

    async def parse(self, prompt: str, kind: type[Any]) -> Any:
        return await self.agent(stream=True).structured_output_async(kind, prompt)

    async def aclose(self) -> None:
        await self.client.close()


def _usage(result: Any) -> tuple[int, int]:
    usage = result.metrics.accumulated_usage
    return usage["inputTokens"], usage["outputTokens"]
