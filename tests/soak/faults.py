"""What befalls one attempt of a request: chosen by a seed, the request's id and the attempt.

A `Plan` knows where the body begins and from which byte on the answer may count as complete, so
that the server can say afterwards what the client was right to believe.
"""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from penstock.testing.replies import LAST_CHUNK, chunk, completion, head, sse_event, tokens
from penstock.testing.script import End, Pause, Repeat, Reset, Send, Stall, Step

from .answers import pieces_of, text_of

__all__ = ["Plan", "plan"]

NEVER = 1 << 60
LASTS: list[Step] = [Reset(), End(), Stall()]


@dataclass(frozen=True)
class Plan:
    """The steps of one reply, and what they amount to."""

    kind: str
    """What goes wrong, "good" if nothing does."""
    steps: tuple[Step, ...]
    status: int = 200
    body_at: int = 0
    """Bytes before the body; `NEVER` if there is no body whose beginning forbids another try."""
    complete_at: int = NEVER
    """From this byte on, a client may take the answer for whole."""


@dataclass(frozen=True)
class _Answer:
    """A whole response as segments, with a pause before each but the first."""

    request_id: str
    segments: list[bytes]
    pause: float
    body_at: int
    complete_at: int
    complete_if_ended_at: int
    """The same where the connection is ended politely behind it."""
    ends: bool
    """The connection's end is the end of the body."""

    @property
    def data(self) -> bytes:
        return b"".join(self.segments)

    def steps(self, until: int = NEVER) -> list[Step]:
        """The steps that send the first `until` bytes."""
        steps: list[Step] = []
        sent = 0
        for segment in self.segments:
            data = segment[: max(0, until - sent)]
            sent += len(segment)
            if data:
                if self.pause and steps:
                    steps.append(Pause(self.pause))
                steps.append(Send(data))
        return steps


def plan(seed: int, request_id: str, attempt: int, *, streaming: bool) -> Plan:
    """Choose what happens; the same arguments give the same plan."""
    rng = random.Random(f"{seed}/{request_id}/{attempt}")
    kinds = STREAMED if streaming else UNSTREAMED
    kind = rng.choices(list(kinds), [weight for weight, _ in kinds.values()])[0]
    answer = _streamed(rng, request_id) if streaming else _unstreamed(rng, request_id)
    return kinds[kind][1](rng, answer, kind)


# --- whole answers ---


def _streamed(rng: random.Random, request_id: str, extra: bytes = b"") -> _Answer:
    style = rng.choice(["plain", "plain", "segments", "drip", "pings", "crlf", "gzip", "undone"])
    framing = (
        "chunked" if style == "gzip" else rng.choice(["chunked", "chunked", "length", "close"])
    )
    newline = "\r\n" if style == "crlf" else "\n"
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    objects = tokens(
        *pieces_of(request_id), id=request_id, usage=usage if rng.random() < 0.5 else None
    )
    finish_at = next(
        at for at, o in enumerate(objects) if o["choices"] and o["choices"][0]["finish_reason"]
    )
    events = [sse_event(o, newline) for o in objects]
    if style == "pings":
        events = [b": ping\n\n" * rng.randrange(3) + event for event in events]
    if extra:
        events.insert(rng.randrange(finish_at + 1), extra)
        finish_at += 1
    done_at = len(events)
    if style != "undone":
        events.append(sse_event("[DONE]", newline))
    headers = [("content-type", "text/event-stream"), ("x-request-id", request_id)]
    bodies = _gzipped(events) if style == "gzip" else events
    if style == "gzip":
        headers.append(("content-encoding", "gzip"))
    if framing == "chunked":
        headers.append(("transfer-encoding", "chunked"))
        segments = [*map(chunk, bodies), LAST_CHUNK]
    elif framing == "length":
        headers.append(("content-length", str(sum(map(len, bodies)))))
        segments = list(bodies)
    else:
        headers.append(("connection", "close"))
        segments = list(bodies)
    top = head(200, headers)
    ends = [len(top)]
    for segment in segments:
        ends.append(ends[-1] + len(segment))
    if style != "undone":
        # The sentinel is enough by itself; behind it come empty lines, framing, gzip's trailer.
        complete_at = ends[done_at + 1] - (30 if style == "gzip" else 6)
    elif framing == "close":
        complete_at = NEVER  # only an end makes it complete
    else:
        complete_at = ends[-1]
    if style == "drip":
        data = b"".join([top, *segments])
        step = rng.choice([7, 40, 300])
        pieces = [data[at : at + step] for at in range(0, len(data), step)][:400]
        pieces.append(data[sum(map(len, pieces)) :])
        segments = [piece for piece in pieces if piece]
    elif style == "segments":
        segments = [top, *segments]
    else:
        segments = _joined(rng, [top, *segments])
    return _Answer(
        request_id=request_id,
        segments=segments,
        pause={"drip": 0.001, "segments": 0.002}.get(style, rng.choice([0.0, 0.0, 0.003, 0.02])),
        body_at=len(top),
        complete_at=complete_at,
        complete_if_ended_at=ends[finish_at + 1] - 4 if framing == "close" else complete_at,
        ends=framing == "close",
    )


