"""A body of any kind is bounded where it is kept; beyond that there is an error, soon."""

from __future__ import annotations

import gzip
import itertools
import json
import zlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from penstock import (
    AllAttemptsFailed,
    APIResponseError,
    APIStatusError,
    AsyncClient,
    BadRequestError,
    PenstockError,
    ReadTimeout,
    Timeouts,
    TotalTimeout,
    race,
)
from penstock._call import reader, refusal
from penstock._wire import accumulate, completion, encoding, whole_answer
from penstock._wire.chunked import MAX_LINE, MAX_TRAILERS
from penstock._wire.completion import MAX_CHOICES, CompletionDecoder
from penstock._wire.merge import Budget
from penstock._wire.sse import MAX_EVENT_BYTES
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import Event, chunk, head, sse_event, sse_reply, status_reply, tokens
from penstock.testing.script import End, Repeat, Reply, Step, reply
from tests.support.chat import REQUEST, client_on

from .memory import PeakMemory

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
CHUNKED = {"transfer-encoding": "chunked"}
EVENTS = {"content-type": "text/event-stream"}
STREAM = head(200, {**EVENTS, **CHUNKED})


async def read_on(client: AsyncClient) -> None:
    async with client.chat.completions.stream(**REQUEST) as stream:
        async for _ in stream:
            pass


async def failure(script: Reply, **options: Any) -> tuple[PenstockError, MemoryNetwork, int]:
    """The error of one streamed call, the network, and the memory it took beyond the network."""
    network = MemoryNetwork(script)
    async with client_on(network, **options) as client:
        with PeakMemory() as memory, pytest.raises(PenstockError) as caught:
            await read_on(client)
    assert network.open_connections == 0
    return caught.value, network, memory.peak


# --- events ---


@pytest.mark.sampled(0.2)
@pytest.mark.parametrize(
    "flood",
    [
        b"data: " + b"x" * 65530,
        b"x" * 65536,
        (b": " + b"p" * 1021 + b"\n") * 64,
        (b"data: " + b"x" * 1017 + b"\n") * 64,
    ],
    ids=["one line", "no line", "comments", "data lines"],
)
async def test_an_event_without_an_end(flood: bytes) -> None:
    script = reply(STREAM, chunk(b"data: "), Repeat(chunk(flood)))
    error, network, peak = await failure(script)
    assert isinstance(error, APIResponseError)
    assert f"an event of more than {MAX_EVENT_BYTES} bytes" in str(error)
    assert len(network.requests) == 1
    assert network.connections[0].bytes_sent < MAX_EVENT_BYTES + MIB
    # The event, and a second time while it is joined.
    assert peak < 3 * MAX_EVENT_BYTES


async def test_pings_and_comments_without_an_end_take_no_memory() -> None:
    pings = b": ping\n\n\nevent: ping\n\nid: 1\n\nretry: 1\r\n\r\n"
    script = reply(STREAM, Repeat(chunk(pings * 20), every=0.01))
    error, network, peak = await failure(script, timeouts=Timeouts(total=5))
    assert isinstance(error, TotalTimeout)
    assert network.connections[0].bytes_sent > 390_000
    assert peak < 200_000


async def test_a_stream_of_another_kind_without_an_end() -> None:
    for kind in ({"content-type": "text/html"}, {}):
        script = reply(head(200, {**kind, **CHUNKED}), Repeat(chunk(b"<p>hello</p>" * 1000)))
        error, network, peak = await failure(script)
        assert isinstance(error, APIResponseError)
        assert network.connections[0].bytes_sent < MIB
        assert peak < 2 * MIB


# --- whole bodies ---


WAYS: dict[str, Callable[[AsyncClient], Awaitable[object]]] = {
    "create": lambda client: client.chat.completions.create(**REQUEST),
    "models": lambda client: client.models.list(),
    "request": lambda client: client.request("GET", "/x"),
}


