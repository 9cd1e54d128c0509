"""What the clients written by hand share: the request, and a minimal split of events.

Minimal means: right for the bench's server, and nothing more. No comments, no CRLF, no errors
inside the stream, no deadlines but the HTTP library's, nothing accumulated but the text.
"""

from __future__ import annotations

import msgspec

from penstock.types import ChatCompletion, ChatCompletionChunk, ModelList

from ..payloads import MESSAGES

__all__ = ["DONE", "Events", "body", "decode_chunk", "decode_completion", "decode_models"]

DONE = b"[DONE]"

decode_chunk = msgspec.json.Decoder(ChatCompletionChunk).decode
decode_completion = msgspec.json.Decoder(ChatCompletion).decode
decode_models = msgspec.json.Decoder(ModelList).decode


def body(model: str, *, stream: bool) -> bytes:
    """The request."""
    return msgspec.json.encode({"model": model, "messages": MESSAGES, "stream": stream})


class Events:
    """Splits a body at empty lines, in time that is linear in its length."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The data of the events that this completes."""
        if self._rest:
            searched = len(self._rest) - 1
            self._rest += data
            if self._rest.find(b"\n\n", searched) < 0:
                return []
            data = bytes(self._rest)
        blocks = data.split(b"\n\n")
        self._rest = bytearray(blocks.pop())
        return [block[6:] for block in blocks if block.startswith(b"data: ")]
