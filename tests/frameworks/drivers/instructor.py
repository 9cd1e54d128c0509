"""instructor: `from_openai`, with models whole and in parts."""

from __future__ import annotations

from typing import Any

import instructor

from tests.frameworks.clients import async_client
from tests.frameworks.drivers.base import Answer, Driver

__all__ = ["Framework"]


class Framework(Driver):
    name = "instructor"

    def start(self) -> None:
        self.client = async_client(self.base_url, stock=self.stock, **self.options)
        self.patched = instructor.from_openai(self.client, mode=instructor.Mode.JSON_SCHEMA)

    def request(self, prompt: str, **more: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": prompt}]
        return {"model": self.model, "messages": messages, "max_retries": 0, **more}

    async def ask(self, prompt: str) -> Answer:
        answer: Any = await self.patched.chat.completions.create(
            **self.request(prompt, response_model=None, extra_body=self.settings)
        )
        usage = answer.usage
        return Answer(
            answer.choices[0].message.content, (usage.prompt_tokens, usage.completion_tokens)
        )

    async def read(
        self, prompt: str, heard: list[str], *, stop_after: int | None = None
    ) -> Answer | None:
        usage = None
        chunks: Any = await self.patched.chat.completions.create(
            **self.request(prompt, response_model=None, stream=True, extra_body=self.settings),
            stream_options={"include_usage": True},
        )
        self.kept.append(chunks)
        async with chunks:
            async for chunk in chunks:
                if chunk.usage is not None:
                    usage = (chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
                if chunk.choices and chunk.choices[0].delta.content:
                    heard.append(chunk.choices[0].delta.content)
                    if len(heard) == stop_after:
                        return None
        return Answer("".join(heard), usage)

    async def parse(self, prompt: str, kind: type[Any]) -> Any:
        return await self.patched.chat.completions.create(
            **self.request(prompt, response_model=kind)
        )

    async def aclose(self) -> None:
        await self.client.close()
