"""The usual read of a live stream, all at once: one chunk of the body that holds one token.

    5a CRLF  data: {"choices":[...]} LF LF  CRLF

Elsewhere such a read passes the transfer coding, the event stream, the decoder of chunks and the
rules of an answer, one after the other. Here it is recognised as a whole. For any other read
the result is None, and the general way takes it. Where this returns a chunk, the general way would
return the same chunk and be in the same state afterwards (tests/wire/test_single.py).
"""

from __future__ import annotations

from ..types import ChatCompletionChunk
from .chunked import known
from .decode import REFUSED, chunk_decoder
from .token import has_token

__all__ = ["LARGEST", "single_token"]

LARGEST = 4096
"""Bytes; above every size in `known.sizes`, which have three hexadecimal digits at most."""

_CRLF = b"\r\n"


def single_token(data: bytes) -> ChatCompletionChunk | None:
    """Return the chunk of a read that is nothing but one token of choice 0; None for others.

    Only for a body whose decoders are at rest: see `CompletionDecoder.at_rest`.
    """
    begin = data.find(_CRLF) + 2
    size = known.sizes.get(_CRLF + data[: begin - 2])
    end = len(data) - 4
    if (
        size is None
        or begin + size != end + 2
        or not data.startswith(b"data: {", begin)
        # No line end but those of the event, and of the chunk.
        or data.find(b"\n", begin) != end
        or data.find(b"\r", begin) != end + 2
        or not data.endswith(b"\n\n\r\n")
    ):
        return None
    event = data[begin + 6 : end]
    try:
        chunk = chunk_decoder()(event)
    except REFUSED:
        return None
    choices = chunk.choices
    if len(choices) != 1 or chunk.error or chunk.object == "error" or chunk.x_groq is not None:
        return None
    choice = choices[0]
    if choice.index or choice.finish_reason or choice.error:
        return None
    if not (choice.delta.content or has_token(chunk)):
        return None
    chunk.raw = event
    return chunk
