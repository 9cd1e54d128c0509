"""`AsyncClient`: settings, environment, keys, `complete`, `request`, and the end of it."""

from __future__ import annotations

import copy
import gc
import json
import logging
import os
import pickle
import threading
import traceback
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import penstock
from penstock import AsyncClient, Limiter, PenstockError, Timeouts, providers
from penstock.testing.clock import Backend
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import REAL_BACKENDS
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import (
    completion,
    error_reply,
    json_reply,
    sse_reply,
    status_reply,
    tokens,
)
from penstock.testing.script import End, Reply, Reset, Send, Stall, reply
from penstock.testing.server import becomes_true, serve_in_thread
from penstock.testing.sweep import open_fds
from tests.support.chat import KEY, MESSAGES, REQUEST, Watcher, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

HELLO = sse_reply(tokens("Hel", "lo"))


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_BASE_URL")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


# --- making one ---


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"base_url": "nowhere"}, ValueError, "base_url"),
        ({"base_url": "http://u:p@api.test"}, ValueError, "api_key"),
        ({"base_url": 5}, TypeError, "base_url"),
        ({"api_key": ""}, ValueError, "API key"),
        ({"api_key": "secret\n"}, ValueError, "API key"),
        ({"api_key": b"secret"}, TypeError, "API key"),
        ({"api_key": 5}, TypeError, "API key"),
        ({"provider": "nobody"}, ValueError, "provider"),
        ({"timeouts": 5}, TypeError, "Timeouts"),
        ({"timeouts": None}, TypeError, "Timeouts"),
        ({"max_retries": -1}, ValueError, "max_retries"),
        ({"max_retries": 1.5}, ValueError, "max_retries"),
        ({"max_retries": True}, ValueError, "max_retries"),
        ({"max_retries": None}, ValueError, "max_retries"),
        ({"max_retry_wait": -1}, ValueError, "max_retry_wait"),
        ({"max_retry_wait": float("nan")}, ValueError, "max_retry_wait"),
        ({"max_retry_wait": "60"}, TypeError, "max_retry_wait"),
        ({"keepalive": -1}, ValueError, "keepalive"),
        ({"keepalive": float("nan")}, ValueError, "keepalive"),
        ({"keepalive": float("inf")}, ValueError, "keepalive"),
        ({"keepalive": None}, TypeError, "keepalive"),
        ({"limiter": 8}, TypeError, "limiter"),
        ({"headers": [("a", "b")]}, TypeError, "headers"),
        ({"headers": {"a": "b\r\nc: d"}}, ValueError, "header"),
        ({"headers": {"Host": "elsewhere.test"}}, ValueError, "Host"),
        ({"observer": object()}, TypeError, "observer"),
        ({"proxy": "gopher://p.test"}, ValueError, "proxy"),
        ({"proxy": "http://p.test:port"}, ValueError, "proxy"),
    ],
)
def test_bad_settings_are_refused_at_once(
    options: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words) as caught:
        AsyncClient(**options)
    assert type(caught.value) is kind
    assert "secret" not in repr(caught.value)


def test_making_a_client_needs_no_event_loop_and_opens_nothing() -> None:
    before = open_fds()
    client = AsyncClient(api_key=KEY, proxy="")
    assert open_fds() == before
    del client
    gc.collect()


@pytest.mark.parametrize(
    ("base_url", "connects_to", "host", "target"),
    [
        ("http://api.test", ("api.test", 80), "api.test", "/chat/completions"),
        ("http://api.test/", ("api.test", 80), "api.test", "/chat/completions"),
        ("http://api.test/v1/", ("api.test", 80), "api.test", "/v1/chat/completions"),
        ("http://api.test:80/v1", ("api.test", 80), "api.test", "/v1/chat/completions"),
        ("http://api.test:8080/v1", ("api.test", 8080), "api.test:8080", "/v1/chat/completions"),
        ("http://[::1]:81/a/b/", ("::1", 81), "[::1]:81", "/a/b/chat/completions"),
        ("https://api.test/v1", ("api.test", 443), "api.test", "/v1/chat/completions"),
        ("https://api.test:80/v1", ("api.test", 80), "api.test:80", "/v1/chat/completions"),
    ],
)
async def test_where_requests_go(
    base_url: str, connects_to: tuple[str, int], host: str, target: str
) -> None:
    network = MemoryNetwork(HELLO)
    async with client_on(network, base_url) as client:
        await client.complete(REQUEST)
    assert network.connects == [connects_to]
    (request,) = network.requests
    assert (request.method, request.target, request.headers["host"]) == ("POST", target, host)


