"""Promise 2: whatever ends a call, its connection is idle and clean, or closed, its slot back."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from penstock import AsyncClient, Limiter, fan_out_chunks
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import (
    completion,
    error_reply,
    json_reply,
    sse_reply,
    status_reply,
    tokens,
)
from penstock.testing.script import Pause, RecordedRequest, Reply, Reset, Send, Stall, reply
from penstock.testing.server import serve
from penstock.testing.sweep import BackendName, cancel_sweep, open_fds
from tests.support.chat import REQUEST, client_on
from tests.support.sweeps import some_modes

from .evidence import count
from .recorded import RECORDINGS

backends = pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])

Do = Callable[[AsyncClient], Awaitable[object]]
HELLO = tokens("Hel", "lo", usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3})


async def stream_in_block(client: AsyncClient) -> object:
    async with client.chat.completions.stream(**REQUEST) as stream:
        return [chunk async for chunk in stream]


async def stream_partly(client: AsyncClient) -> object:
    async with client.chat.completions.stream(**REQUEST) as stream:
        return await anext(stream)


async def stream_bare(client: AsyncClient) -> object:
    stream = client.chat.completions.stream(**REQUEST)
    try:
        return [text async for text in stream.text]
    finally:
        # What a bare stream asks of its owner.
        with anyio.CancelScope(shield=True):
            await stream.aclose()


async def complete(client: AsyncClient) -> object:
    return await client.complete(REQUEST)


async def create(client: AsyncClient) -> object:
    return await client.chat.completions.create(**REQUEST)


async def list_models(client: AsyncClient) -> object:
    return await client.models.list()


async def fan_out(client: AsyncClient) -> object:
    async with fan_out_chunks(client, [REQUEST] * 3, limit=2) as events:
        return [event async for event in events]


def hello(request: RecordedRequest) -> Reply:
    """Each endpoint's answer, in pieces that arrive apart."""
    if request.target.endswith("/models"):
        return json_reply({"object": "list", "data": [{"id": "m", "object": "model"}]})
    if not request.json.get("stream"):
        return json_reply(completion("Hello"))
    return sse_reply(HELLO, one_segment_each=True)


def zipped(request: RecordedRequest) -> Reply:
    body = b"".join(
        b"data: %b\n\n" % (e if isinstance(e, bytes) else json.dumps(e).encode())
        for e in [*HELLO, b"[DONE]"]
    )
    headers = {"content-encoding": "gzip", "content-type": "text/event-stream"}
    return status_reply(200, gzip.compress(body), headers)


def paced(request: RecordedRequest) -> Reply:
    """Every answer is late, and nothing of it comes at once."""
    steps = hello(request).after(1.0).steps
    return Reply(tuple(one for step in steps for one in (step, Pause(0.5))))


def stubborn() -> Callable[[RecordedRequest], Reply]:
    """Refusals of every kind before the answer."""
    before = [
        error_reply(429, headers={"retry-after": "1"}),
        reply(Reset()),
        sse_reply([Reset()]),
        error_reply(503),
    ]

    def script(request: RecordedRequest) -> Reply:
        return before.pop(0) if before else hello(request)

    return script


def held_open(request: RecordedRequest) -> Reply:
    """The answer is complete, the body never ends."""
    data = RECORDINGS["chunked-done"]
    return reply(Send(data[: data.rindex(b"\r\n0\r\n")]), Stall())


SCENARIOS: dict[str, tuple[Do, Callable[[], Any], dict[str, Any]]] = {
    "stream": (stream_in_block, lambda: hello, {}),
    "paced": (stream_in_block, lambda: paced, {}),
    "partly": (stream_partly, lambda: paced, {}),
    "bare": (stream_bare, lambda: hello, {}),
    "complete": (complete, lambda: hello, {}),
    "create": (create, lambda: paced, {}),
    "models": (list_models, lambda: hello, {}),
    "retries": (stream_in_block, stubborn, {"max_retries": 4}),
    "create-retries": (create, stubborn, {"max_retries": 4}),
    "gzip": (complete, lambda: zipped, {}),
    "held-open": (complete, lambda: held_open, {}),
    "fan-out": (fan_out, lambda: hello, {}),
}


