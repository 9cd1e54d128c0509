"""A read taken at once is what the general way makes of it, whatever the bytes and the splits."""

from __future__ import annotations

import math
from contextlib import nullcontext, suppress
from typing import Any
from unittest import mock

import anyio
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock import PenstockError
from penstock._call.reader import Reader
from penstock._http.network import Taken
from penstock._wire.chunked import ChunkedBody, FramingError
from penstock._wire.completion import CompletionDecoder
from penstock._wire.single import single_token
from penstock.testing.clock import virtual
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import sse_event, sse_reply, tokens
from penstock.testing.script import Pause, Reply, Send
from tests.support.chat import REQUEST, client_on
from tests.support.tapped import reading

HEAD = sse_reply([]).data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
ROLE, TOKEN, FINISH = map(sse_event, tokens("a"))
USUAL = TOKEN

DATA = [
    b'{"choices":[{"index":0,"delta":{"content":"b"}}]}',
    b'{"choices":[{"index":0,"delta":{"content":""}}]}',
    b'{"choices":[{"index":0,"delta":{"reasoning":"c"},"finish_reason":null}]}',
    b'{"choices":[{"index":0,"delta":{"content":"d"},"finish_reason":"stop"}]}',
    b'{"choices":[{"index":0,"delta":{},"finish_reason":""}]}',
    b'{"choices":[{"index":1,"delta":{"content":"e"}}]}',
    b'{"choices":[{"index":0,"delta":{"content":"f"}},{"index":1,"delta":{}}]}',
    b'{"choices":[{"index":0,"delta":{"content":"g"},"error":{"message":"no"}}]}',
    b'{"choices":[{"index":0,"delta":{"content":"h"}}],"error":{"message":"no"}}',
    b'{"choices":[{"index":0,"delta":{"content":"i"}}],"object":"error"}',
    b'{"choices":[{"index":0,"delta":{"content":"j"}}],"x_groq":{"error":"no"}}',
    b'{"choices":[{"index":0,"delta":{"content":"k"}}],"usage":{"total_tokens":3}}',
    b'{"choices":[{"index":0,"delta":{"content":"l"}}],"provider":"p"}',
    b'{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"t"}]}}]}',
    b'{"choices":[{"index":0,"delta":{"content":"m"}}]} ',
    b'{"choices":[{"index":0,"delta":{"content":"\xff"}}]}',
    b'{"choices":[{"index":0,"delta":{"content":"\\ud83d"}}]}',
    b'{"choices":[],"usage":{"total_tokens":3}}',
    b'{"choices":[{"index":0,"delta":{"content":"' + b"n" * 5000 + b'"}}]}',
    b"[DONE]",
    b"null",
    b"{",
    b"",
]
lines = st.one_of(
    st.sampled_from(DATA).map(lambda data: b"data: " + data + b"\n\n"),
    st.sampled_from([TOKEN, ROLE, FINISH, b": ping\n\n", b"event: error\n", b"\n", b"id: 1\n"]),
    st.sampled_from([b"data: {}\r\n\r\n", b"data: {}\n", b"data:{}\n\n", b"data: {}\r\r"]),
)


@st.composite
def reads(draw: st.DrawFn) -> list[bytes]:
    """Bodies of a few events, in reads that may be split and damaged anywhere."""
    split: list[bytes] = []
    for _ in range(draw(st.integers(1, 6))):
        payload = b"".join(draw(st.lists(lines, min_size=1, max_size=2)))
        style = draw(st.sampled_from(["%x", "%x", "%x", "%X", "0%x", "%x;a=b"]))
        read = (style % len(payload)).encode() + b"\r\n" + payload + b"\r\n"
        if draw(st.integers(0, 5)) == 0:
            at = draw(st.integers(0, len(read) - 1))
            damage = draw(st.sampled_from([b"", b"\n", b"\r", b"\r\n", b"0", b" "]))
            read = read[:at] + damage + read[at + draw(st.integers(0, 1)) :]
        if draw(st.integers(0, 3)) == 0:
            at = draw(st.integers(0, len(read)))
            split += [read[:at], read[at:]]
        elif draw(st.integers(0, 5)) == 0 and split:
            split[-1] += read
        else:
            split.append(read)
    if draw(st.booleans()):
        split.append(b"0\r\n\r\n")
    return [read for read in split if read]