def test_what_a_client_shows_of_itself() -> None:
    client = client_on(HELLO, "http://[::1]:81/v1", headers={"X-Secret": "other-secret"})
    assert repr(client) == "<AsyncClient openai http://[::1]:81/v1>"
    shown = "".join(
        repr(part)
        for part in (client, vars(client), client._endpoint, client._endpoint.service, client.chat)
    )
    assert KEY not in shown


# --- copies ---


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
async def test_a_client_is_neither_copied_nor_pickled(copied: Any) -> None:
    network = MemoryNetwork(HELLO)
    async with client_on(network) as client:
        await client.complete(REQUEST)
        with pytest.raises(TypeError, match="ClientConfig"):
            copied(client)
        # Nothing of it was closed.
        await client.complete(REQUEST)
    assert len(network.connects) == 1
    with (
        penstock.Client("http://localhost:1") as blocking,
        pytest.raises(TypeError, match="ClientConfig"),
    ):
        copied(blocking)


# --- keys ---


async def test_a_key_may_come_from_a_function() -> None:
    asked = 0

    def key() -> str:
        nonlocal asked
        asked += 1
        return f"sk-number-{asked}"

    network = MemoryNetwork(HELLO)
    async with client_on(network, api_key=key) as client:
        assert asked == 0
        await client.complete(REQUEST)
        await client.complete(REQUEST)
    seen = [request.headers["authorization"] for request in network.requests]
    assert seen == ["Bearer sk-number-1", "Bearer sk-number-2"]


async def test_each_attempt_asks_for_a_key_of_its_own() -> None:
    keys = iter(["sk-expired-000", "sk-renewed-111"])

    async def key() -> str:
        await anyio.lowlevel.checkpoint()
        return next(keys)

    def script(request: Any) -> Reply:
        expired = request.headers["authorization"] == "Bearer sk-expired-000"
        return error_reply(500, "expired") if expired else HELLO

    network = MemoryNetwork(script)
    async with client_on(network, api_key=key) as client:
        completion = await client.complete(REQUEST)
    assert completion.choices[0].message.content == "Hello"
    assert len(network.requests) == 2


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (lambda: "bad\nhunter2", ValueError),
        (lambda: "", ValueError),
        (lambda: None, TypeError),
        (lambda: 1 / 0, ZeroDivisionError),
    ],
)
async def test_a_function_that_gives_no_key(key: Callable[[], Any], kind: type[Exception]) -> None:
    network = MemoryNetwork(HELLO)
    limiter = Limiter(1)
    async with client_on(network, api_key=key, limiter=limiter) as client:
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: client.complete(REQUEST),
            client.models.list,
        ]
        for call in calls:
            with pytest.raises(kind) as caught:
                await call()
            assert "hunter2" not in "".join(traceback.format_exception(caught.value))
            assert caught.value.__cause__ is not caught.value
        assert limiter.statistics().in_flight == 0
    assert network.requests == []


async def test_a_slow_key_counts_against_the_total() -> None:
    async def key() -> str:
        await anyio.sleep(10)
        return KEY

    network = MemoryNetwork(HELLO)
    async with client_on(network, api_key=key, timeouts=Timeouts(total=3)) as client:
        with pytest.raises(penstock.TotalTimeout):
            await client.complete(REQUEST)
        assert anyio.current_time() == pytest.approx(3, abs=1e-3)
    assert network.connects == []


