"""The transports in use, under the clients of both generations of httpx."""

from __future__ import annotations

import copy
import gc
import gzip
import inspect
import pickle
from typing import Any

import anyio
import pytest

import penstock
from penstock import Limiter, StreamState, Timeouts
from penstock.compat._plan import PLAN, STREAM, Plan
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import error_reply, sse_reply, status_reply, tokens
from penstock.testing.script import End, Pause, Reply, Reset, Send, Stall
from tests.support.chat import Watcher
from tests.support.compat import Generation, client_on
from tests.support.event_streams import KINDS
from tests.support.sweeps import EVERYTHING

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n"
SLOW = Reply((Send(HEAD), Pause(1), Send(b"abc"), Pause(1), Send(b"def")))
HANGING = Reply((Send(HEAD + b"abc"), Stall()))
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize("name", ["AsyncTransport", "Transport"])
async def test_the_keywords(generation: Generation, name: str) -> None:
    parameters = inspect.signature(getattr(generation.ours, name)).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    assert defaults == dict.fromkeys(
        ("timeouts", "limiter", "observer", "proxy", "ssl_context", "uds", "network")
    ) | {"check_streams": True}
    assert all(each.kind is inspect.Parameter.KEYWORD_ONLY for each in parameters.values())


async def test_a_response_as_it_came(generation: Generation) -> None:
    head = (
        b"HTTP/1.1 207 Half  Done\r\nX-One: 1\r\nSet-Cookie: a=1\r\nx-one: 2\r\n"
        b"set-cookie: b=2\r\nContent-Length: 3\r\n\r\n"
    )
    network = MemoryNetwork(Reply((Send(head + b"abc"),)))
    async with client_on(generation, network) as client:
        response = await client.put("/x?y=%20z", content=b"body", headers={"X-Mine": "1"})
        assert (response.status_code, response.reason_phrase) == (207, "Half  Done")
        assert response.http_version == "HTTP/1.1"
        assert response.headers.raw == [
            (b"X-One", b"1"),
            (b"Set-Cookie", b"a=1"),
            (b"x-one", b"2"),
            (b"set-cookie", b"b=2"),
            (b"Content-Length", b"3"),
        ]
        assert response.content == b"abc"
        assert dict(client.cookies) == {"a": "1", "b": "2"}
    [request] = network.requests
    assert (request.method, request.target, request.body) == ("PUT", "/v1/x?y=%20z", b"body")
    assert request.headers["x-mine"] == "1"
    assert request.headers["host"] == "api.test"
    assert len(network.connections) == 1


async def test_raw_bytes_keep_their_content_coding(generation: Generation) -> None:
    packed = gzip.compress(b"abc" * 100)
    network = MemoryNetwork(status_reply(200, packed, {"content-encoding": "gzip"}))
    async with client_on(generation, network) as client:
        assert (await client.get("/x")).content == b"abc" * 100
        async with client.stream("GET", "/x") as response:
            assert response.headers["content-encoding"] == "gzip"
            assert b"".join([piece async for piece in response.aiter_raw()]) == packed