def framed(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def at_rest() -> tuple[ChunkedBody, CompletionDecoder]:
    framing, decoder = ChunkedBody(), CompletionDecoder("text/event-stream")
    decoder.feed(framing.feed(framed(ROLE)))
    decoder.feed(framing.feed(framed(TOKEN)))
    assert framing.at_rest
    assert decoder.at_rest
    return framing, decoder


@given(reads(), st.binary(max_size=80))
@example([framed(USUAL)], b"")
def test_what_it_takes_is_what_the_decoders_make_of_it(split: list[bytes], noise: bytes) -> None:
    for data in (*split, noise, framed(noise)):
        with suppress(FramingError):
            ChunkedBody().feed(data)  # so that its size is known
        framing, decoder = at_rest()
        chunk = single_token(data)
        if chunk is None:
            continue
        events = decoder.events
        assert decoder.feed(framing.feed(data)) == [chunk]
        assert framing.at_rest
        assert decoder.at_rest
        assert decoder.token_seen
        assert decoder.events == events + 1


def test_the_usual_read_is_taken() -> None:
    framing, _ = at_rest()
    framing.feed(framed(USUAL) * 2)  # so that its size is known
    assert single_token(framed(USUAL)) is not None


class Seen(list[Any]):
    """What a user saw of a stream: its chunks, its end, and what is known about it."""


def seen(
    split: list[bytes], backend: str, *, closes: bool, patience: float = math.inf
) -> tuple[Seen, int]:
    """Return what a reader saw whose reads are cancelled after `patience`, and tokens taken."""
    result = Seen()
    taken = 0
    take = Reader.take

    def counted(reader: Reader, data: bytes, now: float) -> Taken:
        nonlocal taken
        took = take(reader, data, now)
        taken += took is not Taken.NOTHING
        return took

    async def main() -> None:
        steps: list[Any] = [Send(HEAD)]
        for read in split:
            steps += [Pause(1), Send(read)]
        network = MemoryNetwork(Reply((*steps, *([Pause(1)] if closes else []))))
        with mock.patch.object(Reader, "take", counted):
            async with client_on(network) as client:
                stream = client.chat.completions.stream(**REQUEST)
                try:
                    async with stream:
                        with anyio.fail_after(100):
                            while True:
                                with anyio.move_on_after(patience):
                                    result.append(await anext(stream))
                except (PenstockError, TimeoutError, StopAsyncIteration) as error:
                    result.append((type(error), str(error)))
                numbers = stream.statistics()
                result.extend([stream.state, stream.partial, numbers.events, numbers.bytes])
                result.extend([numbers.first_token, numbers.total, numbers.waits, numbers.gaps])
        assert network.open_connections == 0

    name, options = virtual(backend)
    anyio.run(main, backend=name, backend_options=options)
    return result, taken


@pytest.mark.parametrize("tapped", [False, True])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(reads(), st.booleans(), st.sampled_from([math.inf, 0.25, 0.75]))
def test_a_stream_is_the_same_either_way(
    backend: str, tapped: bool, split: list[bytes], closes: bool, patience: float
) -> None:
    split = [framed(ROLE), framed(TOKEN) * 2, *[framed(TOKEN)] * 10, *split]
    with reading(tapped=True) if tapped else nullcontext():
        now, some = seen(split, backend, closes=closes, patience=patience)
    with reading(tapped=False):
        general, none = seen(split, backend, closes=closes, patience=patience)
    assert (some, none) == (max(some, 10), 0)
    assert now == general


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_live_tokens_are_taken_at_once(backend: str) -> None:
    split = [framed(ROLE), framed(TOKEN) * 2, *[framed(TOKEN)] * 5, framed(FINISH)]
    assert seen(split, backend, closes=True)[1] == 5