ECHOES: dict[str, Callable[[str], Reply]] = {
    "json": lambda key: error_reply(400, f"bad key {key}", code=key, type=key),
    "flat": lambda key: json_reply({"detail": [{"loc": [key], "msg": key}]}, 422),
    "text": lambda key: status_reply(403, f"forbidden for {key}"),
    "long": lambda key: status_reply(400, "x" * 487 + key),
    "html": lambda key: status_reply(500, f"<html><title>{key}</title></html>"),
    "header": lambda key: error_reply(400, headers={"x-echo": key, key: "1"}),
    "redirect": lambda key: status_reply(302, headers={"location": f"http://x.test/{key}"}),
    "in the stream": lambda key: sse_reply(
        [*tokens("a"), {"error": {"message": key, "code": key}}]
    ),
    "not a stream": lambda key: status_reply(200, f"hello {key}", {"content-type": "text/plain"}),
    "odd json": lambda key: sse_reply(["{" + key]),
    "odd head": lambda key: reply(f"HTTP/1.1 200 OK\r\n{key}: \x01\r\n\r\n".encode()),
    "odd line": lambda key: reply(f"{key} {key}\r\n\r\n".encode()),
    "odd framing": lambda key: reply(
        f"HTTP/1.1 200 OK\r\ntransfer-encoding: {key}\r\n\r\n".encode()
    ),
    "odd length": lambda key: reply(f"HTTP/1.1 200 OK\r\ncontent-length: {key}\r\n\r\n".encode()),
    "odd coding": lambda key: status_reply(200, "x", {"content-encoding": key}),
    "odd chunk": lambda key: reply(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", f"{key}\r\n".encode()
    ),
}


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("way", ["stream", "create", "models", "request"])
async def test_a_server_that_echoes_the_key(
    echo: str, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    watcher = Watcher()
    network = MemoryNetwork(ECHOES[echo](KEY))
    async with client_on(network, observer=watcher, max_retries=1) as client:
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "stream": lambda: client.complete(REQUEST),
            "create": lambda: client.chat.completions.create(**REQUEST),
            "models": client.models.list,
            "request": lambda: client.request("GET", "/x"),
        }
        try:
            await calls[way]()
        except PenstockError as error:
            for seen in (error, copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
                text = "".join(traceback.format_exception(seen)) + repr(vars(seen)) + repr(seen)
                assert KEY.lower() not in text.lower()
                assert KEY.encode() not in pickle.dumps(seen)
        else:
            assert way == "request"  # a success of any kind is its caller's
    for name, event in watcher.events:
        assert KEY.lower() not in f"{event!r}".lower(), name
        failed = getattr(event, "error", None)
        if failed is not None:
            assert KEY not in "".join(traceback.format_exception(failed)) + repr(vars(failed))
    # httpcore's own loggers show heads of responses, at DEBUG.
    ours = [record for record in caplog.records if record.name.startswith("penstock")]
    assert KEY not in "".join(map(logging.Formatter().format, ours))


# --- complete ---


async def test_complete_streams_inside() -> None:
    network = MemoryNetwork(HELLO)
    given = {**REQUEST, "temperature": 0, "stream": False, "stop": None}
    before = copy.deepcopy(given)
    async with client_on(network) as client:
        answer = await client.complete(given)
    assert answer.choices[0].message.content == "Hello"
    assert network.requests[0].json == {
        **REQUEST,
        "temperature": 0,
        "stop": None,
        "stream": True,
    }
    assert given == before


async def test_options_of_complete_may_stand_in_the_request_and_beside_it() -> None:
    network = MemoryNetwork(error_reply(500))
    async with client_on(network) as client:
        request = {**REQUEST, "max_retries": 0, "extra_headers": {"x-a": "1"}}
        with pytest.raises(penstock.InternalServerError):
            await client.complete(request)
        assert len(network.requests) == 1
        with pytest.raises(penstock.InternalServerError):
            await client.complete(request, max_retries=1, extra_headers={"x-a": "2"})
    assert [each.headers["x-a"] for each in network.requests] == ["1", "2", "2"]
    assert set(network.requests[-1].json) == {"model", "messages", "stream"}


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        ({}, ValueError),
        ({"model": "m"}, ValueError),
        ({"messages": MESSAGES}, ValueError),
        ({"model": "", "messages": MESSAGES}, ValueError),
        ({"model": "m", "messages": []}, ValueError),
        ({"model": "m", "messages": MESSAGES, "tools": object()}, TypeError),
        ({"model": "m", "messages": MESSAGES, "timeouts": 5}, TypeError),
        ({"model": "m", "messages": MESSAGES, "max_retries": -1}, ValueError),
        ({"model": "m", "messages": MESSAGES, "extra_headers": {"a": "\n"}}, ValueError),
    ],
)
async def test_a_bad_request_never_leaves(request_: dict[str, Any], kind: type[Exception]) -> None:
    network = MemoryNetwork(HELLO)
    async with client_on(network) as client:
        with pytest.raises(kind):
            await client.complete(request_)
        with pytest.raises((kind, TypeError)):
            client.chat.completions.stream(**request_)
        for stream in (False, True):
            with pytest.raises((kind, TypeError)):
                await client.chat.completions.create(**request_, stream=stream)
    assert network.connects == []


