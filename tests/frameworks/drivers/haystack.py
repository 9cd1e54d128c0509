"""Haystack: `OpenAIChatGenerator` alone and in an `Agent`; it takes a client after its making."""

from __future__ import annotations

from typing import Any

from haystack.components.agents import Agent
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import create_tool_from_function
from haystack.utils import Secret

from tests.frameworks.clients import async_client
from tests.frameworks.drivers.base import Answer, Driver

__all__ = ["Framework"]


class _Enough(Exception):
    """How a callback leaves the stream: Haystack has no other way."""


class Framework(Driver):
    name = "haystack"

    def start(self) -> None:
        self.client = async_client(self.base_url, stock=self.stock, **self.options)
        settings = {"extra_body": self.settings} if self.settings else {}
        self.chat = OpenAIChatGenerator(
            api_key=Secret.from_token("a-key"), model=self.model, generation_kwargs=settings
        )
        self.chat.async_client = self.client

    async def _run(self, prompt: str, **more: Any) -> Answer:
        messages = [ChatMessage.from_user(prompt)]
        if self.tool is None:
            (message,) = (await self.chat.run_async(messages, **more))["replies"]
        else:
            agent = Agent(chat_generator=self.chat, tools=[create_tool_from_function(self.tool)])
            message = (await agent.run_async(messages=messages, **more))["last_message"]
        usage = message.meta.get("usage")
        counts = usage and (usage["prompt_tokens"], usage["completion_tokens"])
        return Answer(message.text, counts or None)

    async def ask(self, prompt: str) -> Answer:
        return await self._run(prompt)

    async def read(
        self, prompt: str, heard: list[str], *, stop_after: int | None = None
    ) -> Answer | None:
        async def hear(chunk: Any) -> None:
            if chunk.content:
                heard.append(chunk.content)
                if len(heard) == stop_after:
                    raise _Enough

        usage = {"stream_options": {"include_usage": True}}
        try:
            return await self._run(prompt, streaming_callback=hear, generation_kwargs=usage)
        except _Enough:
            return None

    async def parse(self, prompt: str, kind: type[Any]) -> Any:
        answer = await self._run(prompt, generation_kwargs={"response_format": kind})
        return kind.model_validate_json(answer.text)

    async def aclose(self) -> None:
        await self.client.close()
