"""What a recorder saw is played again as it was, without keys, on every kind of network."""

from __future__ import annotations

import gzip
import itertools
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import APIConnectionError, AsyncClient, StreamInterruptedError
from penstock.testing.answers import text_reply
from penstock.testing.clock import virtual
from penstock.testing.cuts import (
    cut_after_events,
    cut_at,
    cut_in_head,
    every_byte,
    head_size,
    split_at,
)
from penstock.testing.memory import MemoryNetwork
from penstock.testing.recorder import LEFT_OUT, Recorder
from penstock.testing.replies import error_reply, json_reply, sse_reply, status_reply, tokens
from penstock.testing.script import (
    End,
    Pause,
    RecordedRequest,
    Repeat,
    Reply,
    Reset,
    Script,
    Send,
    Stall,
    Step,
    reply,
)
from penstock.testing.server import serve
from penstock.testing.sweep import BackendName, Mode, cancel_sweep
from penstock.testing.transcript import Transcript
from tests.security.test_no_secret_shows import ECHOES
from tests.support.chat import KEY, REQUEST, URL, client_of
from tests.support.httpcore_compat import httpcore

if TYPE_CHECKING:
    from pathlib import Path

SEND = b"POST /v1/x HTTP/1.1\r\nhost: test\r\ncontent-length: 2\r\n\r\nhi"
SLOW = sse_reply([Pause(1), *tokens("Hel", "löw", finish=None), Pause(2.5), *tokens("rest")])


@pytest.fixture(params=["asyncio", "trio"])
def in_virtual_time(request: pytest.FixtureRequest) -> Callable[..., Any]:
    backend, options = virtual(request.param)

    def run(main: Callable[..., Awaitable[object]], *args: object) -> Any:
        return anyio.run(main, *args, backend=backend, backend_options=options)

    return run


async def text_from(client: AsyncClient) -> str:
    completion = await client.complete(REQUEST)
    return completion.choices[0].message.content or ""


# --- from a real server, and back onto one ---


@pytest.mark.anyio
@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
async def test_a_real_server_is_recorded_and_played_again(tls: bool, tmp_path: Path) -> None:
    recorder = Recorder()
    script = [json_reply({"object": "list", "data": []}), every_byte(text_reply("Häl", "lo"))]
    async with (
        serve(script, tls=tls) as server,
        client_of(server, network=recorder, max_retries=0) as client,
    ):
        assert len(await client.models.list()) == 0
        assert await text_from(client) == "Hällo"
    recorder.save(tmp_path / "run.jsonl")
    written = (tmp_path / "run.jsonl").read_text("utf-8")
    assert KEY not in written
    assert "Hello!" not in written  # the request's message

    transcript = Transcript.load(tmp_path / "run.jsonl")
    assert [(e.method, e.target) for e in transcript.exchanges] == [
        ("GET", "/v1/models"),
        ("POST", "/v1/chat/completions"),
    ]
    # The client has no use for what comes after [DONE], so it may leave before that.
    assert all(e.data.startswith(r.data[:100]) for e, r in zip(transcript.exchanges, script))  # noqa: B905
    for timed in (True, False):
        async with (
            serve(transcript.replies(timed=timed), tls=tls) as server,
            client_of(server, max_retries=0) as client,
        ):
            assert len(await client.models.list()) == 0
            assert await text_from(client) == "Hällo"


@pytest.mark.anyio
async def test_a_unix_socket(tmp_path: Path) -> None:
    recorder = Recorder()
    path = tmp_path / "s"
    async with (
        serve(text_reply("Hi"), uds=path),
        AsyncClient(URL, api_key=KEY, uds=str(path), network=recorder) as client,
    ):
        assert await text_from(client) == "Hi"
    assert [each.end for each in recorder.transcript.exchanges] == ["kept"]


@pytest.mark.anyio
async def test_a_server_that_resets_is_recorded_so() -> None:
    recorder = Recorder()
    async with (
        serve(cut_after_events(text_reply("Hel", "lo"), 2)) as server,
        client_of(server, network=recorder, max_retries=0) as client,
    ):
        with pytest.raises(StreamInterruptedError):
            await text_from(client)
    assert [each.end for each in recorder.transcript.exchanges] == ["reset"]


# --- in virtual time, to the microsecond ---


