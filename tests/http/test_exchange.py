from __future__ import annotations

import gzip
import zlib
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._http.connections import Connections
from penstock._http.exchange import (
    DECODED_AT_ONCE,
    DRAIN_BYTES,
    DRAIN_SECONDS,
    BodyTooLarge,
    Exchange,
    MalformedResponse,
    _DrainDeadline,
)
from penstock._http.network import ClosedLocally, ConnectionFailed
from penstock._http.outgoing import Outgoing
from penstock._http.proxy import Proxy
from penstock._wire.encoding import EncodingError
from penstock._wire.framing import FramingError
from penstock._wire.request_head import RequestHead
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import LAST_CHUNK, chunk, head
from penstock.testing.requests import RequestReader
from penstock.testing.sweep import BackendName, cancel_sweep
from tests.wire.pieces import in_pieces

from .deadlines import NoDeadline, OutOfTime, Within
from .pipe import Pipe, PipeDialer, split
from .sockets import run_virtual

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

OUTGOING = Outgoing(
    RequestHead("POST", "/v1/x?y=1", [(b"Host", b"example.com"), (b"Content-Length", b"2")]), b"{}"
)
CHUNKED = [("Transfer-Encoding", "chunked")]
GZIP = [("Content-Encoding", "gzip")]
TEXT = b"data: one\n\ndata: two\n\n"


def length(data: bytes) -> list[tuple[str, str]]:
    return [("Content-Length", str(len(data)))]


def exchange_on(
    pipe: Pipe, deadline: Any = None, *, reused: bool = False, **dialer: Any
) -> Exchange:
    connections = Connections(PipeDialer(pipe, **dialer))
    return Exchange(connections, pipe, deadline or NoDeadline(), reused=reused)


async def begun(*items: bytes | Exception) -> tuple[Exchange, Pipe]:
    """An exchange whose head is in."""
    pipe = Pipe(*items)
    exchange = exchange_on(pipe)
    await exchange.send(OUTGOING)
    return exchange, pipe


async def went_back(exchange: Exchange, pipe: Pipe) -> bool:
    """Whether its connection is idle now; if not, it has to be closed."""
    assert exchange.settled
    connections = exchange._connections
    connections.dialer.pipes.clear()  # type: ignore[attr-defined]
    try:
        stream, reused = await connections.acquire(NoDeadline())
    except IndexError:
        assert pipe.closed
        assert pipe.acloses
        return False
    assert stream is pipe
    assert reused
    assert not pipe.closed
    return True


async def read_until_a_fault(exchange: Exchange) -> tuple[bytes, Exception]:
    """What came before the fault, and the fault; there has to be one."""
    got = b""
    while True:
        try:
            data = await exchange.read()
        except (ConnectionFailed, FramingError, EncodingError) as error:
            return got, error
        assert data, "a clean end"
        got += data


def wires(payload: bytes, *more: tuple[str, str]) -> dict[str, bytes]:
    """A response with this body, in each framing that leaves the connection usable."""
    half = len(payload) // 2
    # An empty chunk would be the last one.
    chunks = [chunk(part) for part in (payload[:half], payload[half:]) if part]
    return {
        "length": head(200, [*length(payload), *more]) + payload,
        "chunked": head(200, [*CHUNKED, *more]) + b"".join(chunks) + LAST_CHUNK,
        "trailers": head(200, [*CHUNKED, *more]) + b"".join(chunks) + b"0\r\nX-T: 1\r\n\r\n",
    }


# --- the request ---


async def test_what_is_sent() -> None:
    exchange, pipe = await begun(head(200, length(b"")))
    assert bytes(pipe.sent) == (
        b"POST /v1/x?y=1 HTTP/1.1\r\nHost: example.com\r\nContent-Length: 2\r\n\r\n{}"
    )
    assert exchange.status == 200
    await exchange.aclose()


async def test_without_a_body() -> None:
    pipe = Pipe(head(204))
    exchange = exchange_on(pipe)
    await exchange.send(Outgoing(RequestHead("GET", "/models", [(b"Host", b"a")]), b""))
    (request,) = RequestReader().feed(bytes(pipe.sent), connection=0, time=0)
    assert (request.method, request.target, request.body) == ("GET", "/models", b"")
    await exchange.aclose()