async def test_a_cancelled_completion_closes_its_connection_at_once() -> None:
    network = MemoryNetwork(sse_reply([*tokens("a", finish=None), Stall()]))
    async with client_on(network) as client:
        with anyio.move_on_after(5) as scope:
            await client.complete(REQUEST)
        assert scope.cancelled_caught
        assert network.connections[0].closed_at == pytest.approx(5, abs=1e-3)


# --- headers ---


async def sent(client_headers: dict[str, str], extra: dict[str, str], **options: Any) -> Any:
    network = MemoryNetwork(HELLO)
    async with client_on(network, headers=client_headers, **options) as client:
        await client.complete(REQUEST, extra_headers=extra)
    return network.requests[0]


async def test_what_is_sent_without_being_asked() -> None:
    request = await sent({}, {})
    assert dict(request.headers) == {
        "host": "api.test",
        "authorization": f"Bearer {KEY}",
        "user-agent": f"penstock/{penstock.__version__}",
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "content-length": str(len(request.body)),
    }
    assert len(request.raw_headers) == len(request.headers)


@pytest.mark.parametrize(
    ("name", "library"),
    [
        ("User-Agent", f"penstock/{penstock.__version__}"),
        ("Accept", "text/event-stream"),
        ("accept-encoding", "identity"),
        ("Content-Type", "application/json"),
        ("AUTHORIZATION", f"Bearer {KEY}"),
        ("X-Title", None),
    ],
)
async def test_extra_headers_beat_the_clients_which_beat_the_librarys(
    name: str, library: str | None
) -> None:
    for client_headers, extra, expected in [
        ({}, {}, library),
        ({name: "the client's"}, {}, "the client's"),
        ({name.lower(): "the client's"}, {name.title(): "the call's"}, "the call's"),
        ({}, {name.swapcase(): "the call's"}, "the call's"),
    ]:
        request = await sent(client_headers, extra)
        assert request.headers.get(name.lower()) == expected
        raw = [key.decode().lower() for key, _ in request.raw_headers]
        assert len(raw) == len(set(raw))


async def test_a_call_leaves_no_header_behind() -> None:
    network = MemoryNetwork(HELLO)
    async with client_on(network) as client:
        await client.complete(REQUEST, extra_headers={"x-once": "1"})
        await client.complete(REQUEST)
    assert [("x-once" in request.headers) for request in network.requests] == [True, False]


async def test_a_header_that_is_refused_names_itself_and_sends_nothing() -> None:
    network = MemoryNetwork(HELLO)
    async with client_on(network) as client:
        for bad in ({"Content-Length": "1"}, {"Host": "x"}, {"a b": "c"}, {"a": "c\r\n\r\n"}):
            with pytest.raises(ValueError, match="header"):
                client.chat.completions.stream(**REQUEST, extra_headers=bad)
    assert network.connects == []


# --- request ---


async def test_any_endpoint() -> None:
    network = MemoryNetwork(
        json_reply({"object": "endpoint", "x": [1]}, 201, {"x-request-id": "req-1"})
    )
    async with client_on(network, provider=providers.PARETA) as client:
        answer = await client.request("post", "/endpoints/ep 1/start".replace(" ", "%20"), json={})
    (request,) = network.requests
    assert (request.method, request.target, request.body) == (
        "POST",
        "/v1/endpoints/ep%201/start",
        b"{}",
    )
    assert request.headers["content-type"] == "application/json"
    assert request.headers["accept"] == "application/json"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert (answer.status_code, answer.request_id) == (201, "req-1")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == {"object": "endpoint", "x": [1]} == json.loads(answer.content)
    assert repr(answer) == f"<Response 201, {len(answer.content)} bytes>"


