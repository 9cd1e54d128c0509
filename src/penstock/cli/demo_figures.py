"""What the demo measures."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from ..types import ChatCompletionChunk, Usage

__all__ = ["Answer", "Figures"]


@dataclass
class Answer:
    """One prompt, its answer so far, and the times that matter on the monotonic clock."""

    index: int
    prompt: str
    text: str = ""
    first_token: float | None = None
    last_token: float | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    error: str | None = None
    ended: bool = False

    def add(self, chunk: ChatCompletionChunk, now: float) -> str:
        """Take in one chunk; the text that it brought."""
        self.usage = chunk.usage or self.usage
        text = ""
        for choice in chunk.choices:
            self.finish_reason = choice.finish_reason or self.finish_reason
            text += choice.delta.content or ""
        if text:
            if self.first_token is None:
                self.first_token = now
            self.last_token = now
            self.text += text
        return text

    @property
    def tokens(self) -> int | None:
        """How many tokens the server says it wrote."""
        return self.usage.completion_tokens if self.usage is not None else None

    @property
    def tokens_per_second(self) -> float | None:
        """The pace after the first token."""
        if not self.tokens or self.first_token is None or self.last_token is None:
            return None
        seconds = self.last_token - self.first_token
        return (self.tokens - 1) / seconds if seconds > 0 else None


@dataclass
class Figures:
    """All answers of one run, and how long it took."""

    model: str
    backend: str
    answers: list[Answer]
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None

    @property
    def seconds(self) -> float:
        """From the first request to the last result."""
        return (time.monotonic() if self.ended is None else self.ended) - self.started