async def seen(network: Any, size: int = 65536) -> list[tuple[float, bytes]]:
    """What one read after the other of one exchange gets, and when, for 100 seconds."""
    stream = await network.connect_tcp("test", 80)
    await stream.write(SEND)
    begun = anyio.current_time()
    reads: list[tuple[float, bytes]] = []
    try:
        with anyio.move_on_after(100):
            while not reads or reads[-1][1]:
                data = await stream.read(size)
                reads.append((round(anyio.current_time() - begun, 6), data))
    except httpcore.ReadError:
        reads.append((round(anyio.current_time() - begun, 6), b"(reset)"))
    finally:
        await stream.aclose()
    return reads


REPLIES = {
    "slow": SLOW,
    "whole": json_reply({"a": 1}),
    "an error": error_reply(429),
    "to the end of the connection": sse_reply([*tokens("a"), Pause(3)], chunked="close"),
    "reset in the middle": cut_after_events(SLOW, 4, [Pause(2), Reset()]),
    "ended in the middle": cut_after_events(SLOW, 4, [Pause(2), End()]),
    "stalled in the middle": cut_after_events(SLOW, 4, Stall()),
    "reset in the head": cut_in_head(SLOW),
    "nothing": reply(Pause(1), End()),
    "silence": reply(Stall()),
    "every byte": every_byte(SLOW),
    "pings": reply(SLOW.data[:200], Repeat(b": ping\n\n", 5, every=10)),
    "junk": reply(b"\x00junk\xff", Pause(1), End()),
    "early hints": reply(b"HTTP/1.1 103 Early\r\n\r\n", Pause(1), json_reply({}).data),
}


@pytest.mark.parametrize("what", REPLIES)
def test_replayed_it_looks_the_same(what: str, in_virtual_time: Callable[..., Any]) -> None:
    async def main() -> None:
        recorder = Recorder(MemoryNetwork(REPLIES[what]))
        first = await seen(recorder)
        transcript = Transcript.loads(recorder.transcript.dumps())
        assert await seen(MemoryNetwork(transcript.replies())) == first
        untimed = await seen(MemoryNetwork(transcript.replies(timed=False)))
        assert [data for _, data in untimed] == [data for _, data in first]
        assert {at for at, _ in untimed} <= {0.0}

    in_virtual_time(main)


steps = st.lists(
    st.one_of(
        st.sampled_from([SLOW.data[:300], b"HTTP/1.1 200 OK\r\n\r\n", b"\r\n", b"\xff"]).map(Send),
        st.binary(min_size=1, max_size=8).map(Send),
        st.integers(0, 3).map(Pause),
        st.builds(Repeat, st.just(b"data: {}\n\n"), st.integers(0, 3), st.integers(0, 2)),
    ),
    max_size=6,
)


@given(steps, st.sampled_from([End(), Reset(), Stall()]), st.sampled_from([3, 65536]))
def test_whatever_a_server_does(script: list[Step], last: Step, size: int) -> None:
    async def main() -> None:
        network = MemoryNetwork(Reply((*script, last)))
        recorder = Recorder(network)
        first = await seen(recorder, size)
        (exchange,) = Transcript.loads(recorder.transcript.dumps()).exchanges
        again = await seen(MemoryNetwork(exchange.reply()), size)
        if exchange.end == "kept":  # what came after it is not of the exchange
            first = [each for each in first if each[1] not in (b"", b"(reset)")]
        assert again == first

    backend, options = virtual("asyncio")
    anyio.run(main, backend=backend, backend_options=options)


def test_what_becomes_of_the_connection_later_is_not_of_the_exchange(
    in_virtual_time: Callable[..., Any],
) -> None:
    async def main() -> None:
        recorder = Recorder(MemoryNetwork(SLOW.then(Pause(60), Reset())))
        assert (await seen(recorder))[-1] == (63.5, b"(reset)")
        (exchange,) = recorder.transcript.exchanges
        assert (exchange.end, exchange.ended_at) == ("kept", 3.5)

    in_virtual_time(main)


def test_any_fault_can_be_put_into_a_replay(in_virtual_time: Callable[..., Any]) -> None:
    async def main() -> None:
        recorder = Recorder(MemoryNetwork(SLOW))
        async with AsyncClient(URL, api_key=KEY, network=recorder) as client:
            whole = await text_from(client)
        (answer,) = recorder.transcript.replies()
        for n in range(0, answer.data.index(b"[DONE]"), 29):
            for fault in (Reset(), End()):
                network = MemoryNetwork(cut_at(answer, n, fault))
                async with AsyncClient(URL, network=network, max_retries=0) as client:
                    stream = client.chat.completions.stream(**REQUEST)
                    begun = n > head_size(answer.data)
                    with pytest.raises(StreamInterruptedError if begun else APIConnectionError):
                        await stream.collect()
                    said = [choice.message.content or "" for choice in stream.partial.choices]
                    assert whole.startswith("".join(said))

    in_virtual_time(main)


