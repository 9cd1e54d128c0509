"""Promise 14: what comes after the end of a response is never taken for the next answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

import penstock
from penstock import AsyncClient
from penstock.testing.replies import completion, json_reply, sse_reply
from penstock.testing.script import End, Pause, Player, RecordedRequest, Reply, Reset, Send, reply
from penstock.testing.server import serve
from tests.support.chat import REQUEST, client_of

from .recorded import FINISH, PLAIN, delta, text_of

pytestmark = pytest.mark.anyio

tcp_and_tls = pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])

# Another's answer, with which an attacker or a broken proxy would fill in.
EVIL_STREAM = sse_reply([delta("evil"), FINISH]).data
EVIL_WHOLE = json_reply(completion("evil")).data
TAILS = {
    "a line end": b"\r\n",
    "a byte": b"x",
    "zeros": b"0\r\n\r\n",
    "a stream": EVIL_STREAM,
    "an answer": EVIL_WHOLE,
    "half a head": EVIL_WHOLE[:9],
}


async def streamed(client: AsyncClient) -> str:
    async with client.chat.completions.stream(**REQUEST) as stream:
        return text_of(await stream.collect()).choices[0]


async def bare(client: AsyncClient) -> str:
    return "".join([text async for text in client.chat.completions.stream(**REQUEST).text])


async def created(client: AsyncClient) -> str:
    return text_of(await client.chat.completions.create(**REQUEST)).choices[0]


WAYS: list[Callable[[AsyncClient], Awaitable[str]]] = [streamed, bare, created]


def answer(request: RecordedRequest, *, chunked: bool = True) -> Reply:
    """The number of the connection, in the form that was asked for."""
    text = f"on {request.connection}"
    if request.json.get("stream"):
        return sse_reply([delta(text), FINISH], chunked=chunked)
    return json_reply(completion(text), chunked=chunked)


@pytest.mark.sampled(0.34)
@tcp_and_tls
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "length"])
@pytest.mark.parametrize("tail", TAILS)
async def test_bytes_right_behind_the_end(
    tail: str, chunked: bool, way: Callable[[AsyncClient], Awaitable[str]], tls: bool
) -> None:
    def script(request: RecordedRequest) -> Reply:
        whole = answer(request, chunked=chunked)
        if request.connection == 0:
            return reply(whole.data + TAILS[tail])
        return whole

    async with serve(script, tls=tls) as server, client_of(server, max_retries=0) as client:
        assert await way(client) == "on 0"
        assert await way(client) == "on 1"
        assert await way(client) == "on 1"
        assert [request.connection for request in server.requests] == [0, 1, 1]
        await server.wait_closed(1)


@tcp_and_tls
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("tail", TAILS)
async def test_bytes_on_an_idle_connection(
    tail: str, way: Callable[[AsyncClient], Awaitable[str]], tls: bool
) -> None:
    def script(request: RecordedRequest) -> Reply:
        whole = answer(request)
        if request.connection == 0:
            return whole.then(Pause(0.005), Send(TAILS[tail]))
        return whole

    async with serve(script, tls=tls) as server, client_of(server, max_retries=0) as client:
        assert await way(client) == "on 0"
        whole = len(answer(server.requests[0]).data)
        while server.connections[0].bytes_sent < whole + len(TAILS[tail]):  # noqa: ASYNC110 - of the server's
            await anyio.sleep(0.001)
        await anyio.sleep(0.01)
        assert await way(client) == "on 1"
        assert await way(client) == "on 1"


@tcp_and_tls
@pytest.mark.parametrize("end", [End(), Reset()], ids=["end", "reset"])
@pytest.mark.parametrize("way", WAYS)
async def test_an_idle_connection_that_ended(
    way: Callable[[AsyncClient], Awaitable[str]], end: End | Reset, tls: bool
) -> None:
    def script(request: RecordedRequest) -> Reply:
        whole = answer(request)
        return whole.then(Pause(0.005), end) if request.connection == 0 else whole

    async with serve(script, tls=tls) as server, client_of(server, max_retries=0) as client:
        assert await way(client) == "on 0"
        while server.connections[0].ended is None:  # noqa: ASYNC110 - of the server's
            await anyio.sleep(0.001)
        await anyio.sleep(0.01)
        # Without any retry: it is seen, not tried.
        assert await way(client) == "on 1"
        assert [request.connection for request in server.requests] == [0, 1]


@tcp_and_tls
@pytest.mark.parametrize("where", ["head", "body"])
async def test_a_second_answer_in_other_segments(where: str, tls: bool) -> None:
    def script(request: RecordedRequest) -> Reply:
        whole = answer(request)
        if request.connection:
            return whole
        data = whole.data + EVIL_STREAM
        at = {"head": 30, "body": len(whole.data) - 20}[where]
        return reply(data[:at], data[at:])

    async with serve(script, tls=tls) as server:
        for _ in range(5):
            async with client_of(server, max_retries=2) as client:
                for _ in range(3):
                    assert (await streamed(client)).startswith("on ")


@tcp_and_tls
async def test_many_at_once(tls: bool) -> None:
    # Every connection is filled in with another's answer; nobody ever gets one of those.
    def script(request: RecordedRequest) -> Reply:
        whole = answer(request)
        return reply(whole.data + EVIL_STREAM) if request.connection % 2 else whole

    async with serve(script, tls=tls) as server, client_of(server, max_retries=1) as client:
        said: list[str] = []

        async def use() -> None:
            for _ in range(5):
                said.append(await streamed(client))

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(use)
        assert len(said) == 40
        assert "evil" not in said


@tcp_and_tls
@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n",
        b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: x, Close\r\n",
    ],
)
async def test_who_says_close_is_believed(head: bytes, tls: bool) -> None:
    body = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n'
    whole = reply(head + b"content-length: %d\r\n\r\n" % len(body) + body)
    async with serve(whole, tls=tls) as server, client_of(server, max_retries=0) as client:
        for n in range(3):
            assert await streamed(client) == "a"
            assert len(server.connections) == n + 1
            await server.wait_closed(n + 1)


@tcp_and_tls
@pytest.mark.parametrize(
    "headers",
    [
        # RFC 9112, 6.1 and 6.3: two ways to say where a message ends, or none.
        b"content-length: 5\r\ntransfer-encoding: chunked\r\n",
        b"content-length: 5\r\ncontent-length: 6\r\n",
        b"content-length: 5, 6\r\n",
        b"transfer-encoding: gzip, chunked\r\n",
        b"transfer-encoding: chunked, chunked\r\n",
        b"transfer-encoding: identity\r\n",
        b"content-length: +5\r\n",
        b"content-length: 0x5\r\n",
    ],
)
async def test_a_doubtful_end_is_the_end_of_the_connection(headers: bytes, tls: bool) -> None:
    body = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n'
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    start = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"

    def script(request: RecordedRequest) -> Reply:
        if request.connection == 0:
            return reply(start + headers + b"\r\n" + chunks)
        return answer(request)

    async with serve(script, tls=tls) as server, client_of(server, max_retries=0) as client:
        try:
            await streamed(client)
        except penstock.PenstockError:
            pass
        assert await streamed(client) == "on 1"
        await server.wait_closed(1)


@tcp_and_tls
async def test_a_switch_of_protocols_is_the_end_of_the_connection(tls: bool) -> None:
    switched = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"

    def script(request: RecordedRequest) -> Reply:
        return reply(switched) if request.connection == 0 else answer(request)

    async with serve(script, tls=tls) as server, client_of(server, max_retries=0) as client:
        with pytest.raises(penstock.PenstockError):
            await streamed(client)
        assert await streamed(client) == "on 1"


@tcp_and_tls
@pytest.mark.parametrize("status", [204, 304])
async def test_a_body_where_there_can_be_none(status: int, tls: bool) -> None:
    def script(request: RecordedRequest) -> Reply:
        if request.connection == 0:
            return reply(b"HTTP/1.1 %d x\r\ncontent-length: 4\r\n\r\nevil" % status)
        return answer(request)

    async with serve(script, tls=tls) as server, client_of(server, max_retries=0) as client:
        with pytest.raises(penstock.PenstockError):
            await streamed(client)
        assert await streamed(client) == "on 1"


@tcp_and_tls
async def test_an_answer_before_the_question(tls: bool) -> None:
    # Informational heads belong to the answer; a second final head does not.
    early = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    script = Player([reply(early + sse_reply(PLAIN).data), sse_reply(PLAIN)])
    async with (
        serve(script.reply_to, tls=tls) as server,
        client_of(server, max_retries=0) as client,
    ):
        assert await streamed(client) == "Héllo"
        assert await streamed(client) == "Héllo"
        assert len(server.connections) == 1


@tcp_and_tls
async def test_an_error_body_that_was_cut_off_by_us(tls: bool) -> None:
    # What is not read to its end is not used again.
    big = b"x" * (2 * 1024 * 1024)

    def script(request: RecordedRequest) -> Reply:
        if request.connection == 0:
            return reply(b"HTTP/1.1 400 no\r\ncontent-length: %d\r\n\r\n" % len(big) + big)
        return answer(request)

    async with serve(script, tls=tls) as server, client_of(server, max_retries=0) as client:
        with pytest.raises(penstock.BadRequestError):
            await streamed(client)
        assert await streamed(client) == "on 1"


@tcp_and_tls
async def test_left_in_the_middle_is_not_used_again(tls: bool) -> None:
    def script(request: RecordedRequest) -> Reply:
        return sse_reply([delta(f"on {request.connection}"), Pause(0.002), *PLAIN])

    async with serve(script, tls=tls) as server, client_of(server, max_retries=0) as client:
        for n in range(4):
            async with client.chat.completions.stream(**REQUEST) as stream:
                assert await anext(stream.text) == f"on {n}"
            await server.wait_closed(n + 1)


@tcp_and_tls
async def test_done_and_then_more(tls: bool) -> None:
    # [DONE] ends the answer, but the message goes on: it may not be left in the connection.
    for more in (b": ping\n\n", b"data: x\n\n" * 20_000):
        body = sse_reply([delta("a"), FINISH]).data
        end = body.rindex(b"0\r\n\r\n")
        extra = b"%x\r\n%b\r\n" % (len(more), more)
        whole = body[:end] + extra + body[end:]

        def script(request: RecordedRequest, whole: bytes = whole) -> Reply:
            return reply(whole) if request.connection == 0 else answer(request)

        async with serve(script, tls=tls) as server, client_of(server, max_retries=0) as client:
            assert await streamed(client) == "a"
            second = await streamed(client)
            assert second == ("a" if len(more) < 100 else "on 1") or second == "a"
