"""LlamaIndex: the LLM `OpenAI`, and `FunctionAgent`."""

from __future__ import annotations

import asyncio
from typing import Any

from llama_index.core.agent.workflow import AgentStream, FunctionAgent
from llama_index.llms.openai import OpenAI

from tests.frameworks.clients import async_client, client
from tests.frameworks.drivers.base import Answer, Driver

__all__ = ["Framework"]


class Framework(Driver):
    name = "llama-index"

    def start(self) -> None:
        self.client = async_client(self.base_url, stock=self.stock, **self.options)
        self.blocking = client(self.base_url, stock=self.stock, **self.options)
        self.chat = OpenAI(
            self.model,
            async_openai_client=self.client,
            openai_client=self.blocking,
            max_retries=0,  # its own, on top of the client's
            additional_kwargs={
                "stream_options": {"include_usage": True},
                "extra_body": self.settings,
            },
        )

    def agent(self, *, streaming: bool) -> FunctionAgent:
        return FunctionAgent(tools=[self.tool], llm=self.chat, streaming=streaming)

    async def ask(self, prompt: str) -> Answer:
        if self.tool is not None:
            return Answer(str(await self.agent(streaming=False).run(prompt)))
        answer = await self.chat.acomplete(prompt)
        return Answer(answer.text, _usage(answer.raw))

    async def read(
        self, prompt: str, heard: list[str], *, stop_after: int | None = None
    ) -> Answer | None:
        if self.tool is not None:
            return await self._of_agent(prompt, heard)
        answers = await self.chat.astream_complete(prompt)
        self.kept.append(answers)
        usage = None
        async for answer in answers:
            usage = _usage(answer.raw) or usage
            if answer.delta:
                heard.append(answer.delta)
                if len(heard) == stop_after:
                    await answers.aclose()
                    return None
        return Answer("".join(heard), usage)

    async def _of_agent(self, prompt: str, heard: list[str]) -> Answer:
        run = self.agent(streaming=True).run(prompt)
        try:
            async for event in run.stream_events():
                if isinstance(event, AgentStream) and event.delta:
                    heard.append(event.delta)
            return Answer(str(await run))
        except asyncio.CancelledError:
            # The workflow is a task of its own, and goes on unless it is told.
            await run.cancel_run()  # noqa: ASYNC102, ASYNC120 - cancelled once, natively
            raise

    async def parse(self, prompt: str, kind: type[Any]) -> Any:
        return (await self.chat.as_structured_llm(kind).acomplete(prompt)).raw

    async def aclose(self) -> None:
        await self.client.close()
        self.blocking.close()


def _usage(raw: Any) -> tuple[int, int] | None:
    usage = getattr(raw, "usage", None)
    return usage and (usage.prompt_tokens, usage.completion_tokens)