@pytest.mark.parametrize("proxied", ["http", "https"])
async def test_a_forwarding_proxy_gets_the_whole_url_and_its_password(proxied: str) -> None:
    proxy = Proxy.parse(f"{proxied}://me:secret@proxy.test:3128")
    pipe = Pipe(head(200, length(b"")))
    exchange = exchange_on(pipe, proxy=proxy)
    await exchange.send(OUTGOING)
    (request,) = RequestReader().feed(bytes(pipe.sent), connection=0, time=0)
    assert request.target == "http://example.com/v1/x?y=1"
    assert request.headers["host"] == "example.com"
    assert request.headers["proxy-authorization"] == "Basic bWU6c2VjcmV0"
    await exchange.aclose()


async def test_a_socks_proxy_does_not_show() -> None:
    pipe = Pipe(head(200, length(b"")))
    exchange = exchange_on(pipe, proxy=Proxy.parse("socks5://me:secret@proxy.test"))
    await exchange.send(OUTGOING)
    assert pipe.sent.startswith(b"POST /v1/x?y=1 ")
    assert b"Proxy" not in pipe.sent
    await exchange.aclose()


# --- the head ---


async def test_the_head() -> None:
    exchange, _ = await begun(head(418, [("X-Many", "1"), ("x-many", "2"), *length(b"")]))
    assert exchange.status == 418
    assert exchange.headers["X-MANY"] == "1, 2"
    assert exchange.body_bytes == 0
    await exchange.aclose()