@pytest.mark.sampled(0.2)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("framing", ["chunked", "length", "close", "gzip"])
async def test_a_whole_body_above_the_bound(
    framing: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 256 MiB take a while; the bound itself stands in test_policy.py.
    monkeypatch.setattr(whole_answer, "MAX_BODY_BYTES", 2 * MIB)
    piece: bytes = b"[" * 50_000
    headers: dict[str, str] = {"content-type": "application/json"}
    if framing == "chunked":
        headers |= CHUNKED
        piece = chunk(piece)
    elif framing == "length":
        headers["content-length"] = str(10**12)
    elif framing == "gzip":
        headers["content-encoding"] = "gzip"
        piece = gzip.compress(bytes(500_000))
    network = MemoryNetwork(reply(head(200, headers), Repeat(piece)))
    async with client_on(network) as client:
        with PeakMemory() as memory, pytest.raises(APIResponseError, match="larger than 2097152"):
            await WAYS[way](client)
    assert memory.peak < 5 * MIB
    assert len(network.requests) == 1
    assert network.open_connections == 0


@pytest.mark.sampled(0.2)
@pytest.mark.parametrize("status", [400, 404, 500])
@pytest.mark.parametrize("coded", [False, True])
async def test_an_error_body_above_the_bound_leaves_the_status(status: int, coded: bool) -> None:
    headers = {"content-type": "application/json", **CHUNKED}
    piece = b"x" * 60_000
    if coded:
        headers["content-encoding"] = "gzip"
        piece = gzip.compress(bytes(500_000))
    script = reply(head(status, headers), Repeat(chunk(piece)))
    error, network, peak = await failure(script, max_retries=0)
    assert isinstance(error, APIStatusError)
    assert error.status_code == status
    if not coded:
        assert str(error.body).startswith("x" * 60)
    assert network.connections[0].bytes_sent < refusal.ERROR_BODY_BYTES + MIB
    assert peak < 4 * refusal.ERROR_BODY_BYTES


# --- compressed bodies ---


def bomb(coding: str, size: int) -> bytes:
    """Zeros, compressed a thousand to one."""
    if coding == "gzip":
        return gzip.compress(bytes(size))
    return zlib.compress(bytes(size))


@pytest.mark.sampled(0.2)
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("status", [200, 400])
async def test_a_decompression_bomb(
    coding: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 16 MiB take a while; the bound itself is tested in tests/wire/test_encoding.py.
    monkeypatch.setattr(encoding, "FEED_LIMIT", MIB)
    data = bomb(coding, 30 * MIB)
    assert len(data) < 40_000
    headers = {"content-encoding": coding, **EVENTS}
    # gzip data may be many members, each a bomb of its own.
    for step in (data, data * 3):
        script = status_reply(status, step, headers)
        error, _, peak = await failure(script, max_retries=0)
        if status == 200:
            assert isinstance(error, APIResponseError)
            assert "bytes" in str(error)
        else:
            assert isinstance(error, BadRequestError)
        assert peak < 6 * MIB


async def test_a_bomb_of_many_layers_is_refused() -> None:
    for coding in ("gzip, gzip", "gzip, deflate", "br", "zstd", "gzip, identity, gzip"):
        script = status_reply(200, b"x", {"content-encoding": coding, **EVENTS})
        error, _, _ = await failure(script)
        assert isinstance(error, APIResponseError)
        assert "content coding" in str(error)


# --- framing ---


@pytest.mark.sampled(0.2)
@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ((chunk(b": a\n\n"), b"5;", Repeat(b"a" * 1000)), "chunk-size line"),
        ((b"5;" + b"a" * MAX_LINE + b"\r\n: a\n\n\r\n", End()), "chunk-size line"),
        ((b"0" * 21 + b"1\r\n", End()), "chunk-size line"),
        ((b"f" * 21 + b"\r\n", End()), "chunk-size line"),
        ((b"0\r\n", Repeat(b"a: b\r\n" * 100)), "trailers of more than"),
        ((b"0\r\na: ", Repeat(b"b" * 1000)), "trailers of more than"),
    ],
    ids=["extension", "long extension", "zeros", "size", "trailers", "long trailer"],
)
async def test_lines_of_the_framing(steps: tuple[Step | bytes, ...], words: str) -> None:
    error, network, peak = await failure(reply(STREAM, *steps))
    assert isinstance(error, APIResponseError)
    assert words in str(error)
    assert network.connections[0].bytes_sent < MAX_TRAILERS + 65536 + 1000
    assert peak < 2 * MIB


async def test_extensions_of_every_chunk_take_no_memory() -> None:
    piece = b"8;" + b"a" * 15_000 + b"\r\n: ping\n\n\r\n"
    script = reply(STREAM, Repeat(piece * 4, every=0.01))
    error, network, peak = await failure(script, timeouts=Timeouts(total=2))
    assert isinstance(error, TotalTimeout)
    assert network.connections[0].bytes_sent > 8 * MIB
    assert peak < MIB