def _unstreamed(rng: random.Random, request_id: str) -> _Answer:
    body = json.dumps(completion(text_of(request_id), id=request_id)).encode()
    headers = [("content-type", "application/json"), ("x-request-id", request_id)]
    framing = rng.choice(["length", "length", "chunked", "close"])
    if rng.random() < 0.3:
        body = gzip.compress(body)
        headers.append(("content-encoding", "gzip"))
    if framing == "chunked":
        headers.append(("transfer-encoding", "chunked"))
        body = chunk(body) + LAST_CHUNK
    elif framing == "length":
        headers.append(("content-length", str(len(body))))
    else:
        headers.append(("connection", "close"))
    top = head(200, headers)
    whole = len(top) + len(body)
    return _Answer(
        request_id=request_id,
        segments=_joined(rng, [top, body]),
        pause=rng.choice([0.0, 0.002, 0.02]),
        body_at=len(top),
        complete_at=NEVER if framing == "close" else whole,
        complete_if_ended_at=whole,
        ends=framing == "close",
    )


def _gzipped(events: list[bytes]) -> list[bytes]:
    """Each event flushed by itself, as a server that compresses a stream has to."""
    deflate = zlib.compressobj(wbits=31)
    pieces = [deflate.compress(event) + deflate.flush(zlib.Z_SYNC_FLUSH) for event in events]
    pieces[-1] += deflate.flush()
    return pieces


def _joined(rng: random.Random, segments: list[bytes]) -> list[bytes]:
    """The same bytes in one to four segments."""
    data = b"".join(segments)
    cuts = sorted(rng.randrange(1, len(data)) for _ in range(rng.choice([0, 0, 1, 3])))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]


# --- what goes wrong ---


def _good(rng: random.Random, answer: _Answer, kind: str) -> Plan:
    steps = answer.steps()
    complete_at = answer.complete_at
    if answer.ends:
        steps.append(End())
        complete_at = min(complete_at, answer.complete_if_ended_at)
    return Plan(kind, tuple(steps), body_at=answer.body_at, complete_at=complete_at)


def _held(rng: random.Random, answer: _Answer, kind: str) -> Plan:
    """Everything is sent, and the connection held open; or reset, which is the same by then."""
    if answer.complete_at == NEVER:
        return _good(rng, answer, "good")  # only its end makes it whole
    last: Step = Stall() if rng.random() < 0.5 else Reset()
    steps = (*answer.steps(), Pause(0.01), last)
    return Plan(kind, steps, body_at=answer.body_at, complete_at=answer.complete_at)


def _cut(rng: random.Random, answer: _Answer, kind: str) -> Plan:
    data = answer.data
    until = rng.choice([rng.randrange(len(data)), rng.randrange(answer.body_at + 40)])
    until = min(until, len(data) - 1)
    lasts: dict[str, Step] = {"reset": Reset(), "end": End(), "stall": Stall()}
    complete_at = answer.complete_if_ended_at if kind == "end" else answer.complete_at
    steps = (*answer.steps(until), lasts[kind])
    return Plan(kind, steps, body_at=answer.body_at, complete_at=complete_at)


