"""The events of a streamed completion."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from .base import Part, Payload, list_of
from .logprobs import ChoiceLogprobs
from .messages import ChoiceDelta
from .usage import Usage

__all__ = ["ChatCompletionChunk", "ChunkChoice", "GroqExtras"]


class ChunkChoice(Part, gc=False):
    """One choice's part of a chunk."""

    # A negative index goes to the tolerant decoder, which makes it 0.
    index: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Which choice this adds to; 0 unless n > 1."""
    delta: ChoiceDelta = msgspec.field(default_factory=ChoiceDelta)
    """What it adds to the message."""
    finish_reason: str | None = None
    """stop, length, tool_calls, content_filter or a server's own; None until the choice ends."""
    logprobs: ChoiceLogprobs | None = None
    """Log probabilities of the tokens in `delta`; None if not asked for."""
    usage: Usage | None = None
    """Token counts, where a server puts them here (Moonshot does) and not on the chunk."""
    error: Any = None
    """Why this choice failed, where a server says so here (OpenRouter does)."""
    token_ids: list[int] | None = None
    """Ids of the tokens in `delta` (vLLM's `return_token_ids`); None if not asked for."""

    @property
    def stop_reason(self) -> Any:
        """Stop string or token id that ended the choice (vLLM); None if the server says none."""
        return self.extra.get("stop_reason") if self.extra else None


class GroqExtras(Part, gc=False, omit_defaults=True):
    """Groq's own member, which carries usage that other servers put on the chunk."""

    id: str | None = None
    """Groq's id of the request."""
    usage: Usage | None = None
    """Token counts; usually only in the last chunk."""
    error: Any = None
    """The failure that ended the stream, as parsed JSON; None if there is none."""


class ChatCompletionChunk(Payload, kw_only=True, gc=False):
    """One event of a streamed completion."""

    # In the order in which servers send them: the decoder looks for each member behind the
    # last one first.
    id: str | None = None
    """Id of the completion, the same in each of its chunks."""
    object: str | None = None
    """Usually chat.completion.chunk."""
    created: int | float | None = None
    """Time of creation in seconds since the epoch, by the server's clock."""
    model: str | None = None
    """Model that answers, as the server names it."""
    service_tier: str | None = None
    """Tier that served the request."""
    system_fingerprint: str | None = None
    """The server's configuration, which may explain different answers to one seed."""
    choices: list[ChunkChoice] = []
    """What is new, by choice; empty in a chunk that only carries usage."""
    usage: Usage | None = None
    """Token counts; usually only in the last chunk, and only if `stream_options` asks for them."""
    obfuscation: Any = None
    """Random padding that hides the length of the text from eavesdroppers; not part of it."""
    x_groq: GroqExtras | None = None
    """Groq's own member."""
    error: Any = None
    """The failure that ended the stream, as parsed JSON; None if there is none."""

    @property
    def prompt_token_ids(self) -> list[int] | None:
        """Ids of the prompt's tokens (vLLM's `return_token_ids`); None if they are not here."""
        return list_of(self.extra, "prompt_token_ids")