def test_several_requests_on_one_connection_and_beside_it(
    in_virtual_time: Callable[..., Any],
) -> None:
    def answer(request: RecordedRequest) -> Reply:
        return text_reply(request.json["messages"][0]["content"], every=1)

    async def ask(client: AsyncClient, text: str) -> None:
        message = {"role": "user", "content": text}
        await client.complete({"model": "m", "messages": [message]})

    async def main() -> None:
        recorder = Recorder(MemoryNetwork(answer), bodies=True)
        async with AsyncClient(URL, api_key=KEY, network=recorder) as client:
            await ask(client, "one")
            async with anyio.create_task_group() as group:
                group.start_soon(ask, client, "two")
                group.start_soon(ask, client, "three")
        exchanges = recorder.transcript.exchanges
        assert len(exchanges) == 3
        for exchange in exchanges:
            assert exchange.body is not None
            text = re.search(rb'"content":"(\w+)"', exchange.body)
            assert text is not None
            assert b'"content":"' + text[1] in exchange.data.replace(b": ", b":")
            assert [each.at for each in exchange.segments] == [0, 1, 2, 3]

    in_virtual_time(main)


# --- what is left out ---


async def exchange_of(script: Script, head: str, body: bytes = b"", **options: bool) -> Any:
    recorder = Recorder(MemoryNetwork(script), **options)
    stream = await recorder.connect_tcp("test", 80)
    length = f"content-length: {len(body)}\r\n"
    await stream.write((head.replace("\n", "\r\n") + length + "\r\n").encode() + body)
    try:
        with anyio.move_on_after(1):
            while await stream.read(65536):
                pass
    except httpcore.ReadError:
        pass
    await stream.aclose()
    (exchange,) = recorder.transcript.exchanges
    return exchange


HEAD = f"POST /v1/x HTTP/1.1\nhost: test\nAuthorization: Bearer {KEY}\n"


def test_credentials_are_left_out(in_virtual_time: Callable[..., Any]) -> None:
    head = HEAD + "X-Api-Key: other-key-000\nCookie: a=b\nX-Copy: other-key-000!\n"
    head = head.replace("/v1/x", "/v1/x?a=1&api_key=in-the-query&b=" + KEY)
    body = f'{{"k": "{KEY}"}}'.encode()
    answer = status_reply(200, "in-the-query other-key-000", {"Set-Cookie": "session=5; a"})

    async def main() -> None:
        exchange = await exchange_of(answer, head, body, bodies=True)
        assert exchange.target == f"/v1/x?a=1&api_key={LEFT_OUT}&b={LEFT_OUT}"
        assert exchange.headers == (
            ("host", "test"),
            ("Authorization", LEFT_OUT),
            ("X-Api-Key", LEFT_OUT),
            ("Cookie", LEFT_OUT),
            ("X-Copy", f"{LEFT_OUT}!"),
            ("content-length", str(len(body))),
        )
        assert exchange.body == f'{{"k": "{LEFT_OUT}"}}'.encode()
        assert exchange.data == (
            answer.data
            .replace(b" session=5; a", b"x" * 13)
            .replace(b"in-the-query other-key-000", b"xxxxxxxxxxxx xxxxxxxxxxxxx")
        )  # fmt: skip

        exchange = await exchange_of(answer, head, body)
        assert exchange.body is None

        exchange = await exchange_of(answer, head, body, bodies=True, credentials=True)
        assert exchange.body == body
        assert exchange.data == answer.data
        assert ("Authorization", f"Bearer {KEY}") in exchange.headers
        assert exchange.target.endswith(KEY)

    in_virtual_time(main)


@pytest.mark.parametrize("echo", ECHOES)
def test_no_answer_shows_the_key(echo: str, in_virtual_time: Callable[..., Any]) -> None:
    whole = ECHOES[echo](KEY)

    async def main() -> None:
        for answer in (whole, every_byte(whole)):
            exchange = await exchange_of(answer, HEAD)
            assert KEY.lower().encode() not in exchange.data.lower()
            # No other byte has changed, nor their number (but an answer may end early).
            assert len(exchange.data) == len(answer.data) or echo == "cut"
            for now, before in zip(exchange.data, answer.data, strict=False):
                assert now == before or now == ord("x")

    in_virtual_time(main)


