"""Token counts."""

from __future__ import annotations

import msgspec

from .base import Part

__all__ = ["CompletionTokensDetails", "PromptTokensDetails", "Usage"]


class PromptTokensDetails(Part, omit_defaults=True):
    """Breakdown of the prompt's tokens. None where the server does not say."""

    cached_tokens: int | None = None
    """Tokens read from the server's prompt cache."""
    cache_write_tokens: int | None = None
    """Tokens written to the server's prompt cache, which some servers charge for."""
    audio_tokens: int | None = None
    """Tokens of audio input."""


class CompletionTokensDetails(Part, omit_defaults=True):
    """Breakdown of the completion's tokens. None where the server does not say."""

    reasoning_tokens: int | None = None
    """Tokens spent on reasoning; they count as completion tokens."""
    audio_tokens: int | None = None
    """Tokens of audio output."""
    accepted_prediction_tokens: int | None = None
    """Tokens of a predicted output that appeared in the completion."""
    rejected_prediction_tokens: int | None = None
    """Tokens of a predicted output that did not appear; they count as completion tokens."""


class Usage(Part, omit_defaults=True):
    """Token counts of one request, as the server counts them. 0 where it does not say.

    What else it says of the cost stays: `usage["cost"]`, `usage["prompt_cache_hit_tokens"]`.
    """

    # Factories, so that a count of 0 is written although other defaults are left out.
    prompt_tokens: int = msgspec.field(default_factory=int)
    """Tokens of the request: messages, tools, images and so on."""
    completion_tokens: int = msgspec.field(default_factory=int)
    """Tokens generated, over all choices, reasoning included."""
    total_tokens: int = msgspec.field(default_factory=int)
    """Sum of both, as the server gave it."""
    prompt_tokens_details: PromptTokensDetails | None = None
    """Breakdown of `prompt_tokens`; None if not given."""
    completion_tokens_details: CompletionTokensDetails | None = None
    """Breakdown of `completion_tokens`; None if not given."""