@pytest.mark.parametrize(
    ("method", "reply"),
    [
        ("HEAD", Reply((Send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n"),))),
        ("GET", Reply((Send(b"HTTP/1.1 204 No Content\r\n\r\n"),))),
        ("GET", Reply((Send(b"HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n"),))),
        (
            "GET",
            Reply(
                (
                    Send(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"),
                    Send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
                )
            ),
        ),
    ],
)
async def test_responses_without_a_body(generation: Generation, method: str, reply: Reply) -> None:
    network = MemoryNetwork(reply)
    async with client_on(generation, network) as client:
        for _ in range(2):
            response = await client.request(method, "/x")
            assert response.content == b""
            assert response.status_code in (200, 204, 304)
    assert len(network.connections) == 1


async def test_redirects_to_another_server(generation: Generation) -> None:
    there = status_reply(302, b"", {"location": "http://other.test:8080/there"})
    network = MemoryNetwork([there, status_reply(200, b"here")])
    async with client_on(generation, network) as client:
        response = await client.get("/x", follow_redirects=True)
        assert response.text == "here"
        assert str(response.url) == "http://other.test:8080/there"
    assert [request.headers["host"] for request in network.requests] == [
        "api.test",
        "other.test:8080",
    ]


async def test_leaving_a_response_closes_its_connection(generation: Generation) -> None:
    network = MemoryNetwork(HANGING)
    async with client_on(generation, network, limiter=(limiter := Limiter(1))) as client:
        async with client.stream("GET", "/x") as response:
            assert limiter.statistics().in_flight == 1
            assert response.status_code == 200
        assert network.open_connections == 0
        assert limiter.statistics().in_flight == 0


async def test_a_cancelled_read_closes_the_connection(generation: Generation) -> None:
    network = MemoryNetwork(HANGING)
    async with client_on(generation, network, limiter=(limiter := Limiter(1))) as client:
        request = client.build_request("GET", "/x")
        response = await client.send(request, stream=True)
        with anyio.move_on_after(1) as scope:
            await response.aread()
        assert scope.cancelled_caught
        assert network.open_connections == 0
        assert limiter.statistics().in_flight == 0


async def test_a_dropped_response_is_given_up_in_silence(generation: Generation) -> None:
    network = MemoryNetwork(HANGING)
    async with client_on(generation, network, limiter=(limiter := Limiter(1))) as client:
        response = await client.send(client.build_request("GET", "/x"), stream=True)
        assert network.open_connections == 1
        del response
        gc.collect()  # httpx's responses refer to themselves
        assert limiter.statistics().in_flight == 0


@pytest.mark.parametrize(
    ("reply", "kind", "cause"),
    [
        (Reply((Send(HEAD + b"abc"), End())), "RemoteProtocolError", "StreamInterruptedError"),
        (Reply((Send(HEAD + b"abc"), Stall())), "ReadTimeout", "ReadTimeout"),
        (Reply((End(),)), "RemoteProtocolError", "APIConnectionError"),
        (Reply((Stall(),)), "ReadTimeout", "ReadTimeout"),
        (Reply((Send(b"SMTP\r\n\r\n"),)), "RemoteProtocolError", "APIResponseError"),
    ],
)
async def test_failures_are_errors_of_httpx(
    generation: Generation, reply: Reply, kind: str, cause: str
) -> None:
    network = MemoryNetwork(reply)
    async with client_on(generation, network, timeout=3) as client:
        with pytest.raises(getattr(generation.httpx, kind)) as caught:
            await client.get("/x")
        assert type(caught.value.__cause__) is getattr(penstock, cause)
        assert caught.value.request.url.path == "/v1/x"
        assert network.open_connections == 0
    assert len(network.requests) == 1


async def test_the_wait_for_a_slot_is_a_pool_timeout(generation: Generation) -> None:
    network = MemoryNetwork(HANGING)
    timeout = generation.httpx.Timeout(None, pool=2)
    async with (
        client_on(generation, network, limiter=Limiter(1), timeout=timeout) as client,
        client.stream("GET", "/x"),
    ):
        before = anyio.current_time()
        with pytest.raises(generation.httpx.PoolTimeout):
            await client.get("/x")
        assert anyio.current_time() - before == 2


async def test_the_stricter_timeout_holds(generation: Generation) -> None:
    network = MemoryNetwork(HANGING)
    for ours, theirs in ((2, 5), (5, 2), (None, 2), (2, None)):
        timeouts = Timeouts(read=ours)
        async with client_on(generation, network, timeouts=timeouts, timeout=theirs) as client:
            before = anyio.current_time()
            with pytest.raises(generation.httpx.ReadTimeout):
                await client.get("/x")
            assert anyio.current_time() - before == 2


async def test_a_refusal_is_a_response_and_pauses_the_limiter(generation: Generation) -> None:
    refusal = error_reply(429, "slow down", headers={"retry-after": "7"})
    network = MemoryNetwork([refusal, status_reply(200, b"ok")])
    async with client_on(generation, network, limiter=Limiter(5)) as client:
        response = await client.get("/x")
        assert response.status_code == 429
        assert response.json()["error"]["message"] == "slow down"
        before = anyio.current_time()
        assert (await client.get("/x")).text == "ok"
        assert anyio.current_time() - before == 7
    assert len(network.requests) == 2


async def test_after_its_end_a_transport_says_so(generation: Generation) -> None:
    network = MemoryNetwork(HANGING)
    transport = generation.ours.AsyncTransport(network=network)
    client = generation.httpx.AsyncClient(transport=transport, base_url="http://api.test")
    response = await client.send(client.build_request("GET", "/x"), stream=True)
    await transport.aclose()
    await transport.aclose()
    assert network.open_connections == 0
    with pytest.raises(generation.httpx.ReadError):
        await response.aread()
    with pytest.raises(RuntimeError, match="transport has been closed"):
        await client.get("/x")
    assert "closed" in repr(transport)


async def test_a_transport_is_not_copied(generation: Generation) -> None:
    for transport in (generation.ours.AsyncTransport(), generation.ours.Transport()):
        for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="transport cannot be pickled or copied"):
                attempt(transport)


# --- with a plan ---


def planned(client: Any, plan: Plan, **body: Any) -> Any:
    return client.build_request(
        "POST", "/chat/completions", json={**CHAT, **body}, extensions={PLAN: plan}
    )


async def test_a_planned_request_gives_a_completion_stream(generation: Generation) -> None:
    network = MemoryNetwork([error_reply(500), sse_reply(tokens("Hel", "lo"))])
    async with client_on(generation, network) as client:
        response = await client.send(planned(client, Plan(max_retries=2)), stream=True)
        assert response.status_code == 200
        assert response.extensions["penstock.attempts"] == 2
        stream = response.extensions[STREAM]
        assert isinstance(stream, penstock.CompletionStream)
        assert "".join([piece async for piece in stream.text]) == "Hello"
        assert stream.state is StreamState.COMPLETED
        await response.aclose()
    assert len(network.requests) == 2


async def test_a_planned_stream_read_as_bytes(generation: Generation) -> None:
    network = MemoryNetwork(sse_reply(tokens("Hel", "lo")))
    async with client_on(generation, network) as client:
        plain = await client.post("/chat/completions", json=CHAT)
        again = await client.send(planned(client, Plan()))
        assert again.content == plain.content


async def test_a_planned_request_that_is_refused(generation: Generation) -> None:
    network = MemoryNetwork(error_reply(429, "slow down"))
    async with client_on(generation, network) as client:
        response = await client.send(planned(client, Plan(max_retries=1)))
        assert response.status_code == 429
        assert response.json()["error"]["message"] == "slow down"
        assert int(response.headers["content-length"]) == len(response.content)
        assert STREAM not in response.extensions
    assert len(network.requests) == 2
    assert network.open_connections == 0


async def test_a_plan_says_what_is_raised(generation: Generation) -> None:
    network = MemoryNetwork(Reply((Send(HEAD + b"ab"), Reset())))
    plan = Plan(raises=lambda error: KeyError(type(error).__name__), stream=False)
    async with client_on(generation, network) as client:
        with pytest.raises(KeyError, match="StreamInterruptedError") as caught:
            await client.send(planned(client, plan))
        assert isinstance(caught.value.__cause__, penstock.StreamInterruptedError)


async def test_a_planned_whole_answer_is_sent_again(generation: Generation) -> None:
    network = MemoryNetwork(
        [Reply((Reset(),)), status_reply(200, gzip.compress(b"{}"), {"content-encoding": "gzip"})]
    )
    async with client_on(generation, network) as client:
        response = await client.send(planned(client, Plan(stream=False, max_retries=1)))
        assert response.json() == {}
        assert not {"content-encoding", "content-length"} & response.headers.keys()
        assert STREAM not in response.extensions


# --- where streams end ---


def streamed(body: bytes, fault: Any = None) -> Reply:
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    steps: list[Any] = [Send(head)]
    if body:
        steps.append(Send(b"%x\r\n%b\r\n" % (len(body), body)))
    steps.append(fault or Send(b"0\r\n\r\n"))
    return Reply(tuple(steps))


@pytest.mark.parametrize("target", KINDS)
async def test_a_stream_cut_at_any_byte_is_an_error(generation: Generation, target: str) -> None:
    body, whole = KINDS[target]
    some = range(0, len(body) + 1, 1 if EVERYTHING else 13)
    places = sorted({*some, whole - 1, whole, len(body)})
    network = MemoryNetwork([streamed(body[:place]) for place in places])
    async with client_on(generation, network, base_url="http://api.test") as client:
        for place in places:
            read: list[bytes] = []
            try:
                async with client.stream("POST", target) as response:
                    async for piece in response.aiter_raw():
                        read.append(piece)
                error = None
            except generation.httpx.RemoteProtocolError as caught:
                error = caught.__cause__
            assert b"".join(read) == body[:place]
            assert (error is None) == (place >= whole), place
            assert error is None or type(error) is penstock.IncompleteStreamError


async def test_no_stream_is_checked_that_is_not_asked_for(generation: Generation) -> None:
    network = MemoryNetwork(streamed(b"data: {}\n\n"))
    for target, checked in (("/v1/responses", False), ("/v1/other", True)):
        async with client_on(
            generation, network, base_url="http://api.test", check_streams=checked
        ) as client:
            assert (await client.post(target)).content == b"data: {}\n\n"


@pytest.mark.parametrize("fault", [End(), Reset(), Stall()])
async def test_after_its_end_a_stream_has_no_failures(generation: Generation, fault: Any) -> None:
    for target, (body, _) in KINDS.items():
        network = MemoryNetwork(streamed(body, fault))
        async with client_on(generation, network, base_url="http://api.test") as client:
            before = anyio.current_time()
            assert (await client.post(target)).content == body
            assert anyio.current_time() - before == (1 if isinstance(fault, Stall) else 0)
            assert network.open_connections == 0


# --- uploads ---


class Given:
    """Pieces, one a second. No generator: httpx would leave that to the garbage collector."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    def __aiter__(self) -> Given:
        return self

    async def __anext__(self) -> bytes:
        await anyio.sleep(1)
        if not self._pieces:
            raise StopAsyncIteration
        return self._pieces.pop(0)


async def test_a_body_in_pieces(generation: Generation) -> None:
    network = MemoryNetwork(status_reply(200, b"ok"))
    async with client_on(generation, network, timeout=0.5) as client:
        assert (await client.post("/x", content=Given(b"ab", b"c"))).text == "ok"
        headers = {"content-length": "3"}
        assert (await client.post("/x", content=Given(b"ab", b"c"), headers=headers)).text == "ok"
        assert (await client.post("/x", files={"file": ("f.txt", b"abc")})).text == "ok"
    assert [request.body for request in network.requests[:2]] == [b"abc", b"abc"]
    assert network.requests[0].headers["transfer-encoding"] == "chunked"
    assert "transfer-encoding" not in network.requests[1].headers
    assert b'filename="f.txt"' in network.requests[2].body


async def test_a_body_that_breaks_its_word(generation: Generation) -> None:
    network = MemoryNetwork(status_reply(200, b"ok"))
    async with client_on(generation, network) as client:
        for length in ("1", "4"):
            with pytest.raises(generation.httpx.LocalProtocolError, match="Content-Length"):
                await client.post(
                    "/x", content=Given(b"ab", b"c"), headers={"content-length": length}
                )
        with pytest.raises(generation.httpx.LocalProtocolError):
            await client.get("/x", headers={"bad name": "x"})
    assert network.open_connections == 0


async def test_a_dead_connection_is_dialled_again_once(generation: Generation) -> None:
    network = MemoryNetwork(status_reply(200, b"ok"))
    async with client_on(generation, network) as client:
        for method, content in (("GET", None), ("POST", b"{}"), ("POST", Given(b"a"))):
            assert (await client.request(method, "/x", content=content)).text == "ok"
            network.connections[-1].dead = Reset()
        assert len(network.connections) == 3
    assert len(network.requests) == 3


async def test_an_observer_is_told_of_each_request(generation: Generation) -> None:
    watcher = Watcher()
    network = MemoryNetwork([status_reply(200, b"ok"), error_reply(500), HANGING])
    async with client_on(generation, network, observer=watcher) as client:
        await client.get("/x")
        await client.get("/x")
        async with client.stream("GET", "/x"):
            pass
        with anyio.move_on_after(1):
            await client.get("/x")
    assert watcher.outcomes() == ["completed", "completed", "abandoned", "cancelled"]
    assert [event.status_code for event in watcher.of("response_started")] == [200, 500, 200, 200]
