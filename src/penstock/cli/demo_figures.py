"""What the demo measures."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._many.results import FailureEvent, SuccessEvent
    from ..observing import StreamStatistics
    from ..types import ChatCompletionChunk, Usage

__all__ = ["Answer", "Figures"]


@dataclass
class Answer:
    """One prompt, its answer so far, and the library's own figures once it has ended."""

    index: int
    prompt: str
    text: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    statistics: StreamStatistics | None = None
    error: str | None = None
    ended: bool = False

    def add(self, chunk: ChatCompletionChunk) -> str:
        """Take in one chunk; the text that it brought."""
        text = "".join(choice.delta.content or "" for choice in chunk.choices)
        self.text += text
        return text

    def end(self, event: SuccessEvent | FailureEvent) -> None:
        """Take in what became of it."""
        self.ended = True
        self.statistics = event.statistics
        completion = event.completion
        if event.error is not None:
            self.error = str(event.error)
            completion = getattr(event.error, "partial", None)
        if completion is not None:
            self.usage = completion.usage
            reasons = [choice.finish_reason for choice in completion.choices]
            self.finish_reason = reasons[0] if reasons else None

    @property
    def first_token(self) -> float | None:
        """Seconds from the beginning of the request to the first token."""
        return None if self.statistics is None else self.statistics.first_token

    @property
    def tokens(self) -> int | None:
        """How many tokens the server says it wrote."""
        return self.usage.completion_tokens if self.usage is not None else None

    @property
    def tokens_per_second(self) -> float | None:
        """The pace after the first token."""
        if not self.tokens or self.statistics is None or self.statistics.gaps.mean is None:
            return None
        seconds = self.statistics.gaps.count * self.statistics.gaps.mean
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