def _status(rng: random.Random, answer: _Answer, kind: str) -> Plan:
    if kind == "busy":
        status = rng.choice([429, 503, 529])
    elif kind == "failing":
        status = rng.choice([408, 409, 500, 502, 504])
    else:
        status = rng.choice([400, 401, 402, 403, 404, 422])
    message = {"error": {"message": "no", "type": "soak", "param": None, "code": None}}
    body = rng.choice([json.dumps(message).encode(), b"<html>no</html>", b"", b'{"error": {"mess'])
    headers = [("content-length", str(len(body)))]
    if kind == "busy" or rng.random() < 0.5:
        headers.append(("retry-after-ms", str(rng.randrange(1, 15))))
    steps: list[Step] = [Send(head(status, headers) + body)]
    if rng.random() < 0.3:
        steps[0] = Send(head(status, headers) + body[: len(body) // 2])
        steps.append(rng.choice(LASTS))
    # The body of a refusal does not forbid another try.
    return Plan(kind, tuple(steps), status=status, body_at=NEVER)


def _inserted(event: Callable[[random.Random], bytes]) -> Callable[..., Plan]:
    """An answer that is whole, but for an event in it that ends it."""

    def make(rng: random.Random, answer: _Answer, kind: str) -> Plan:
        faulty = _streamed(rng, answer.request_id, extra=event(rng))
        return Plan(kind, tuple(faulty.steps()), body_at=faulty.body_at)

    return make


def _error_event(rng: random.Random) -> bytes:
    error: dict[str, Any] = {"error": {"message": "overloaded", "code": 502}}
    return rng.choice([b"event: error\n", b""]) + sse_event(error)


def _bad_json(rng: random.Random) -> bytes:
    return rng.choice([b'data: {"choices": [\n\n', b"data: hello\n\n"])


def _no_stream(rng: random.Random, answer: _Answer, kind: str) -> Plan:
    body = rng.choice([b"<html>welcome</html>", b"[]", b"", b"\x00\xff" * 40])
    headers = [("content-type", "text/html"), ("content-length", str(len(body)))]
    top = head(200, headers)
    return Plan(kind, (Send(top + body),), body_at=len(top))


def _bad_framing(rng: random.Random, answer: _Answer, kind: str) -> Plan:
    top = head(200, [("content-type", "text/event-stream"), ("transfer-encoding", "chunked")])
    junk = rng.choice(
        [b"zz\r\n", b"-5\r\n", b"\r\n\r\n", b"5\r\nabcdefgh\r\n", bytes(range(128, 160))]
    )
    good = chunk(sse_event(tokens("x")[0]))
    return Plan(kind, (Send(top + good + junk), Stall()), body_at=len(top))


def _bad_head(rng: random.Random, answer: _Answer, kind: str) -> Plan:
    junk = rng.choice(
        [b"SSH-2.0-OpenSSH\r\n", b"\x16\x03\x01", b"HTTP/1.1 abc\r\n\r\n", b"\r\n" * 9]
    )
    return Plan(kind, (Send(junk), rng.choice(LASTS[1:])), body_at=NEVER)


def _poison(rng: random.Random, answer: _Answer, kind: str) -> Plan:
    """Behind the end lies what a client that reused the connection would take for an answer."""
    if answer.ends:
        return _good(rng, answer, "good")  # what comes until the end is the body
    poison = _streamed(random.Random("poison"), "poison").data
    # In one piece with the end: what came later could meet the next request on its way, and no
    # HTTP/1.1 client can tell that.
    tail = len(answer.data) - 20
    steps = (*answer.steps(tail), Send(answer.data[tail:] + poison))
    return Plan(kind, steps, body_at=answer.body_at, complete_at=answer.complete_at)


def _endless(rng: random.Random, answer: _Answer, kind: str) -> Plan:
    top = head(200, [("content-type", "text/event-stream"), ("transfer-encoding", "chunked")])
    what = rng.choice([b": ping\n\n", sse_event(tokens("and so on, ")[1]) * rng.choice([1, 20])])
    again = Repeat(chunk(what), None, rng.choice([0.002, 0.01, 0.05]))
    return Plan(kind, (Send(top), again), body_at=len(top))


def _huge(rng: random.Random, answer: _Answer, kind: str) -> Plan:
    """A whole answer with a very large comment in it, which is nothing."""
    comment = b":" + b"x" * rng.choice([100_000, 300_000, 1_000_000]) + b"\n\n"
    return _good(rng, _streamed(rng, answer.request_id, extra=comment), kind)


def _hang_up(rng: random.Random, answer: _Answer, kind: str) -> Plan:
    return Plan(kind, (rng.choice(LASTS[:2]),), body_at=NEVER)


_COMMON: dict[str, tuple[float, Callable[..., Plan]]] = {
    "good": (40, _good),
    "held": (5, _held),
    "poison": (5, _poison),
    "reset": (8, _cut),
    "end": (8, _cut),
    "stall": (4, _cut),
    "busy": (6, _status),
    "failing": (4, _status),
    "refused": (3, _status),
    "bad head": (2, _bad_head),
    "hang up": (3, _hang_up),
    "no stream": (2, _no_stream),
}
UNSTREAMED = _COMMON
STREAMED: dict[str, tuple[float, Callable[..., Plan]]] = {
    **_COMMON,
    "error event": (4, _inserted(_error_event)),
    "bad JSON": (2, _inserted(_bad_json)),
    "bad framing": (2, _bad_framing),
    "endless": (3, _endless),
    "huge": (0.5, _huge),
}
