"""A streamed answer from bytes to its end: the same whatever the splits, and never half an
answer as a whole one.

- Chunks, answer, error and the outcome of the end do not depend on the splits.
- Success means that `[DONE]` came or every choice seen had its finish_reason, as told by a
  reader of the standard's text and by the chunks handed out, or that the body is a whole answer
  in JSON; also of a body that was cut off.
- The answer holds exactly the text that the chunks had, and as many choices.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import NamedTuple
from unittest import mock

import msgspec

from penstock._wire import completion, tool_calls, unstreamed
from penstock._wire.accumulate import Accumulator
from penstock._wire.completion import CompletionDecoder
from penstock._wire.token import has_token
from penstock.errors import PenstockError, StreamError
from penstock.types import ChatCompletion, ChatCompletionChunk
from tests.wire.reference_sse import decode_events

from ..compose import event_stream
from ..reader import Reader, ways
from ..same import same
from ..target import Target

SSE = "text/event-stream"
TYPES = (SSE, SSE, "Text/Event-Stream; charset=utf-8", None, "application/json")
BOUNDS = (1 << 24, 1 << 24, 1 << 24, 256)
_NEW_ID = "made here"  # of each call without one: else they are random
_BLANKS = " \t\n\r\x0b\x0c"  # of bytes.strip()


class Outcome(NamedTuple):
    chunks: list[ChatCompletionChunk]
    answer: ChatCompletion
    error: PenstockError | None
    done: bool
    finished_all: bool
    events: int


def check(data: bytes) -> None:
    reader = Reader(data)
    how = reader.byte()
    content_type = TYPES[how >> 1 & 7] if how >> 1 & 7 < len(TYPES) else SSE
    bound = BOUNDS[how >> 4 & 3]
    places = reader.places()
    body = event_stream(reader) if how & 1 else reader.rest()
    with ExitStack() as small:
        small.enter_context(mock.patch.object(tool_calls, "new_call_id", return_value=_NEW_ID))
        if how & 0x40:
            small.enter_context(mock.patch.object(completion, "_HEAD", 64))
            small.enter_context(mock.patch.object(unstreamed, "_SNIFFED", 32))
        whole = read([body], content_type, bound)
        ends_rightly(whole, body)
        adds_up(whole)
        for pieces in ways(body, places):
            alike(read(pieces, content_type, bound), whole)
        if places:  # the same body, cut off
            part = body[: places[0] % (len(body) + 1)]
            ends_rightly(read([part], content_type, bound), part)


def read(pieces: list[bytes], content_type: str | None, bound: int) -> Outcome:
    decoder = CompletionDecoder(content_type, max_event_bytes=bound)
    accumulator = Accumulator()
    chunks: list[ChatCompletionChunk] = []
    for piece in pieces:
        fresh = decoder.feed(piece)
        accumulator.extend(fresh)
        assert decoder.token_seen == any(map(has_token, fresh))
        chunks += fresh
    in_flow = decoder.error
    fresh = decoder.end()
    accumulator.extend(fresh)
    chunks += fresh
    error = decoder.error
    assert in_flow is None or error is in_flow
    answer = accumulator.completion()
    return Outcome(chunks, answer, error, decoder.done, decoder.finished_all, decoder.events)


def alike(one: Outcome, other: Outcome) -> None:
    assert one[3:] == other[3:], (one, other)
    assert type(one.error) is type(other.error)
    assert same(vars(one.error) if one.error else {}, vars(other.error) if other.error else {})
    assert str(one.error) == str(other.error)
    assert same([chunk.raw for chunk in one.chunks], [chunk.raw for chunk in other.chunks])
    assert same(msgspec.to_builtins(one.answer), msgspec.to_builtins(other.answer))


def ends_rightly(outcome: Outcome, body: bytes) -> None:
    choices = [choice for chunk in outcome.chunks for choice in chunk.choices]
    seen = {choice.index for choice in choices}
    finished = {choice.index for choice in choices if choice.finish_reason}
    all_finished = bool(seen) and seen == finished
    # Of a chunk that reports an error as well, nothing counts as finished; JSON just ends.
    if outcome.events and not isinstance(outcome.error, StreamError):
        assert outcome.finished_all is all_finished
    assert outcome.done == (outcome.error is None)
    if outcome.done and not all_finished:
        # The sentinel counts also where no empty line ends it, or begins it.
        lines = [line for _, data in decode_events(body + b"\n\n") for line in data.split("\n")]
        told = any(line.strip(_BLANKS) == "[DONE]" for line in lines)
        assert told or (outcome.events == 0 and len(outcome.chunks) == 1)


def adds_up(outcome: Outcome) -> None:
    answer = outcome.answer
    choices = [choice for chunk in outcome.chunks for choice in chunk.choices]
    assert [choice.index for choice in answer.choices] == sorted({c.index for c in choices})
    for whole in answer.choices:
        deltas = [choice.delta for choice in choices if choice.index == whole.index]
        message = whole.message
        assert (message.content or "") == "".join(delta.content or "" for delta in deltas)
        assert (message.refusal or "") == "".join(delta.refusal or "" for delta in deltas)
        assert (message.reasoning or "") == "".join(delta.reasoning or "" for delta in deltas)
        pieces = [piece for delta in deltas for piece in delta.tool_calls or ()]
        calls = message.tool_calls or []
        assert len(calls) <= len(pieces)
        # A call without an id is given one.
        assert {call.id for call in calls} >= {piece.id for piece in pieces if piece.id}
        assert all(call.id for call in calls)
        reasons = [c.finish_reason for c in choices if c.index == whole.index and c.finish_reason]
        assert whole.finish_reason == (reasons[-1] if reasons else None)
    msgspec.convert(msgspec.to_builtins(answer), ChatCompletion)


def event(payload: bytes) -> bytes:
    return b"data: " + payload + b"\n\n"


TOKEN = event(b'{"choices":[{"index":0,"delta":{"content":"a"}}]}')
FINISH = event(b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}')
DONE = event(b"[DONE]")

TARGET = Target(
    check,
    seeds=[
        b"\x00\x00" + body
        for body in (
            TOKEN + FINISH + event(b'{"choices":[],"usage":{"total_tokens":3}}') + DONE,
            TOKEN + FINISH,
            TOKEN + DONE[:-2],
            TOKEN + b"event: error\n" + event(b'{"message":"no"}'),
            TOKEN + event(b'{"error":{"message":"no","code":500}}') + TOKEN,
            b": ping\r\n\r\n" + TOKEN.replace(b"\n", b"\r\n") + DONE,
            event(b'{"choices":[{"index":2147483648,"delta":{"content":"a"}}]}') + DONE,
            event(b'{"object":"error","message":"no"}'),
            event(b'{"choices":[{"message":{"content":"a"}}]}') + DONE,
            TOKEN + event(b'{"detail":"no"}') + DONE,
            b'{"choices":[{"message":{"content":"a"},"finish_reason":"stop"}]}\n\n' + DONE,
            event(b'{"x_groq":{"error":"no"},"choices":[{"delta":{"content":"a"}}]}'),
            event(b'{"choices":[{"delta":{"content":"\\ud83d"}}]}') + event(b"not JSON"),
            b'{"error":{"message":"no"}}',
            b"<html>",
        )
    ]
    + [b"\x06\x00" + TOKEN + FINISH, b'\x08\x00{"error":"no"}', b"\x30\x00" + TOKEN * 3 + FINISH]
    + [b"\x46\x00" + body for body in (b"\r\n" * 20 + TOKEN, b"\xef\xbb\xbf" + b"x" * 99)],
    words=[
        *(TOKEN, FINISH, DONE, b"data: ", b"\n\n", b"\r\n\r\n", b"event: error\n", b": ping\n\n"),
        *(b'"finish_reason":"stop"', b'"error":"x"', b'"object":"error"', b'"x_groq":{"error":'),
        *(b'"delta":{"reasoning":"r"}', b'"index":1', b'{"choices":[{', b'"usage":{', b"[DONE]"),
        *(b'"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{}"}}]', b"}]}"),
    ],
)
