"""Text completions of the legacy endpoint."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from .base import Answer, Part
from .usage import Usage

__all__ = ["TextChoice", "TextCompletion", "TextLogprobs"]


class TextLogprobs(Part, omit_defaults=True):
    """Log probabilities of a text completion, as parallel lists with an entry for each token."""

    tokens: list[str] = []
    """The tokens as text."""
    token_logprobs: list[float | None] = []
    """Natural logarithm of each token's probability; None for the first one of a prompt."""
    top_logprobs: list[dict[str, float] | None] = []
    """The likeliest tokens at each position, with their log probabilities."""
    text_offset: list[int] = []
    """Where each token begins in the text, in characters."""


class TextChoice(Part):
    """One of a text completion's answers, or a piece of one."""

    index: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Position among the answers, from 0."""
    text: str = ""
    """The text, or the next piece of it."""
    finish_reason: str | None = None
    """stop, length (the token limit was hit) or a server's own; None while it goes on."""
    logprobs: TextLogprobs | None = None
    """Log probabilities, where they were asked for."""
    error: Any = None
    """Why this choice failed, where a server says so here."""


class TextCompletion(Answer, kw_only=True):
    """A text completion of the legacy endpoint, or a streamed piece of one: the shape is one."""

    id: str | None = None
    """The server's id of the completion, the same in all pieces."""
    object: str | None = "text_completion"
    """The kind of object, as the server names it."""
    created: int | float | None = None
    """Seconds since the epoch."""
    model: str | None = None
    """The model that answered."""
    choices: list[TextChoice] = []
    """The answers, several when n > 1 or for several prompts."""
    usage: Usage | None = None
    """Token counts, where the server reports them."""
    system_fingerprint: str | None = None
    """The server's configuration, where it names it."""
    error: Any = None
    """What a server reports in place of an answer."""

    @property
    def x_groq(self) -> None:
        """None: Groq's own member is one of chats."""

    @property
    def text(self) -> str:
        """The text of choice 0; "" when nothing came."""
        return next((choice.text for choice in self.choices if choice.index == 0), "")