async def test_a_huge_length_allocates_nothing() -> None:
    for header in ({"content-length": "9" * 19}, {"content-length": str(2**62)}):
        script = reply(head(200, {**EVENTS, **header}), b": a\n\n", Repeat(b": b\n\n", every=9))
        error, _, peak = await failure(script, timeouts=Timeouts(read=5))
        assert isinstance(error, ReadTimeout)
        assert peak < MIB
    script = reply(STREAM, b"ffffffffffffffff\r\n: a\n\n", Repeat(b": b\n\n", every=9))
    error, _, peak = await failure(script, timeouts=Timeouts(read=5))
    assert isinstance(error, ReadTimeout)
    assert peak < MIB


# --- what is kept of an answer ---


def choices(numbers: Iterator[int], count: int) -> bytes:
    """An event with so many new choices."""
    parts = [{"index": next(numbers), "delta": {"content": "x"}} for _ in range(count)]
    return sse_event({"choices": parts})


def calls(numbers: Iterator[int], count: int, kind: str) -> bytes:
    """An event with so many new tool calls."""
    parts: list[dict[str, Any]] = []
    for number in itertools.islice(numbers, count):
        call: dict[str, Any] = {"function": {"name": f"f{number}", "arguments": "{}"}}
        if kind == "index":
            call["index"] = number
        elif kind == "far index":
            call["index"] = number << 40
        elif kind == "id":
            call["id"] = f"call-{number}"
        parts.append(call)
    return sse_event({"choices": [{"index": 0, "delta": {"tool_calls": parts}}]})


@pytest.mark.sampled(0.34)
@pytest.mark.parametrize("each", [1, 25])
async def test_choices_without_an_end(each: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion, "MAX_CHOICES", 200)
    numbers = itertools.count()
    events = [choices(numbers, each) for _ in range(1000 // each)]
    error, network, peak = await failure(sse_reply(events, one_segment_each=True))
    assert isinstance(error, APIResponseError)
    assert "more than 200 choices" in str(error)
    assert error.partial is not None
    assert len(error.partial.choices) <= 200 + each
    assert len(network.requests) == 1
    assert peak < 2 * MIB


def test_as_many_choices_as_are_allowed() -> None:
    decoder = CompletionDecoder("text/event-stream")
    numbers = itertools.count()
    for _ in range(MAX_CHOICES):
        assert decoder.feed(choices(numbers, 1))
    assert decoder.error is None
    decoder.feed(choices(numbers, 1))
    assert isinstance(decoder.error, APIResponseError)


async def test_very_many_choices_in_one_event() -> None:
    many = 4 * MAX_CHOICES
    event = b'data: {"choices":[' + b",".join(b'{"index":%d}' % n for n in range(many)) + b"]}\n\n"
    error, _, peak = await failure(sse_reply([event]))
    assert f"more than {MAX_CHOICES} choices" in str(error)
    assert peak < 40 * MIB


@pytest.mark.sampled(0.34)
@pytest.mark.parametrize("kind", ["index", "far index", "id", "neither"])
async def test_tool_calls_without_an_end(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accumulate, "MAX_TOOL_CALLS", 1000)
    numbers = itertools.count()
    events = [calls(numbers, 25, kind) for _ in range(200)]
    error, network, peak = await failure(sse_reply(events, one_segment_each=True))
    assert isinstance(error, APIResponseError)
    assert "more than 1000 tool calls" in str(error)
    assert error.partial is not None
    made = error.partial.choices[0].message.tool_calls
    assert made is not None
    # A chunk is added up when the next one comes.
    assert 1000 < len(made) <= 1000 + 3 * 25
    assert len(network.requests) == 1
    assert peak < 20 * MIB


async def test_tool_calls_of_many_choices_are_counted_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accumulate, "MAX_TOOL_CALLS", 1000)
    one = {"id": "a", "function": {"name": "f", "arguments": "{}"}}
    events = [{"choices": [{"index": n, "delta": {"tool_calls": [one]}}]} for n in range(2000)]
    error, _, _ = await failure(sse_reply(events, one_segment_each=True))
    assert "more than 1000 tool calls" in str(error)


async def test_members_without_a_field_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accumulate, "MAX_MEMBERS", 1000)
    monkeypatch.setattr(accumulate, "Budget", lambda: Budget(1000))
    numbers = itertools.count()
    events: list[Event] = [
        {"choices": [{"delta": {f"x{next(numbers)}": [1] for _ in range(25)}}]} for _ in range(200)
    ]
    error, network, peak = await failure(sse_reply(events, one_segment_each=True))
    assert isinstance(error, APIResponseError)
    assert "more than 1000 members without a field" in str(error)
    assert error.partial is not None
    assert len(error.partial.choices[0].message.extra or ()) <= 1000
    assert len(network.requests) == 1
    assert peak < 20 * MIB