@pytest.mark.parametrize("method", ["GET", "DELETE", "HEAD", "POST", "PUT", "PATCH"])
async def test_a_request_without_a_body(method: str) -> None:
    network = MemoryNetwork(reply(b"HTTP/1.1 204 No Content\r\n\r\n"))
    async with client_on(network) as client:
        answer = await client.request(method, "things?limit=1")
        assert (answer.status_code, answer.content) == (204, b"")
        with pytest.raises(penstock.APIResponseError, match="not JSON"):
            answer.json()
        await client.request(method, "things")
    assert len(network.connections) == 1
    request = network.requests[0]
    assert (request.target, request.body) == ("/v1/things?limit=1", b"")
    assert "content-type" not in request.headers
    assert request.headers.get("content-length") == ("0" if method[0] == "P" else None)


@pytest.mark.parametrize("value", [None, False, 0, [], {}, "text", [1, {"a": None}]])
async def test_any_json_may_be_sent(value: Any) -> None:
    network = MemoryNetwork(json_reply({}))
    async with client_on(network) as client:
        await client.request("POST", "/x", json=value)
    assert network.requests[0].body == (
        b"" if value is None else json.dumps(value, separators=(",", ":")).encode()
    )


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, penstock.APIStatusError),
        (400, penstock.BadRequestError),
        (401, penstock.AuthenticationError),
        (402, penstock.InsufficientCreditsError),
        (403, penstock.PermissionDeniedError),
        (404, penstock.NotFoundError),
        (409, penstock.ConflictError),
        (418, penstock.APIStatusError),
        (422, penstock.UnprocessableEntityError),
        (429, penstock.RateLimitError),
        (500, penstock.InternalServerError),
        (503, penstock.EndpointNotReadyError),
        (599, penstock.InternalServerError),
    ],
)
async def test_errors_of_a_request(status: int, kind: type[penstock.APIStatusError]) -> None:
    network = MemoryNetwork(error_reply(status, "no", headers={"x-request-id": "req-9"}))
    async with client_on(network, max_retries=0) as client:
        calls: list[Awaitable[object]] = [
            client.request("GET", "/x"),
            client.models.list(),
            client.complete(REQUEST),
            client.chat.completions.create(**REQUEST),
        ]
        for call in calls:
            with pytest.raises(kind) as caught:
                await call
            assert type(caught.value) is kind
            assert (caught.value.status_code, caught.value.request_id) == (status, "req-9")
            assert caught.value.partial is None
    assert network.open_connections == 0


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "http://elsewhere.test/x", ValueError),
        ("GET", "//elsewhere.test/x", ValueError),
        ("GET", "/a\r\nX: y", ValueError),
        ("GET", "/a b", ValueError),
        ("GE T", "/a", ValueError),
        ("GET\r\nX: y", "/a", ValueError),
        ("", "/a", ValueError),
        (b"GET", "/a", TypeError),
        ("GÉT", "/a", ValueError),
        ("CONNECT", "/a", ValueError),
        ("GET", 5, TypeError),
        (5, "/a", TypeError),
    ],
)
async def test_a_request_that_cannot_be(method: Any, path: Any, kind: type[Exception]) -> None:
    network = MemoryNetwork(HELLO)
    async with client_on(network) as client:
        with pytest.raises(kind):
            await client.request(method, path)
        with pytest.raises(TypeError, match="JSON"):
            await client.request("POST", "/a", json=object())
    assert network.connects == []


async def test_a_request_is_sent_again_only_before_its_body() -> None:
    network = MemoryNetwork([error_reply(500), reply(Reset()), json_reply({"a": 1})])
    async with client_on(network) as client:
        assert (await client.request("GET", "/x")).json() == {"a": 1}
    assert len(network.requests) == 3
    cut = json_reply({"a": "b" * 50}).data[:-10]
    network = MemoryNetwork([Reply((Send(cut), End())), json_reply({})])
    async with client_on(network) as client:
        with pytest.raises(penstock.StreamInterruptedError):
            await client.request("GET", "/x")
    assert len(network.requests) == 1


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b"\xff\xfe", b"[" * 100_000])
async def test_a_body_that_is_no_json(body: bytes) -> None:
    network = MemoryNetwork(status_reply(200, body, {"x-request-id": "req-2"}))
    async with client_on(network) as client:
        answer = await client.request("GET", "/x")
    assert answer.content == body
    with pytest.raises(penstock.APIResponseError, match="not JSON") as caught:
        answer.json()
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.status_code, error.request_id) == (200, "req-2")
    assert len(error.body) <= 4096


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"x": "\\ud800"}', {"x": "\ud800"}),
        (b'\xef\xbb\xbf{"x": 1}', {"x": 1}),
        (b'{"x": Infinity}', {"x": float("inf")}),
    ],
)
async def test_json_as_some_servers_write_it(text: bytes, value: Any) -> None:
    async with client_on(MemoryNetwork(status_reply(200, text))) as client:
        assert (await client.request("GET", "/x")).json() == value