@given(st.lists(st.integers(0, 60)), st.lists(st.integers(0, 400)), st.integers(8, 400))
def test_a_key_across_chunks_and_segments_or_cut_off(
    chunk_ends: list[int], segment_ends: list[int], cut: int
) -> None:
    text = f"your key {KEY} is no good {KEY}".encode()
    edges = sorted({0, len(text), *chunk_ends} & set(range(len(text) + 1)))
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    head = b"HTTP/1.1 403 No\r\ntransfer-encoding: chunked\r\n\r\n"
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    answer = split_at(cut_at(head + chunks + b"0\r\n\r\n", cut, End()), segment_ends)

    async def main() -> None:
        exchange = await exchange_of(answer, HEAD)
        assert len(exchange.data) == len(answer.data)
        # Without the framing, which stays as it was, no letters of the key are left.
        left = re.sub(rb"\r\n[0-9a-f]+\r\n|\r\n", b"", exchange.data[len(head) :])
        assert KEY[:8].encode() not in left

    backend, options = virtual("asyncio")
    anyio.run(main, backend=backend, backend_options=options)


@pytest.mark.parametrize("coding", ["gzip", "br", "GZIP, identity"])
def test_a_compressed_answer_shows_nothing(
    coding: str, in_virtual_time: Callable[..., Any]
) -> None:
    packed = gzip.compress(KEY.encode())
    answer = status_reply(403, packed, {"content-encoding": coding})

    async def main() -> None:
        exchange = await exchange_of(answer, HEAD)
        assert exchange.data == answer.data.replace(packed, b"x" * len(packed))
        assert (await exchange_of(answer, HEAD, credentials=True)).data == answer.data
        plain = status_reply(403, "plain", {"content-encoding": "identity"})
        assert (await exchange_of(plain, HEAD)).data == plain.data

    in_virtual_time(main)


# --- what passes through it is not its business ---


class EchoStream(httpcore.AsyncNetworkStream):
    """Another protocol's peer."""

    def __init__(self) -> None:
        self.data = b""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        await anyio.lowlevel.checkpoint()
        return self.data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await anyio.lowlevel.checkpoint()
        self.data = buffer

    async def aclose(self) -> None:
        await anyio.lowlevel.checkpoint()


class EchoNetwork(httpcore.AsyncNetworkBackend):
    async def connect_tcp(self, *args: Any, **options: Any) -> EchoStream:
        await anyio.lowlevel.checkpoint()
        return EchoStream()


def test_other_protocols_pass_unrecorded(in_virtual_time: Callable[..., Any]) -> None:
    async def main() -> None:
        recorder = Recorder(EchoNetwork())
        stream = await recorder.connect_tcp("test", 1080)
        for hello in (b"\x05\x01\x00", SEND):
            await stream.write(hello)
            assert await stream.read(100) == hello
        await stream.aclose()
        assert recorder.transcript.exchanges == ()

    in_virtual_time(main)


def test_of_a_proxy_nothing_is_recorded(in_virtual_time: Callable[..., Any]) -> None:
    async def main() -> None:
        connect = reply(b"HTTP/1.1 200 OK\r\n\r\n")
        recorder = Recorder(MemoryNetwork([connect, text_reply("Hi")]))
        async with AsyncClient(
            "https://api.test/v1",
            api_key=KEY,
            proxy="http://me:pass-word@proxy.test:3128",
            network=recorder,
        ) as client:
            assert await text_from(client) == "Hi"
        (exchange,) = recorder.transcript.exchanges
        assert exchange.target == "/v1/chat/completions"
        assert b"Hi" in exchange.data

    in_virtual_time(main)


@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
def test_a_cancelled_client_leaves_nothing_open_behind_it(backend: BackendName) -> None:
    networks: list[MemoryNetwork] = []

    @asynccontextmanager
    async def scenario() -> AsyncIterator[Callable[[], Awaitable[object]]]:
        networks.append(MemoryNetwork(text_reply("a")))
        recorder = Recorder(networks[-1])
        async with AsyncClient(URL, api_key=KEY, network=recorder) as client:
            yield lambda: client.complete(REQUEST)
        recorder.transcript.dumps()

    def check(point: int, mode: Mode) -> None:
        assert networks[-1].open_connections == 0

    cancel_sweep(backend, scenario, check=check, modes=["scope"])
