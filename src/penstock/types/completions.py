"""Whole completions."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from .base import Answer, Part, list_of
from .logprobs import ChoiceLogprobs
from .messages import ChatCompletionMessage
from .usage import Usage

__all__ = ["ChatCompletion", "Choice"]


class Choice(Part):
    """One of a completion's answers (several if n > 1)."""

    index: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Number of the answer, from 0."""
    message: ChatCompletionMessage = msgspec.field(default_factory=ChatCompletionMessage)
    """The message."""
    finish_reason: str | None = None
    """stop, length (token limit), tool_calls, content_filter or a server's own; None if cut off."""
    logprobs: ChoiceLogprobs | None = None
    """Log probabilities of the message's tokens; None if not asked for."""

    @property
    def token_ids(self) -> list[int] | None:
        """Ids of the message's tokens (vLLM's `return_token_ids`); None if not asked for."""
        return list_of(self.extra, "token_ids")

    @property
    def stop_reason(self) -> Any:
        """Stop string or token id that ended the choice (vLLM); None if the server says none."""
        return self.extra.get("stop_reason") if self.extra else None


class ChatCompletion(Answer, kw_only=True):
    """A whole completion, received as one or assembled from a stream."""

    id: str | None = None
    """Id of the completion."""
    object: str | None = "chat.completion"
    """Usually chat.completion."""
    created: int | float | None = None
    """Time of creation in seconds since the epoch, by the server's clock."""
    model: str | None = None
    """Model that answered, as the server names it."""
    choices: list[Choice] = []
    """The answers, by index."""
    usage: Usage | None = None
    """Token counts; None if the server did not give them."""
    system_fingerprint: str | None = None
    """The server's configuration, which may explain different answers to one seed."""
    service_tier: str | None = None
    """Tier that served the request."""

    @property
    def text(self) -> str:
        """The text of choice 0; "" if there is none."""
        first = next((choice for choice in self.choices if choice.index == 0), None)
        return "" if first is None else first.message.content or ""

    @property
    def prompt_token_ids(self) -> list[int] | None:
        """Ids of the prompt's tokens (vLLM's `return_token_ids`); None if not asked for."""
        return list_of(self.extra, "prompt_token_ids")