# What has pauses needs virtual time, which uvloop has not; its turn is on sockets, below.
SWEPT: list[tuple[str, BackendName]] = [
    *((name, "asyncio") for name in SCENARIOS),
    *((name, "trio") for name in SCENARIOS),
    *((name, "uvloop") for name in ("stream", "models", "gzip", "fan-out")),
]


@pytest.mark.sampled(0.2)
@pytest.mark.parametrize(("name", "backend"), SWEPT)
def test_cancelled_at_every_suspension_point(name: str, backend: BackendName) -> None:
    do, script, options = SCENARIOS[name]
    fds = open_fds()

    @asynccontextmanager
    async def scenario() -> AsyncIterator[Callable[[], Awaitable[object]]]:
        network = MemoryNetwork(script(), delay=0.5 if backend != "uvloop" else 0)
        limiter = Limiter(2)
        async with client_on(network, limiter=limiter, **options) as client:
            yield lambda: do(client)
            assert limiter.statistics().in_flight == 0
            assert limiter.statistics().waiting == 0
            assert client._endpoint.service.live == set()
            # What is open is idle: the next request needs no other connection.
            idle = network.open_connections
            before = len(network.connections)
            if name == "held-open":
                assert idle == 0
            await list_models(client) if name == "models" else await complete(client)
            if idle and "retries" not in name:
                assert len(network.connections) == before
            assert limiter.statistics().in_flight == 0
        assert network.open_connections == 0

    modes = some_modes(backend, list(SCENARIOS).index(name) + 2 * (backend == "uvloop"))
    points = cancel_sweep(backend, scenario, max_points=400, modes=modes)
    count("cancel points", sum(points.values()))
    assert max(points.values()) >= 3
    assert open_fds() == fds


ON_SOCKETS = ["stream", "partly", "create", "models", "gzip", "fan-out"]


@pytest.mark.sampled(0.2)
@backends
@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("name", ON_SOCKETS)
def test_cancelled_at_every_suspension_point_on_sockets(
    name: str, tls: bool, backend: BackendName
) -> None:
    do, script, options = SCENARIOS[name]
    if script() is paced:
        script = lambda: hello  # noqa: E731 -- real time
    fds = open_fds()

    @asynccontextmanager
    async def scenario() -> AsyncIterator[Callable[[], Awaitable[object]]]:
        async with serve(script(), tls=tls) as server:
            limiter = Limiter(2)
            context = server.client_ssl_context() if tls else None
            async with AsyncClient(
                server.base_url, ssl_context=context, limiter=limiter, **options
            ) as client:
                yield lambda: do(client)
                assert limiter.statistics().in_flight == 0
                assert client._endpoint.service.live == set()
                await list_models(client) if name == "models" else await complete(client)
                assert limiter.statistics().in_flight == 0
            await server.wait_closed(len(server.connections))

    modes = some_modes(backend, ON_SOCKETS.index(name) + tls + 2 * (backend == "uvloop"))
    points = cancel_sweep(backend, scenario, real=True, max_points=400, modes=modes)
    count("cancel points", sum(points.values()))
    assert max(points.values()) >= 2
    assert open_fds() == fds


@backends
def test_cancelled_while_the_handshake_stalls(backend: BackendName) -> None:
    fds = open_fds()

    @asynccontextmanager
    async def scenario() -> AsyncIterator[Callable[[], Awaitable[object]]]:
        async with serve(hello, tls="stall") as server:
            async with AsyncClient(server.base_url) as client:

                async def body() -> None:
                    with anyio.move_on_after(0.01):
                        await complete(client)

                yield body
            await server.wait_closed(len(server.connections))

    points = cancel_sweep(backend, scenario, real=True)
    count("cancel points", sum(points.values()))
    assert open_fds() == fds
