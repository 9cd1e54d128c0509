"""What the soak's server says whole, worked out from the request's id alone.

Server and client derive it independently, so the client knows whether it was given all of it.
"""

from __future__ import annotations

import random

__all__ = ["pieces_of", "text_of"]

WORDS = (
    "the", "gate", "opens", " ", "\n", "\n\n", "data: ", ": ping", "\u2028", "\x85", "\r", "é",
    "水", "🌊", '"', "\\", "[DONE]", "{", "}", "null", "\t", "event: error", "finish_reason",
    "a" * 200,
)  # fmt: skip
COUNTS = (1, 2, 3, 4, 6, 8, 12, 20, 60)


def pieces_of(request_id: str) -> list[str]:
    """The content deltas of the whole answer; no two requests have the same text."""
    rng = random.Random(request_id)
    words = rng.choices(WORDS, k=rng.choice(COUNTS))
    return [f"<{request_id}>", *words, f"</{request_id}>"]


def text_of(request_id: str) -> str:
    """The whole answer's text."""
    return "".join(pieces_of(request_id))