# --- the end ---


async def test_closing_closes_every_open_stream() -> None:
    network = MemoryNetwork(sse_reply([*tokens("a", finish=None), Stall()]))
    limiter = Limiter(8)
    client = client_on(network, limiter=limiter)
    errors: list[Exception] = []

    async def read() -> None:
        try:
            async with client.chat.completions.stream(**REQUEST) as stream:
                async for _ in stream:
                    pass
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(read)
        idle = client.chat.completions.stream(**REQUEST)
        await idle.__aenter__()
        await anyio.sleep(1)
        await client.aclose()
        assert network.open_connections == 0
    assert [type(error) for error in errors] == [penstock.StreamClosedError] * 3
    with pytest.raises(penstock.StreamClosedError):
        await idle.collect()
    await idle.aclose()
    assert limiter.statistics().in_flight == 0


@pytest.mark.parametrize(
    "stuck",
    [
        lambda: MemoryNetwork(HELLO, stall=9),
        lambda: MemoryNetwork(reply(Stall())),
        lambda: MemoryNetwork(error_reply(500)),
        lambda: MemoryNetwork(error_reply(503, headers={"retry-after": "30"})),
    ],
    ids=["connecting", "sent", "backing off", "told to wait"],
)
@pytest.mark.parametrize("way", ["stream", "complete", "create", "models", "request"])
async def test_closing_while_a_request_is_under_way(
    stuck: Callable[[], MemoryNetwork], way: str
) -> None:
    network = stuck()
    watcher = Watcher()
    limiter = Limiter(8)
    client = client_on(network, observer=watcher, limiter=limiter)
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "stream": lambda: client.chat.completions.stream(**REQUEST).__aenter__(),
        "complete": lambda: client.complete(REQUEST),
        "create": lambda: client.chat.completions.create(**REQUEST),
        "models": client.models.list,
        "request": lambda: client.request("GET", "/x"),
    }
    raised: list[BaseException] = []

    async def call() -> None:
        try:
            await calls[way]()
        except Exception as error:  # noqa: BLE001
            raised.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await anyio.sleep(0.2)
        await client.aclose()
    assert [type(error) for error in raised] == [penstock.StreamClosedError]
    assert anyio.current_time() < 1
    assert network.open_connections == 0
    assert limiter.statistics().in_flight == 0
    assert watcher.outcomes() in (["failed"], ["abandoned"])


async def test_use_after_the_end() -> None:
    network = MemoryNetwork(HELLO)
    client = client_on(network)
    async with client:
        await client.complete(REQUEST)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: client.complete(REQUEST),
        lambda: client.chat.completions.create(**REQUEST),
        client.models.list,
        lambda: client.request("GET", "/x"),
        lambda: client.chat.completions.stream(**REQUEST).__aenter__(),
    ]
    for call in calls:
        with pytest.raises(penstock.StreamClosedError, match="closed"):
            await call()
    await client.aclose()
    assert len(network.requests) == 1
    assert network.open_connections == 0


async def test_an_exception_of_the_body_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError):
        async with client_on(HELLO):
            raise KeyError("mine")


async def test_a_forgotten_client_says_so_and_closes_its_connections() -> None:
    network = MemoryNetwork(HELLO)
    client = client_on(network)
    await client.complete(REQUEST)
    assert network.open_connections == 1
    clients = [client]
    del client
    with pytest.warns(ResourceWarning, match="unclosed <AsyncClient") as caught:
        clients.clear()
    assert KEY not in str(caught[0].message)


