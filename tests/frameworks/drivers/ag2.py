"""AG2: `Agent.ask` and `Agent.run`; it makes its own client, over an httpx client of ours."""

from __future__ import annotations

import asyncio
from typing import Any

from ag2 import Agent
from ag2.config import OpenAIConfig
from ag2.events import ModelMessageChunk

from tests.frameworks.clients import async_http_client
from tests.frameworks.drivers.base import Answer, Driver

__all__ = ["Framework"]


class Framework(Driver):
    name = "ag2"
    own_client = True

    def start(self) -> None:
        self.client = async_http_client(stock=self.stock)

    def agent(self, *, streaming: bool = False, **more: Any) -> Agent[Any]:
        config = OpenAIConfig(
            self.model,
            api_key="a-key",
            base_url=self.base_url,
            streaming=streaming,
            http_client=self.client,
            extra_body=self.settings or None,
        )
        tools = [self.tool] if self.tool is not None else []
        return Agent("agent", config=config, tools=tools, **more)

    async def ask(self, prompt: str) -> Answer:
        reply = await self.agent().ask(prompt)
        return Answer(await reply.content() or "", _usage(reply))

    async def read(
        self, prompt: str, heard: list[str], *, stop_after: int | None = None
    ) -> Answer | None:
        enough = asyncio.Event()

        def hear(event: ModelMessageChunk) -> None:
            heard.append(event.content)
            if len(heard) == stop_after:
                enough.set()

        async with self.agent(streaming=True).run(prompt) as run:
            self.kept.append(run)
            run.stream.where(ModelMessageChunk).subscribe(hear)
            if stop_after is not None:
                run.start()
                await enough.wait()
                return None
            reply = await run.result()
        return Answer(await reply.content() or "", _usage(reply))

    async def parse(self, prompt: str, kind: type[Any]) -> Any:
        return await (await self.agent(response_schema=kind).ask(prompt)).content()

    async def aclose(self) -> None:
        await self.client.aclose()


def _usage(reply: Any) -> tuple[int, int] | None:
    usage = reply.response.usage
    return usage and (usage.prompt_tokens, usage.completion_tokens)
