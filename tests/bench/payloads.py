"""What the bench's server says, and what a client must have received when it is done.

A request's model names the answer, so every client asks in the same way:

    burst:N[:CHARACTERS]  N events as fast as the socket takes them
    paced:STREAMS:RATE:N  N events, RATE a second; nobody gets any before STREAMS have asked
    timed:STREAMS:RATE:N  the same, each stream at moments of its own; an event's content is its
                          number and the server's monotonic clock in nanoseconds when it was sent
    whole:N               one JSON completion of N words
    endless               one event, then silence
"""

from __future__ import annotations

import json
from functools import cache, lru_cache

__all__ = [
    "END",
    "EVENT_STREAM_HEAD",
    "MESSAGES",
    "MODELS",
    "json_response",
    "length",
    "models",
    "rendered",
    "segments",
    "stamped",
    "text",
    "whole",
]

MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "Write as much as you can about penstocks."},
]

EVENT_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\n"
    b"date: Mon, 17 Nov 2025 10:00:00 GMT\r\n"
    b"server: bench\r\n"
    b"content-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\n"
    b"x-request-id: req_4b1f0c7f5a3f4f1c9d0e\r\n"
    b"transfer-encoding: chunked\r\n"
    b"\r\n"
)
END = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"

_WORDS = (
    " The water",
    " falls",
    " from",
    " the reservoir",
    " through",
    " a gate",
    ",",
    " and",
    " the turbine",
    " tur\u00adns",
    ".",
    ' "So',
    ' it goes"',
    "\n",
)
_TEXT = "".join(_WORDS)
MODELS = [f"bench-{number}-large" for number in range(40)]
_HEAD = {
    "id": "chatcmpl-AQ8Zp0Xo2dVrxZJvQmT1k3YbC7eLh",
    "object": "chat.completion.chunk",
    "created": 1731838800,
    "model": "bench-1-large",
    "system_fingerprint": "fp_9f2bfdaa89",
}
_SLAB = 64 * 1024  # bytes the server writes at once
_few = lru_cache(maxsize=8)  # some answers are large


def word(number: int, characters: int = 0) -> str:
    """The content of one event."""
    if not characters:
        return _WORDS[number % len(_WORDS)]
    start = number % len(_TEXT)
    return (_TEXT * (2 + characters // len(_TEXT)))[start : start + characters]


@_few
def text(events: int, characters: int = 0) -> str:
    """The whole text of an answer."""
    return "".join(word(number, characters) for number in range(events))


@_few
def segments(events: int, characters: int = 0) -> list[bytes]:
    """An answer's events, each a chunk of its own, without the end of the body."""
    return [_segment(number, events, word(number, characters)) for number in range(events)]


@_few
def stamped(events: int) -> list[tuple[bytes, bytes]]:
    """What comes before and after the nineteen digits of the time in each event."""
    digits = "0" * 19
    pairs: list[tuple[bytes, bytes]] = []
    for number in range(events):
        segment = _segment(number, events, f"{number} {digits}")
        before, _, after = segment.partition(digits.encode())
        pairs.append((before, after))
    return pairs


def _segment(number: int, events: int, content: str) -> bytes:
    delta = {"content": content}
    if number == 0:
        delta = {"role": "assistant", **delta}
    choice = {
        "index": 0,
        "delta": delta,
        "logprobs": None,
        "finish_reason": "stop" if number == events - 1 else None,
    }
    event = json.dumps({**_HEAD, "choices": [choice]}, separators=(",", ":")).encode()
    data = b"data: " + event + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(data), data)


@_few
def rendered(events: int, characters: int = 0) -> list[bytes]:
    """A whole body in slabs; each event is a chunk of its own."""
    body = b"".join(segments(events, characters)) + END
    return [body[start : start + _SLAB] for start in range(0, len(body), _SLAB)]


def length(events: int, characters: int = 0) -> int:
    """Bytes of a whole body."""
    return sum(map(len, rendered(events, characters)))


@_few
def whole(events: int) -> bytes:
    """The same text as one JSON completion."""
    message = {"role": "assistant", "content": text(events), "refusal": None}
    completion = {
        **_HEAD,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 21, "completion_tokens": events, "total_tokens": 21 + events},
    }
    return json_response(json.dumps(completion, separators=(",", ":")).encode())


@cache
def models() -> bytes:
    """The answer that lists all models."""
    listed = [
        {"id": name, "object": "model", "created": 1731838800, "owned_by": "bench"}
        for name in MODELS
    ]
    body = json.dumps({"object": "list", "data": listed}, separators=(",", ":"))
    return json_response(body.encode())


def json_response(body: bytes) -> bytes:
    """A success with this JSON body."""
    return (
        b"HTTP/1.1 200 OK\r\n"
        b"date: Mon, 17 Nov 2025 10:00:00 GMT\r\n"
        b"content-type: application/json\r\n"
        b"x-request-id: req_4b1f0c7f5a3f4f1c9d0e\r\n"
        b"content-length: %d\r\n\r\n%s" % (len(body), body)
    )
