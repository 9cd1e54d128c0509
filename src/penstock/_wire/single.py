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
_BEGIN = b"\r\ndata: "
_END = b"\n\n\r\n"
_LF, _CR = b"\n\r"
_FRAME = len(b"data: \n\n")


def single_token(data: bytes) -> ChatCompletionChunk | None:
    """Return the chunk of a read that is nothing but one token of choice 0; None for others.

    Only for a body whose decoders are at rest: see `CompletionDecoder.at_rest`.
    """
    size, _, rest = data.partition(_BEGIN)
    event = rest[:-4]
    # No method with two arguments, which costs more than a slice, and no search for bytes, which
    # raises an error inside before it looks (5 % of a live token).
    if (
        known.sizes.get(_CRLF + size) != len(event) + _FRAME
        or rest[-4:] != _END
        # No line end but those of the event, and of the chunk.
        or _LF in event
        or _CR in event
        or event[:1] != b"{"
    ):
        return None
    try:
        chunk = chunk_decoder()(event)
        [choice] = chunk.choices
    except REFUSED:  # of which one is a ValueError
        return None
    if (
        choice.index
        or choice.finish_reason
        or choice.error
        or chunk.error
        or chunk.object == "error"
        or chunk.x_groq is not None
        or not (choice.delta.content or has_token(chunk))
    ):
        return None
    chunk.raw = event
    return chunk