# --- closing without waiting ---


async def test_close_ends_open_streams_and_idle_connections_at_once() -> None:
    network = MemoryNetwork([HELLO, sse_reply([*tokens("a")[:2], Stall()], done=False)])
    limiter = Limiter(2)
    client = client_on(network, limiter=limiter)
    first, second = (client.chat.completions.stream(**REQUEST) for _ in range(2))
    await second.__aenter__()  # takes the reply that ends
    await second.collect()
    await first.__aenter__()
    raised: list[type[Exception]] = []

    async def read() -> None:
        try:
            await first.collect()
        except penstock.PenstockError as error:
            raised.append(type(error))

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await anyio.sleep(1)
        client.close()
        client.close()
    assert raised == [penstock.StreamClosedError]
    assert limiter.statistics().in_flight == 0
    assert client.statistics().idle_connections == 0
    with pytest.raises(penstock.StreamClosedError, match="client is closed"):
        await client.complete(REQUEST)
    await first.aclose()


async def test_nothing_is_sent_that_waits_for_a_slot_while_the_client_is_closed() -> None:
    network = MemoryNetwork(HELLO)
    limiter = Limiter(1)
    client = client_on(network, limiter=limiter)

    async def ask() -> None:
        with pytest.raises(penstock.StreamClosedError):
            await client.complete(REQUEST)

    async with anyio.create_task_group() as group, limiter:
        group.start_soon(ask)
        await anyio.sleep(1)
        client.close()
    assert not network.requests
    assert limiter.statistics().in_flight == 0


@pytest.mark.parametrize("backend", REAL_BACKENDS)
@pytest.mark.parametrize("where", ["here", "thread"])
def test_close_after_the_event_loop_has_ended(backend: Backend, where: str) -> None:
    with serve_in_thread(HELLO) as server:
        before = open_fds()
        client = AsyncClient(server.base_url, api_key="k", proxy="")

        async def main(client: AsyncClient) -> None:
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(client.complete, REQUEST)

        with warnings.catch_warnings():
            # uvloop has a warning of its own when it ends before a connection.
            warnings.simplefilter("ignore", ResourceWarning)
            anyio.run(main, client, backend=backend[0], backend_options=backend[1])
        assert client.statistics().idle_connections == 3
        if where == "here":
            client.close()
        else:
            thread = threading.Thread(target=client.close)
            thread.start()
            thread.join()
        assert client.statistics().idle_connections == 0
        # Neither a descriptor nor a warning is left for the garbage collector.
        del client
        gc.collect()
        assert becomes_true(lambda: server.open_connections == 0)
        assert open_fds() <= before


async def test_connections_are_used_again() -> None:
    network = MemoryNetwork([HELLO, json_reply(completion()), json_reply({"data": []})])
    async with client_on(network) as client:
        await client.complete(REQUEST)
        await client.chat.completions.create(**REQUEST)
        await client.models.list()
    assert len(network.connections) == 1


# --- logging ---


async def test_the_log_is_silent_by_default_and_never_has_bodies_or_keys(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = logging.getLogger("penstock")
    assert any(isinstance(handler, logging.NullHandler) for handler in logger.handlers)
    caplog.set_level(logging.DEBUG)
    network = MemoryNetwork(
        [error_reply(500, "private words"), sse_reply(tokens("private", " answer"))]
    )
    request = {"model": "test-model", "messages": [{"role": "user", "content": "private prompt"}]}
    async with client_on(network) as client:
        await client.complete(request)
    records = [record for record in caplog.records if record.name.startswith("penstock")]
    assert records
    for record in caplog.records:
        assert "private" not in record.getMessage()
        assert KEY not in record.getMessage()


@pytest.mark.parametrize("keepalive", [0, 5])
async def test_how_long_idle_connections_are_kept(keepalive: float) -> None:
    network = MemoryNetwork(HELLO)
    async with client_on(network, keepalive=keepalive) as client:
        await client.complete(REQUEST)
        await anyio.sleep(4.9)
        await client.complete(REQUEST)
        assert len(network.connections) == (1 if keepalive else 2)
        await anyio.sleep(5)
        await client.complete(REQUEST)
        assert len(network.connections) == (2 if keepalive else 3)
