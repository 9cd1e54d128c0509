"""Log probabilities."""

from __future__ import annotations

from .base import Part

__all__ = ["ChoiceLogprobs", "TokenLogprob", "TopLogprob"]


class TopLogprob(Part):
    """One of the most likely tokens at a position."""

    token: str = ""
    """Text of the token."""
    logprob: float = 0.0
    """Natural logarithm of its probability; -inf for a token that cannot come."""
    bytes: list[int] | None = None
    """UTF-8 bytes of the token, which may be part of a character; None if not given."""


class TokenLogprob(Part):
    """The chosen token of a position, with the most likely alternatives."""

    token: str = ""
    """Text of the token."""
    logprob: float = 0.0
    """Natural logarithm of its probability."""
    bytes: list[int] | None = None
    """UTF-8 bytes of the token, which may be part of a character; None if not given."""
    top_logprobs: list[TopLogprob] = []
    """The most likely tokens at this position, as many as `top_logprobs` asked for."""


class ChoiceLogprobs(Part):
    """Log probabilities of a choice's content and refusal."""

    content: list[TokenLogprob] | None = None
    """One entry for each token of the content; None if there are none."""
    refusal: list[TokenLogprob] | None = None
    """One entry for each token of the refusal; None if there are none."""
