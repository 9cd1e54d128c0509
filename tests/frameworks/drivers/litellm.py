"""litellm: `acompletion`, with `client=`."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import litellm

from tests.frameworks.clients import async_client
from tests.frameworks.drivers.base import Answer, Driver

__all__ = ["Framework"]


class Framework(Driver):
    name = "litellm"

    def start(self) -> None:
        self.client = async_client(self.base_url, stock=self.stock, **self.options)

    async def _ask(self, prompt: str, **more: Any) -> Any:
        return await litellm.acompletion(
            f"openai/{self.model}",
            messages=[{"role": "user", "content": prompt}],
            client=self.client,
            api_key="a-key",
            extra_body=self.settings or None,
            **more,
        )

    async def ask(self, prompt: str) -> Answer:
        answer = await self._ask(prompt)
        return Answer(answer.choices[0].message.content, _usage(answer))

    async def read(
        self, prompt: str, heard: list[str], *, stop_after: int | None = None
    ) -> Answer | None:
        chunks = await self._ask(prompt, stream=True, stream_options={"include_usage": True})
        self.kept.append(chunks)
        usage = None
        async with aclosing(chunks):
            async for chunk in chunks:
                usage = _usage(chunk) or usage
                if chunk.choices and chunk.choices[0].delta.content:
                    heard.append(chunk.choices[0].delta.content)
                    if len(heard) == stop_after:
                        return None
        return Answer("".join(heard), usage)

    async def parse(self, prompt: str, kind: type[Any]) -> Any:
        answer = await self._ask(prompt, response_format=kind)
        return kind.model_validate_json(answer.choices[0].message.content)

    async def aclose(self) -> None:
        await self.client.close()


def _usage(answer: Any) -> tuple[int, int] | None:
    usage = getattr(answer, "usage", None)
    return usage and (usage.prompt_tokens, usage.completion_tokens)
