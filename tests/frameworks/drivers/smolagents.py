"""smolagents: `OpenAIModel` and `ToolCallingAgent`. It is blocking, so it runs in a thread."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import anyio
from smolagents import ChatMessage, MessageRole, OpenAIModel, ToolCallingAgent, tool
from smolagents.monitoring import LogLevel

from tests.frameworks.clients import client
from tests.frameworks.drivers.base import Answer, Driver

__all__ = ["Framework"]


class _Model(OpenAIModel):
    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        settings = {"extra_body": driver.settings} if driver.settings else {}
        # Its own retries, of a 429 a minute later, would come on top of the client's.
        super().__init__(driver.model, retry=False, **settings)

    def create_client(self) -> Any:
        return client(self._driver.base_url, stock=self._driver.stock, **self._driver.options)


class Framework(Driver):
    name = "smolagents"
    final_tool = "final_answer"

    def start(self) -> None:
        self.chat = _Model(self)

    async def ask(self, prompt: str) -> Answer:
        if self.tool is not None:
            return await anyio.to_thread.run_sync(self._run_agent, prompt, None)
        answer = await anyio.to_thread.run_sync(self.chat.generate, [_message(prompt)])
        return Answer(str(answer.content), _usage(answer))

    async def read(
        self, prompt: str, heard: list[str], *, stop_after: int | None = None
    ) -> Answer | None:
        if self.tool is not None:
            return await anyio.to_thread.run_sync(self._run_agent, prompt, heard)
        return await anyio.to_thread.run_sync(self._read, prompt, heard, stop_after)

    def _read(self, prompt: str, heard: list[str], stop_after: int | None) -> Answer | None:
        usage = None
        deltas: Any = self.chat.generate_stream([_message(prompt)])
        self.kept.append(deltas)
        with closing(deltas):
            for delta in deltas:
                usage = _usage(delta) or usage
                if delta.content:
                    heard.append(delta.content)
                    if len(heard) == stop_after:
                        return None
        return Answer("".join(heard), usage)

    def _run_agent(self, prompt: str, heard: list[str] | None) -> Answer:
        agent = ToolCallingAgent(
            tools=[tool(self.tool)],
            model=self.chat,
            stream_outputs=heard is not None,
            verbosity_level=LogLevel.OFF,
            max_steps=2,
        )
        return Answer(str(agent.run(prompt)))

    async def aclose(self) -> None:
        await anyio.to_thread.run_sync(self.chat.client.close)


def _message(prompt: str) -> ChatMessage:
    return ChatMessage(MessageRole.USER, content=[{"type": "text", "text": prompt}])


def _usage(message: Any) -> tuple[int, int] | None:
    usage = message.token_usage
    return usage and (usage.input_tokens, usage.output_tokens)