@pytest.mark.parametrize("junk", [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/2 200\r\n\r\n", b"\r\n\r\n"])
async def test_no_http(junk: bytes) -> None:
    pipe = Pipe()
    pipe.on_send = lambda _: pipe.feed(junk)
    exchange = exchange_on(pipe, reused=True)
    with pytest.raises(MalformedResponse, match=r"not HTTP/1\.1"):
        await exchange.send(OUTGOING)
    assert not exchange.may_be_stale
    await exchange.aclose()
    assert not await went_back(exchange, pipe)


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 2", head(200)[:-2]])
async def test_closed_without_a_head(before: bytes) -> None:
    pipe = Pipe()
    pipe.on_send = lambda _: pipe.feed(*([before] if before else []), b"")
    exchange = exchange_on(pipe, reused=True)
    with pytest.raises(ConnectionFailed, match="closed the connection without answering"):
        await exchange.send(OUTGOING)
    assert exchange.may_be_stale != bool(before)
    await exchange.aclose()
    assert not await went_back(exchange, pipe)


@pytest.mark.parametrize("fault", [ConnectionFailed("reset"), ClosedLocally()])
async def test_a_fault_before_the_head(fault: Exception) -> None:
    pipe = Pipe()
    pipe.on_send = lambda _: pipe.feed(fault)
    exchange = exchange_on(pipe, reused=True)
    with pytest.raises(type(fault)):
        await exchange.send(OUTGOING)
    assert exchange.may_be_stale
    await exchange.aclose()
    assert not await went_back(exchange, pipe)


async def test_an_idle_connection_that_is_no_longer_usable() -> None:
    pipe = Pipe(b"unasked")
    exchange = Exchange(Connections(PipeDialer(pipe)), pipe, NoDeadline(), reused=True)
    with pytest.raises(ConnectionFailed, match="no longer usable"):
        await exchange.send(OUTGOING)
    # So it is stale, and the request may be sent again at once.
    assert exchange.may_be_stale
    assert not pipe.sent
    await exchange.aclose()
    assert not await went_back(exchange, pipe)


async def test_the_deadline_of_the_head() -> None:
    pipe = Pipe()
    exchange = exchange_on(pipe, Within(7))
    before = anyio.current_time()
    with pytest.raises(OutOfTime):
        await exchange.send(OUTGOING)
    assert anyio.current_time() == before + 7
    await exchange.aclose()
    assert not await went_back(exchange, pipe)


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip"])
async def test_a_coding_we_do_not_have(coding: str) -> None:
    # The status says something even when the body cannot be read.
    exchange, pipe = await begun(head(500, [("Content-Encoding", coding), *length(b"x")]) + b"x")
    assert exchange.status == 500
    for _ in range(2):
        with pytest.raises(EncodingError):
            await exchange.read()
    await exchange.aclose(drain=True)
    assert not await went_back(exchange, pipe)


@given(
    st.sampled_from(list(wires(TEXT))),
    st.lists(st.integers(1, 150), max_size=8),
    st.integers(1, 20),
    st.booleans(),
)
def test_waits_for_the_head_and_the_body_can_be_cancelled_and_resumed(
    framing: str, places: list[int], patience: int, early: bool
) -> None:
    """The request is out once, and nothing of the response is lost."""
    hints = head(103, [("Link", "</a>")]) if early else b""
    data = hints + wires(TEXT)[framing]

    async def main() -> None:
        pipe = Pipe()
        exchange = exchange_on(pipe)

        async def play() -> None:
            for piece in split(data, places):
                await anyio.sleep(7)
                pipe.feed(piece)

        async with anyio.create_task_group() as group:
            group.start_soon(play)
            while not exchange.status:
                with anyio.move_on_after(patience):
                    await exchange.send(OUTGOING)
                assert exchange.awaits_head != bool(exchange.status)
            body = None
            while body is None:
                with anyio.move_on_after(patience):
                    body = await exchange.read_all(len(TEXT))
            assert body == TEXT
        assert len(RequestReader().feed(bytes(pipe.sent), connection=0, time=0)) == 1
        assert pipe.sent.count(b"POST") == 1
        await exchange.aclose()
        assert await went_back(exchange, pipe)

    for backend in ("asyncio", "trio"):
        run_virtual(backend, main)


odd_heads = st.lists(
    st.sampled_from(
        [b"HTTP/1.1 200 OK", b"HTTP/1.0 200", b"HTTP/1.1 500 ", b"\r\n", b"\r\n", b"\n", b" ",
         b"\t", b"a: b", b"A:b ", b":", b"\x00", b"HTTP/1.1 100 Continue\r\n\r\n", b"\xff",
         b"content-length: 2", b"Transfer-Encoding: chunked", b"connection: close", b"{}"]
    ),
    max_size=14,
).map(b"".join)  # fmt: skip


@given(
    odd_heads
    | st.lists(st.sampled_from([b"a: b", b"content-length: 2", b"X:  y"]), max_size=4).map(
        lambda lines: b"\r\n".join([b"HTTP/1.1 200 OK", *lines, b"", b"{}"])
    ),
    st.lists(st.integers(1, 60), max_size=6),
)
def test_httpcore_makes_the_same_of_any_bytes(data: bytes, places: list[int]) -> None:
    async def seen(by_httpcore: bool) -> list[object]:
        pipe = Pipe(*split(data, places), b"")
        exchange = exchange_on(pipe)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("penstock._http.exchange._BY_HTTPCORE", by_httpcore)
            try:
                await exchange.send(OUTGOING)
            except Exception as error:  # noqa: BLE001 - compared
                told: list[object] = [type(error), str(error), exchange.awaits_head]
            else:
                told = [exchange.status, exchange.raw_headers, exchange.http_version]
                told += [exchange.reason_phrase, exchange._rest, exchange._keep, exchange._fault]
        return [bytes(pipe.sent), *map(str, told), exchange.may_be_stale]

    async def main() -> None:
        assert await seen(False) == await seen(True)

    run_virtual("asyncio", main)


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"])
async def test_httpcore_continues_what_is_not_plain(before: bytes) -> None:
    """Cancelled at each wait, with a head in pieces: it is sent once, and nothing is lost."""
    data = before + head(200, length(TEXT))
    for at in range(1, len(data)):
        pipe = Pipe()
        exchange = exchange_on(pipe)
        for piece in (data[:at], data[at:]):
            with anyio.move_on_after(1):
                await exchange.send(OUTGOING)
            assert exchange.awaits_head
            pipe.feed(piece)
        await exchange.send(OUTGOING)
        assert exchange.status == 200
        assert pipe.sent.count(b"POST") == 1
        await exchange.aclose()


# --- the body ---


@pytest.mark.parametrize("framing", ["length", "chunked", "trailers"])
async def test_a_body_at_every_split(framing: str) -> None:
    data = wires(TEXT)[framing]
    for pieces in in_pieces(data):
        exchange, pipe = await begun(*[piece for piece in pieces if piece])
        assert await exchange.read_all(1000) == TEXT
        assert await exchange.read() == b""
        assert exchange.body_bytes == len(data) - data.index(b"\r\n\r\n") - 4
        await exchange.aclose()
        assert await went_back(exchange, pipe)


@pytest.mark.parametrize("framing", ["length", "chunked", "trailers"])
@pytest.mark.parametrize("coding", [None, "gzip"])
async def test_a_large_read_is_decoded_in_parts(framing: str, coding: str | None) -> None:
    text = b"".join(b"data: %d\n\n" % number for number in range(9000))
    body = text if coding is None else gzip.compress(text, 0)
    data = wires(body, *(GZIP if coding else ()))[framing]
    for size in (len(data), 3 * DECODED_AT_ONCE, DECODED_AT_ONCE + 1, DECODED_AT_ONCE):
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        exchange, pipe = await begun(*pieces)
        got: list[bytes] = []
        reads = 0
        while part := await exchange.read():
            got.append(part)
            reads += not exchange.goes_on
        assert b"".join(got) == text
        assert max(map(len, got)) <= DECODED_AT_ONCE + 1000  # what a decompressor had held back
        assert reads <= len(pieces)
        assert exchange.body_bytes == len(data) - data.index(b"\r\n\r\n") - 4
        await exchange.aclose()
        assert await went_back(exchange, pipe)


async def test_a_large_read_is_cut_where_a_chunk_ends() -> None:
    events = [b"data: %d %s\n\n" % (number, b"x" * (number % 300)) for number in range(500)]
    exchange, _ = await begun(head(200, CHUNKED) + b"".join(map(chunk, events)) + LAST_CHUNK)
    while part := await exchange.read():
        assert part.endswith(b"\n\n")
    await exchange.aclose()


async def test_a_fault_in_the_second_part_of_a_read() -> None:
    first = chunk(b"x" * DECODED_AT_ONCE)
    exchange, _ = await begun(head(200, CHUNKED) + first + b"no size\r\n")
    got = b""
    while len(got) < DECODED_AT_ONCE:
        got += await exchange.read()
    assert got == b"x" * DECODED_AT_ONCE
    for _ in range(2):
        with pytest.raises(FramingError):
            await exchange.read()
    await exchange.aclose()


async def test_a_part_that_nobody_reads_spoils_the_connection() -> None:
    exchange, pipe = await begun(
        head(200, CHUNKED) + chunk(b"x" * 3 * DECODED_AT_ONCE) + LAST_CHUNK + b"HTTP/1.1 200 OK"
    )
    await exchange.read()
    exchange.settle_nowait()
    await exchange.aclose(drain=True)
    assert not await went_back(exchange, pipe)


async def test_a_whole_body_is_read_over_many_calls() -> None:
    data = wires(TEXT)["chunked"]
    start = data.index(b"\r\n\r\n") + 4
    exchange, pipe = await begun(data[:start])
    assert exchange.collected == b""
    for n in range(start, len(data)):
        with anyio.move_on_after(0):
            await exchange.read_all(len(TEXT))
        assert TEXT.startswith(exchange.collected)
        pipe.feed(data[n : n + 1])
    assert await exchange.read_all(len(TEXT)) == exchange.collected == TEXT
    await exchange.aclose()
    assert await went_back(exchange, pipe)


async def test_a_body_that_ends_with_the_connection() -> None:
    data = head(200) + TEXT
    for pieces in in_pieces(data):
        exchange, pipe = await begun(*[piece for piece in pieces if piece], b"")
        assert await exchange.read_all(1000) == TEXT
        assert await exchange.read() == b""
        await exchange.aclose(drain=True)
        assert not await went_back(exchange, pipe)


@pytest.mark.parametrize("framing", ["length", "chunked", "trailers"])
async def test_a_body_cut_anywhere_is_a_failure_after_what_came(framing: str) -> None:
    data = wires(TEXT)[framing]
    start = data.index(b"\r\n\r\n") + 4
    for cut in range(start, len(data)):
        exchange, pipe = await begun(data[:cut], b"")
        got, fault = await read_until_a_fault(exchange)
        assert isinstance(fault, ConnectionFailed)
        assert "in the middle of the body" in str(fault)
        assert TEXT.startswith(got)
        assert len(got) >= cut - start - 24  # all but the framing
        # Never a clean end afterwards.
        for _ in range(2):
            with pytest.raises(ConnectionFailed):
                await exchange.read()
        await exchange.aclose()
        assert not await went_back(exchange, pipe)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_a_reset_is_a_failure_in_every_framing(framing: str) -> None:
    data = {**wires(TEXT), "close": head(200) + TEXT}[framing]
    exchange, pipe = await begun(data[:-6], ConnectionFailed("reset"))
    assert TEXT.startswith(await exchange.read())
    for _ in range(2):
        with pytest.raises(ConnectionFailed, match="reset"):
            await exchange.read()
    await exchange.aclose()
    assert not await went_back(exchange, pipe)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_responses_without_a_body(method: str) -> None:
    status = 200 if method == "HEAD" else 204
    pipe = Pipe(head(status, [("Content-Length", "100")] if method == "HEAD" else []))
    exchange = exchange_on(pipe)
    await exchange.send(Outgoing(RequestHead(method, "/", [(b"Host", b"a")]), b""))
    assert await exchange.read() == b""
    await exchange.aclose()
    assert await went_back(exchange, pipe)


async def test_a_body_above_the_bound() -> None:
    for bound, fits in ((len(TEXT), True), (len(TEXT) - 1, False)):
        exchange, _ = await begun(wires(TEXT)["chunked"])
        if fits:
            assert await exchange.read_all(bound) == TEXT
        else:
            with pytest.raises(BodyTooLarge, match=str(bound)):
                await exchange.read_all(bound)
        await exchange.aclose()


async def test_reading_on_after_the_deadline_loses_nothing() -> None:
    pipe = Pipe(head(200, length(TEXT)))
    exchange = exchange_on(pipe)
    await exchange.send(OUTGOING)
    exchange._deadline = Within(3)
    with pytest.raises(OutOfTime):
        await exchange.read()
    exchange._deadline = NoDeadline()
    pipe.feed(TEXT)
    assert await exchange.read() == TEXT
    await exchange.aclose()


async def test_every_read_ends_the_silence() -> None:
    class Counting(NoDeadline):
        count = 0

        def byte_arrived(self) -> None:
            self.count += 1

    pipe = Pipe(head(200, CHUNKED), b"5\r", b"\nhello\r\n0", b"\r\n\r\n")
    deadline = Counting()
    exchange = exchange_on(pipe, deadline)
    await exchange.send(OUTGOING)
    assert await exchange.read_all(100) == b"hello"
    assert deadline.count == 4
    await exchange.aclose()


# --- codings ---


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_compressed_body_at_every_split(framing: str, coding: str) -> None:
    coded = gzip.compress(TEXT, mtime=0) if coding == "gzip" else zlib.compress(TEXT)
    data = wires(coded)[framing]
    line = f"Content-Encoding: {coding}\r\n".encode()
    data = data.replace(b"\r\n", b"\r\n" + line, 1)
    for pieces in in_pieces(data):
        exchange, pipe = await begun(*[piece for piece in pieces if piece])
        assert await exchange.read_all(1000) == TEXT
        await exchange.aclose()
        assert await went_back(exchange, pipe)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("whole", [True, False])
async def test_compressed_data_that_ends_too_early(framing: str, whole: bool) -> None:
    """The message is whole, what is in it is not: all that can be decoded, then the failure."""
    compressor = zlib.compressobj(wbits=31)
    coded = compressor.compress(TEXT) + compressor.flush(zlib.Z_SYNC_FLUSH)
    data = {**wires(coded), "close": head(200) + coded}[framing]
    data = data.replace(b"\r\n", b"\r\nContent-Encoding: gzip\r\n", 1)
    pieces = [data] if whole else split(data, list(range(len(data))))
    exchange, _ = await begun(*pieces, b"")
    got, fault = await read_until_a_fault(exchange)
    assert isinstance(fault, ConnectionFailed)
    assert "compressed body ended too early" in str(fault)
    assert got == TEXT
    for _ in range(2):
        with pytest.raises(ConnectionFailed):
            await exchange.read()
    await exchange.aclose()


async def test_an_empty_compressed_body_is_empty() -> None:
    exchange, pipe = await begun(head(200, [*GZIP, *length(b"")]))
    assert await exchange.read() == b""
    await exchange.aclose()
    assert await went_back(exchange, pipe)


# --- faults ---


def faulty_bodies() -> dict[str, tuple[bytes, bytes, type[ValueError]]]:
    """Head and good part, faulty part, error."""
    packed = gzip.compress(TEXT, mtime=0)
    coded = zlib.compressobj(wbits=31)
    start = coded.compress(TEXT) + coded.flush(zlib.Z_SYNC_FLUSH)
    return {
        "chunk size": (head(200, CHUNKED) + chunk(TEXT), b"zz\r\n", FramingError),
        "chunk end": (head(200, CHUNKED) + chunk(TEXT)[:-2], b"XX", FramingError),
        "gzip": (head(200, [*GZIP, *CHUNKED]) + chunk(start), chunk(b"\xff" * 20), EncodingError),
        "gzip in bad chunks": (
            head(200, [*GZIP, *CHUNKED]) + chunk(packed), b"?\r\n", FramingError,
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", faulty_bodies())
async def test_the_good_part_comes_before_the_fault_whatever_the_splits(name: str) -> None:
    good, bad, error = faulty_bodies()[name]
    for pieces in in_pieces(good + bad):
        exchange, pipe = await begun(*[piece for piece in pieces if piece])
        got, fault = await read_until_a_fault(exchange)
        assert isinstance(fault, error)
        # zlib gives nothing of an input in which it meets a fault.
        assert TEXT.startswith(got) if name == "gzip" else got == TEXT
        for _ in range(2):
            with pytest.raises(error):
                await exchange.read()
        await exchange.aclose(drain=True)
        assert not await went_back(exchange, pipe)


# --- which connections go back ---


@pytest.mark.parametrize("framing", ["length", "chunked", "trailers"])
@pytest.mark.parametrize("how", ["joined", "apart", "unread"])
async def test_bytes_after_the_end_never_go_back(framing: str, how: str) -> None:
    """Response desynchronisation: they would be taken for the next answer."""
    after = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    data = wires(TEXT)[framing]
    exchange, pipe = await begun(*([data + after] if how == "joined" else [data, after]))
    if how != "unread":
        assert await exchange.read_all(1000) == TEXT
    await exchange.aclose(drain=True)
    assert not await went_back(exchange, pipe)


async def test_a_body_where_there_should_be_none() -> None:
    for data in (head(204) + b"x", head(200, length(b"")) + b"x"):
        exchange, pipe = await begun(data)
        assert await exchange.read() == b""
        await exchange.aclose(drain=True)
        assert not await went_back(exchange, pipe)


@pytest.mark.parametrize(
    "data",
    [
        head(200, [("Connection", "close"), *length(TEXT)]) + TEXT,
        (head(200, length(TEXT)) + TEXT).replace(b"HTTP/1.1", b"HTTP/1.0"),
        head(200, [*CHUNKED, *length(TEXT)]) + chunk(TEXT) + LAST_CHUNK,
    ],
    ids=["close", "1.0", "both framings"],
)
async def test_some_responses_are_the_last_of_their_connection(data: bytes) -> None:
    exchange, pipe = await begun(data)
    assert await exchange.read_all(1000) == TEXT
    await exchange.aclose(drain=True)
    assert not await went_back(exchange, pipe)


@pytest.mark.parametrize("read", [False, True])
async def test_left_early_it_is_closed(read: bool) -> None:
    exchange, pipe = await begun(head(200, CHUNKED) + chunk(TEXT))
    if read:
        await exchange.read()
    await exchange.aclose()
    await exchange.aclose()
    assert not await went_back(exchange, pipe)
    assert pipe.acloses == [0]


async def test_a_connection_that_ends_meanwhile_is_closed() -> None:
    exchange, pipe = await begun(wires(TEXT)["length"])
    await exchange.read_all(1000)
    pipe.feed(b"")
    await exchange.aclose()
    assert not await went_back(exchange, pipe)


async def test_after_the_client_has_closed_none_is_kept() -> None:
    exchange, pipe = await begun(wires(TEXT)["length"])
    await exchange.read_all(1000)
    await exchange._connections.aclose(1.0)
    await exchange.aclose()
    assert pipe.closed
    # Not only cut: a backend of the caller's own is closed by awaiting alone.
    assert pipe.acloses == [0]


# --- draining ---


@pytest.mark.parametrize("framing", ["length", "chunked", "trailers"])
async def test_the_end_may_be_a_moment_behind(framing: str) -> None:
    """The caller has [DONE], the rest of the message comes in time, whatever the splits."""
    data = wires(TEXT)[framing]
    start = data.index(b"\r\n\r\n") + 4
    for cut in range(start + 1, len(data)):
        exchange, pipe = await begun(data[:cut])
        await exchange.read() if cut > start + 4 else None
        async with anyio.create_task_group() as group:

            async def send(pipe: Pipe = pipe, rest: bytes = data[cut:]) -> None:
                pieces = split(rest, list(range(0, len(rest), 7)))
                for piece in pieces:
                    await anyio.sleep(DRAIN_SECONDS / (len(pieces) + 1))
                    pipe.feed(piece)

            group.start_soon(send)
            await exchange.aclose(drain=True)
        assert await went_back(exchange, pipe)


async def test_a_server_that_holds_the_connection_open_is_waited_for_a_moment() -> None:
    exchange, pipe = await begun(head(200, CHUNKED) + chunk(TEXT))
    await exchange.read()
    before = anyio.current_time()
    await exchange.aclose(drain=True)
    assert anyio.current_time() == before + DRAIN_SECONDS
    assert not await went_back(exchange, pipe)


async def test_a_server_that_never_stops_is_not_drained() -> None:
    exchange, pipe = await begun(head(200, CHUNKED) + chunk(TEXT))
    await exchange.read()
    before = anyio.current_time()
    pipe.incoming.extend([chunk(bytes(1000))] * 1000)
    left = len(pipe.incoming)
    # One read at a time, as a slow one would bring it.
    pipe.receive_nowait = lambda: b""  # type: ignore[method-assign]
    await exchange.aclose(drain=True)
    read = (left - len(pipe.incoming)) * 1000
    assert DRAIN_BYTES < read < DRAIN_BYTES + 3000
    assert anyio.current_time() == before
    assert not await went_back(exchange, pipe)


async def test_slow_bytes_do_not_stretch_the_moment() -> None:
    exchange, pipe = await begun(head(200, CHUNKED) + chunk(TEXT))
    await exchange.read()
    before = anyio.current_time()
    async with anyio.create_task_group() as group:

        async def drip() -> None:
            while True:
                await anyio.sleep(DRAIN_SECONDS / 3)
                pipe.feed(chunk(b"x"))

        group.start_soon(drip)
        await exchange.aclose(drain=True)
        group.cancel_scope.cancel()
    assert anyio.current_time() == pytest.approx(before + DRAIN_SECONDS)
    assert not await went_back(exchange, pipe)


@pytest.mark.parametrize(
    "item", [b"", b"junk\r\n", ConnectionFailed("reset"), ClosedLocally()], ids=repr
)
async def test_what_ends_a_drain(item: bytes | Exception) -> None:
    exchange, pipe = await begun(head(200, CHUNKED) + chunk(TEXT), item)
    await exchange.read()
    before = anyio.current_time()
    await exchange.aclose(drain=True)
    assert anyio.current_time() == before
    assert not await went_back(exchange, pipe)


async def test_without_drain_nothing_is_waited_for() -> None:
    exchange, pipe = await begun(head(200, CHUNKED) + chunk(TEXT), LAST_CHUNK)
    await exchange.read()
    await exchange.aclose()
    assert not await went_back(exchange, pipe)


async def test_a_last_message_of_its_connection_is_not_drained() -> None:
    exchange, pipe = await begun(head(200) + TEXT)
    await exchange.read()
    before = anyio.current_time()
    await exchange.aclose(drain=True)
    assert anyio.current_time() == before
    assert not await went_back(exchange, pipe)


def test_the_limits_of_a_drain() -> None:
    deadline = _DrainDeadline()
    deadline.check(1e9)
    deadline.byte_arrived()
    assert deadline.begin(10.0) == 10.0 + DRAIN_SECONDS
    assert deadline.begin(10.01) == 10.0 + DRAIN_SECONDS
    deadline.end(10.02)
    deadline.check(10.02)
    with pytest.raises(TimeoutError):
        deadline.check(10.0 + DRAIN_SECONDS)


# --- settling at once ---


async def test_settle_nowait_gives_back_what_is_over() -> None:
    exchange, pipe = await begun(head(200, CHUNKED) + chunk(TEXT), LAST_CHUNK)
    await exchange.read()
    exchange.settle_nowait()
    assert await went_back(exchange, pipe)
    await exchange.aclose(drain=True)
    exchange.close()
    exchange.settle_nowait()
    assert not pipe.closed


async def test_settle_nowait_takes_the_end_that_is_in_hand() -> None:
    data = head(200, CHUNKED) + chunk(TEXT)
    exchange, pipe = await begun(data + LAST_CHUNK)
    exchange.settle_nowait()
    assert await went_back(exchange, pipe)


async def test_settle_nowait_leaves_what_is_not_over_to_aclose() -> None:
    exchange, pipe = await begun(head(200, CHUNKED) + chunk(TEXT), LAST_CHUNK[:2])
    await exchange.read()
    exchange.settle_nowait()
    assert not exchange.settled
    pipe.feed(LAST_CHUNK[2:])
    await exchange.aclose(drain=True)
    assert await went_back(exchange, pipe)


@pytest.mark.parametrize("after", [b"evil", b"junk\r\n\r\n"])
async def test_settle_nowait_with_bytes_too_many(after: bytes) -> None:
    exchange, pipe = await begun(head(200, CHUNKED) + chunk(TEXT), LAST_CHUNK + after)
    await exchange.read()
    exchange.settle_nowait()
    assert not exchange.settled
    await exchange.aclose(drain=True)
    assert not await went_back(exchange, pipe)


async def test_settle_nowait_of_a_last_message() -> None:
    exchange, pipe = await begun(head(200) + TEXT, b"")
    exchange.settle_nowait()
    assert not exchange.settled
    # Nothing was taken from the reader.
    assert await exchange.read_all(1000) == TEXT
    await exchange.aclose()
    assert not await went_back(exchange, pipe)


async def test_close_cuts_at_once() -> None:
    exchange, pipe = await begun(head(200, CHUNKED) + chunk(TEXT))
    exchange.close()
    exchange.close()
    assert pipe.closed
    assert exchange.settled
    await exchange.aclose()
    assert pipe.acloses == []


async def test_closed_while_another_task_reads() -> None:
    for close in ("aclose", "close"):
        exchange, _ = await begun(head(200, CHUNKED))
        async with anyio.create_task_group() as group:

            async def read(exchange: Exchange = exchange) -> None:
                with pytest.raises(ClosedLocally):
                    await exchange.read()

            group.start_soon(read)
            await anyio.sleep(1)
            if close == "aclose":
                await exchange.aclose()
            else:
                exchange.close()


@pytest.mark.sampled(0.34)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("framing", ["length", "chunked", "held open"])
def test_a_sweep_of_cancellations_settles_the_connection(
    backend: BackendName, framing: str
) -> None:
    runs: list[tuple[Exchange, Pipe]] = []

    async def body() -> None:
        data = {**wires(TEXT), "held open": head(200, CHUNKED) + chunk(TEXT)}[framing]
        pipe = Pipe(*split(data, list(range(0, len(data), 9))))
        exchange = exchange_on(pipe)
        runs.append((exchange, pipe))
        got = b""
        try:
            await exchange.send(OUTGOING)
            while len(got) < len(TEXT):
                got += await exchange.read()
        finally:
            await exchange.aclose(drain=True)  # noqa: ASYNC102

    def check(point: int, mode: str) -> None:
        exchange, pipe = runs[-1]
        assert exchange.settled
        assert pipe.closed != bool(exchange._connections._idle)
        if pipe.closed:
            assert not exchange._connections._idle

    points = cancel_sweep(backend, body, check=check)
    assert min(points.values()) >= 5


# --- everything at once ---

texts = st.binary(max_size=300)


@given(
    texts,
    st.sampled_from(["length", "chunked", "trailers", "close"]),
    st.booleans(),
    st.lists(st.integers(1, 700), max_size=15),
    st.sampled_from([b"", b"x", b"HTTP/1.1 200 OK\r\n\r\n"]),
    st.integers(0, 30),
)
def test_any_response_in_any_splits_with_cancelled_reads(
    text: bytes,
    framing: str,
    packed: bool,
    places: list[int],
    after: bytes,
    patience: int,
) -> None:
    coded = gzip.compress(text, mtime=0) if packed else text
    data = {**wires(coded), "close": head(200) + coded}[framing]
    if packed:
        data = data.replace(b"\r\n", b"\r\nContent-Encoding: gzip\r\n", 1)
    if framing != "close":
        data += after

    async def main() -> None:
        pieces = split(data, places)
        pipe = Pipe()
        exchange = exchange_on(pipe)

        async def play() -> None:
            for piece in pieces:
                await anyio.sleep(7)
                pipe.feed(piece)
            pipe.feed(b"") if framing == "close" else None

        async with anyio.create_task_group() as group:
            group.start_soon(play)
            await exchange.send(OUTGOING)
            got = b""
            while True:
                with anyio.move_on_after(patience or None) as scope:
                    new = await exchange.read()
                if scope.cancelled_caught:
                    continue
                if not new:
                    break
                got += new
            assert got == text
        await exchange.aclose()
        assert await went_back(exchange, pipe) == (framing != "close" and not after)

    run_virtual("asyncio", main)