async def test_far_indices_allocate_nothing() -> None:
    far = [2**31, 2**40, 2**62]
    call = [{"index": n, "id": f"c{n}", "function": {"name": "f", "arguments": "{}"}} for n in far]
    events = [
        {"choices": [{"index": n, "delta": {"content": "x"}, "finish_reason": "stop"}]} for n in far
    ]
    events.append({"choices": [{"index": 2**31, "delta": {"tool_calls": call}}]})
    async with client_on(sse_reply(events)) as client:
        with PeakMemory() as memory:
            answer = await client.complete(REQUEST)
    assert [choice.index for choice in answer.choices] == far
    made = answer.choices[0].message.tool_calls
    assert made is not None
    assert len(made) == 3
    assert memory.peak < MIB


async def test_an_answer_may_be_long() -> None:
    # No bound on what a caller asked for and reads: the text is as long as it is.
    text = "word " * 20_000
    async with client_on(sse_reply(tokens(*[text] * 200))) as client:
        answer = await client.complete(REQUEST)
    assert answer.choices[0].message.content == text * 200


def test_json_numbers_of_any_length_take_linear_time() -> None:
    # int() of n digits takes quadratic time; 4 million of them would take minutes.
    decoder = CompletionDecoder("text/event-stream")
    digits = b"9" * 4_000_000
    data = json.dumps({"choices": [{"index": 0, "delta": {"content": "Hi"}}]}).encode()
    chunks = decoder.feed(b'data: {"x":' + digits + b"," + data[1:] + b"\n\n")
    assert [each.choices[0].delta.content for each in chunks] == ["Hi"]


# --- what is read ahead of a race's decision ---

ROLE = sse_event(tokens()[0])
NOISE = {
    "roles": ROLE,
    "empty chunks": b"data: {}\n\n",
    "large chunks": b'data: {"x":"' + b"x" * 100_000 + b'"}\n\n',
}


async def raced(client: AsyncClient) -> object:
    async with race(client, [REQUEST, REQUEST]) as winner:
        return await winner.collect()


@pytest.mark.sampled(0.34)
@pytest.mark.parametrize("kind", NOISE)
async def test_a_race_against_servers_that_never_say_anything(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "MAX_CHUNKS_AHEAD", 500)
    monkeypatch.setattr(reader, "MAX_BYTES_AHEAD", MIB)
    piece = NOISE[kind] * (50 if kind != "large chunks" else 1)
    network = MemoryNetwork(reply(STREAM, Repeat(chunk(piece))))
    async with client_on(network) as client:
        with PeakMemory() as memory, pytest.raises(AllAttemptsFailed) as caught:
            await raced(client)
    for error in caught.value.errors:
        assert isinstance(error, APIResponseError)
        assert "without a token" in str(error)
        assert error.partial is not None
    assert len(network.requests) == 2
    assert memory.peak < 12 * MIB
    assert network.open_connections == 0


TEXT_REQUEST = {"model": "m", "prompt": "Hello"}


async def test_a_race_of_text_completions_that_never_say_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reader, "MAX_CHUNKS_AHEAD", 500)
    piece = b'data: {"choices":[{"index":0,"text":""}]}\n\n' * 50
    network = MemoryNetwork(reply(STREAM, Repeat(chunk(piece))))
    async with client_on(network, timeouts=Timeouts(total=30)) as client:
        with pytest.raises(AllAttemptsFailed) as caught:
            async with race(client, [TEXT_REQUEST, TEXT_REQUEST]):
                pass
    for error in caught.value.errors:
        assert isinstance(error, APIResponseError)
        assert "without a token" in str(error)
    assert network.connections[0].bytes_sent < MIB
    assert network.open_connections == 0


async def test_a_token_may_come_late_in_a_race() -> None:
    events: list[Event] = [*[ROLE] * (reader.MAX_CHUNKS_AHEAD - 1), *tokens("Hi", role_first=False)]
    for segments in (True, False):
        network = MemoryNetwork(sse_reply(events, one_segment_each=segments))
        async with client_on(network) as client, race(client, [REQUEST]) as winner:
            chunks = [each async for each in winner]
        assert len(chunks) == len(events)


async def test_without_a_race_any_number_of_chunks_may_have_no_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reader, "MAX_CHUNKS_AHEAD", 50)
    events: list[Event] = [*[ROLE] * 500, *tokens("Hi", role_first=False)]
    async with client_on(sse_reply(events, one_segment_each=True)) as client:
        assert (await client.complete(REQUEST)).choices[0].message.content == "Hi"
