"""A peer that sends ever so little, ever so slowly, holds nobody beyond the deadlines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

import penstock
from penstock import AsyncClient, Limiter, Timeouts
from penstock._call.refusal import ERROR_BODY_SECONDS
from penstock.testing.cuts import drip
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import chunk, completion, head, json_reply, sse_event, tokens
from penstock.testing.script import Pause, Repeat, Reply, Stall, reply
from tests.support.chat import REQUEST, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\n"
JSON = {"content-type": "application/json", "transfer-encoding": "chunked"}
EVENTS = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}
GZIP = {**EVENTS, "content-encoding": "gzip"}
ROLE = sse_event(tokens()[0])
# The empty blocks of which deflate may have any number (RFC 1951, 3.2.4), after a gzip header.
GZIP_BEGIN, NOTHING = b"\x1f\x8b\x08" + bytes(6) + b"\xff", b"\x00\x00\x00\xff\xff"

HEADS: dict[str, Reply] = {
    "head": reply(OK, Repeat(b"a", every=1)),
    "lines of a head": reply(OK, Repeat(b"x-a: b\r\n", every=1)),
    "status line": reply(b"HTTP/1.1 200 ", Repeat(b"O", every=1)),
    "informational heads": reply(Repeat(b"HTTP/1.1 100 Continue\r\n\r\n", every=1)),
    "processing": reply(Repeat(b"HTTP/1.1 102 Processing\r\n\r\n", every=1)),
}
BODIES: dict[str, Reply] = {
    "one event": reply(head(200, EVENTS), chunk(b"data: {"), Repeat(chunk(b" "), every=1)),
    "pings": reply(head(200, EVENTS), Repeat(chunk(b": ping\n\n"), every=1)),
    "empty lines": reply(head(200, EVENTS), Repeat(chunk(b"\n"), every=1)),
    "roles": reply(head(200, EVENTS), Repeat(chunk(ROLE), every=1)),
    "size of a chunk": reply(head(200, EVENTS), Repeat(b"0", every=1)),
    "extension of a chunk": reply(head(200, EVENTS), b"1;", Repeat(b"a", every=1)),
    "trailers": reply(head(200, EVENTS), b"0\r\n", Repeat(b"a: b\r\n", every=1)),
    "trailer": reply(head(200, EVENTS), b"0\r\na: ", Repeat(b"b", every=1)),
    "compressed nothing": reply(
        head(200, GZIP), chunk(GZIP_BEGIN), Repeat(chunk(NOTHING), every=1)
    ),
    "no content type": reply(
        head(200, {"transfer-encoding": "chunked"}), Repeat(chunk(b" "), every=1)
    ),
}
WHOLE: dict[str, Reply] = {
    "whole body": reply(head(200, JSON), Repeat(chunk(b" "), every=1)),
    "whole body with a length": reply(
        head(200, {"content-type": "application/json", "content-length": "100000"}),
        Repeat(b" ", every=1),
    ),
    "whole body by one byte": drip(json_reply(completion("Hi")), every=1),
}

Way = Callable[[AsyncClient], Awaitable[object]]
STREAMED: dict[str, Way] = {
    "complete": lambda client: client.complete(REQUEST),
    "stream": lambda client: client.chat.completions.stream(**REQUEST).collect(),
}
UNSTREAMED: dict[str, Way] = {
    "create": lambda client: client.chat.completions.create(**REQUEST),
    "models": lambda client: client.models.list(),
    "request": lambda client: client.request("GET", "/x"),
}
ANY_WAY = STREAMED | UNSTREAMED
SILENT = HEADS | BODIES


async def ends(
    script: Reply, way: Way, timeouts: Timeouts, error: type[penstock.PenstockError], at: float
) -> None:
    """It ends with this error at this moment, and nothing is held after it."""
    limiter = Limiter(1)
    network = MemoryNetwork(script)
    async with client_on(network, timeouts=timeouts, limiter=limiter) as client:
        start = anyio.current_time()
        with pytest.raises(error) as caught:
            await way(client)
        assert type(caught.value) is error
        assert anyio.current_time() - start == pytest.approx(at, abs=1e-6)
        assert network.open_connections == 0
        assert limiter.statistics().in_flight == 0
    assert len(network.requests) == 1


@pytest.mark.parametrize("way", ANY_WAY)
@pytest.mark.parametrize("kind", HEADS)
async def test_a_head_ends_at_the_total(kind: str, way: str) -> None:
    do = ANY_WAY[way]
    await ends(HEADS[kind], do, Timeouts(total=30.5), penstock.TotalTimeout, 30.5)


@pytest.mark.parametrize("way", STREAMED)
@pytest.mark.parametrize("kind", SILENT)
async def test_no_bytes_but_tokens_put_off_the_first_token(kind: str, way: str) -> None:
    script = SILENT[kind]
    timeouts = Timeouts(first_token=20.5, total=40)
    await ends(script, STREAMED[way], timeouts, penstock.FirstTokenTimeout, 20.5)


@pytest.mark.parametrize("way", STREAMED)
@pytest.mark.parametrize("kind", BODIES)
async def test_a_stream_ends_at_the_total(kind: str, way: str) -> None:
    await ends(BODIES[kind], STREAMED[way], Timeouts(total=30.5), penstock.TotalTimeout, 30.5)


@pytest.mark.parametrize("kind", ["one event", "pings", "empty lines", "roles"])
async def test_no_bytes_but_tokens_put_off_the_next_one(kind: str) -> None:
    first, *others = BODIES[kind].steps
    token = reply(chunk(sse_event(tokens("Hi", role_first=False)[0])))
    script = Reply((first, *token.steps, *others))
    timeouts = Timeouts(idle=20.5, total=40)
    await ends(script, STREAMED["complete"], timeouts, penstock.IdleTimeout, 20.5)


@pytest.mark.parametrize("way", UNSTREAMED)
@pytest.mark.parametrize("kind", WHOLE)
async def test_a_whole_body_ends_at_the_total(kind: str, way: str) -> None:
    await ends(WHOLE[kind], UNSTREAMED[way], Timeouts(total=30.5), penstock.TotalTimeout, 30.5)


@pytest.mark.parametrize("way", ANY_WAY)
async def test_tokens_that_drip_end_at_the_total(way: str) -> None:
    token = chunk(sse_event(tokens("a", role_first=False)[0]))
    script = reply(head(200, EVENTS), Repeat(token, every=1))
    do = ANY_WAY[way]
    timeouts = Timeouts(idle=2, first_token=2, total=30.5)
    await ends(script, do, timeouts, penstock.TotalTimeout, 30.5)


@pytest.mark.parametrize("way", ANY_WAY)
@pytest.mark.parametrize("status", [400, 401, 429, 503])
async def test_an_error_body_that_drips_is_waited_for_a_little(status: int, way: str) -> None:
    drips = Repeat(chunk(b" "), every=1)
    for end in (drips, Stall()):
        network = MemoryNetwork(reply(head(status, JSON), chunk(b'{"error":'), end))
        limiter = Limiter(1)
        async with client_on(network, max_retries=0, limiter=limiter) as client:
            start = anyio.current_time()
            with pytest.raises(penstock.APIStatusError) as caught:
                await ANY_WAY[way](client)
            assert caught.value.status_code == status
            assert str(caught.value.body).startswith('{"error":')
            assert anyio.current_time() - start == pytest.approx(ERROR_BODY_SECONDS, abs=1e-6)
            assert limiter.statistics().in_flight == 0
        assert network.open_connections == 0


async def test_broken_off_waits_do_not_put_off_the_end_of_an_error_body() -> None:
    drips = Repeat(chunk(b" "), every=1)
    refusal = reply(head(400, JSON), chunk(b'{"error":'), drips)
    network = MemoryNetwork(refusal)
    async with client_on(network) as client:
        start = anyio.current_time()
        stream = client.chat.completions.stream(**REQUEST)
        for _ in range(2):
            with anyio.move_on_after(3.5) as scope:
                await anext(stream)
            assert scope.cancelled_caught
        with pytest.raises(penstock.BadRequestError):
            await anext(stream)
        assert anyio.current_time() - start == pytest.approx(ERROR_BODY_SECONDS, abs=1e-6)
    assert len(network.requests) == 1


async def test_each_attempt_has_time_for_its_error_body() -> None:
    refusal = reply(head(503, JSON), chunk(b'{"error":'), Stall())
    late = reply(head(400, JSON), Pause(8), chunk(b'{"error":"at last"}'), b"0\r\n\r\n")
    network = MemoryNetwork([refusal, late])
    async with client_on(network) as client:
        with pytest.raises(penstock.BadRequestError, match="at last"):
            await client.complete(REQUEST)
    assert len(network.requests) == 2


async def test_an_error_body_is_no_excuse_to_go_beyond_the_deadlines() -> None:
    script = reply(head(400, JSON), chunk(b'{"error":'), Repeat(chunk(b" "), every=1))
    await ends(script, ANY_WAY["create"], Timeouts(total=5.5), penstock.TotalTimeout, 5.5)
    for timeouts in (Timeouts(first_token=5.5), Timeouts(read=0.5)):
        network = MemoryNetwork(script)
        async with client_on(network, timeouts=timeouts) as client:
            start = anyio.current_time()
            with pytest.raises(penstock.BadRequestError):
                await client.complete(REQUEST)
            assert anyio.current_time() - start <= 5.5 + 1e-6


# --- before the request is out ---


PROXY_HEADS = {
    "head": reply(OK, Repeat(b"a", every=1)),
    "informational heads": reply(Repeat(b"HTTP/1.1 100 Continue\r\n\r\n", every=1)),
    "nothing": reply(Stall()),
}


@pytest.mark.parametrize("kind", PROXY_HEADS)
async def test_a_proxy_that_drips_ends_at_the_connect(kind: str) -> None:
    network = MemoryNetwork(PROXY_HEADS[kind])
    async with client_on(
        network,
        "https://api.test/v1",
        proxy="http://proxy.test",
        timeouts=Timeouts(connect=7.5),
        max_retries=0,
    ) as client:
        start = anyio.current_time()
        with pytest.raises(penstock.ConnectTimeout):
            await client.complete(REQUEST)
        assert anyio.current_time() - start == pytest.approx(7.5, abs=1e-6)
    assert network.open_connections == 0


# --- after the answer ---


async def test_what_drips_behind_the_answer_is_not_waited_for() -> None:
    answer = b"".join(chunk(sse_event(event)) for event in tokens("Hi"))
    answer += chunk(sse_event("[DONE]"))
    network = MemoryNetwork(reply(head(200, EVENTS) + answer, Repeat(chunk(b"\n"), every=0.01)))
    async with client_on(network) as client:
        start = anyio.current_time()
        assert (await client.complete(REQUEST)).choices[0].message.content == "Hi"
        assert anyio.current_time() - start < 0.1
        assert network.open_connections == 0
