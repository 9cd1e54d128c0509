"""LangChain: `ChatOpenAI` and `create_agent`."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import AIMessageChunk
from langchain_openai import ChatOpenAI

from tests.frameworks.clients import async_client, client
from tests.frameworks.drivers.base import Answer, Driver

__all__ = ["Framework"]


class Framework(Driver):
    name = "langchain"

    def start(self) -> None:
        self.client = async_client(self.base_url, stock=self.stock, **self.options)
        self.blocking = client(self.base_url, stock=self.stock, **self.options)
        self.chat = ChatOpenAI(
            model=self.model,
            root_async_client=self.client,
            async_client=self.client.chat.completions,
            root_client=self.blocking,
            client=self.blocking.chat.completions,
            use_responses_api=False,
            stream_usage=True,
            extra_body=self.settings or None,
        )

    def agent(self) -> Any:
        return create_agent(self.chat, tools=[self.tool] if self.tool is not None else [])

    async def ask(self, prompt: str) -> Answer:
        state = await self.agent().ainvoke({"messages": [("user", prompt)]})
        message = state["messages"][-1]
        return Answer(message.text, _usage(message))

    async def read(
        self, prompt: str, heard: list[str], *, stop_after: int | None = None
    ) -> Answer | None:
        whole: AIMessageChunk | None = None
        if self.tool is None:
            parts = self.chat.astream(prompt)
        else:
            parts = self._of_agent(prompt)
        self.kept.append(parts)
        async with aclosing(parts):
            async for part in parts:
                whole = part if whole is None else whole + part
                if part.text:
                    heard.append(part.text)
                    if len(heard) == stop_after:
                        return None
        return Answer("".join(heard), _usage(whole))

    async def _of_agent(self, prompt: str) -> Any:  # noqa: ASYNC900 - its user closes it
        asked = {"messages": [("user", prompt)]}
        async for part, _ in self.agent().astream(asked, stream_mode="messages"):
            if isinstance(part, AIMessageChunk):
                yield part

    async def parse(self, prompt: str, kind: type[Any]) -> Any:
        return await self.chat.with_structured_output(kind).ainvoke(prompt)

    async def aclose(self) -> None:
        await self.client.close()
        self.blocking.close()


def _usage(message: Any) -> tuple[int, int] | None:
    usage = message.usage_metadata
    return usage and (usage["input_tokens"], usage["output_tokens"])
