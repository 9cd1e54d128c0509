"""`client.events` and `client.stream`: their arguments, and what is sent."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import Timeouts
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import sse_reply, status_reply
from tests.support.chat import KEY, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"path": "/x\n"}, ValueError),
        ({"path": "/x y"}, ValueError),
        ({"path": "http://elsewhere.test/x"}, ValueError),
        ({"path": 5}, TypeError),
        ({"path": "/x", "method": "GET /"}, ValueError),
        ({"path": "/x", "method": ""}, ValueError),
        ({"path": "/x", "method": "CONNECT"}, ValueError),
        ({"path": "/x", "method": 5}, TypeError),
        ({"path": "/x", "timeouts": 5}, TypeError),
        ({"path": "/x", "max_retries": -1}, ValueError),
        ({"path": "/x", "extra_headers": {"a": "b\n"}}, ValueError),
        ({"path": "/x", "extra_headers": ["a"]}, TypeError),
        ({"path": "/x", "json": {"x": float("nan")}}, ValueError),
        ({"path": "/x", "json": object()}, TypeError),
    ],
)
async def test_bad_arguments_are_refused_before_any_io(
    arguments: dict[str, Any], kind: type[Exception]
) -> None:
    network = MemoryNetwork(sse_reply([]))
    async with client_on(network) as client:
        with pytest.raises(kind) as caught:
            client.events(**arguments)
        assert KEY not in str(caught.value)
        with pytest.raises(kind):
            client.stream(**{"method": "POST", **arguments})
    assert network.connections == []


@pytest.mark.parametrize("path", [None, 5, b"/models", ["/models"], {"/models": 1}])
async def test_a_path_that_is_no_string_is_called_that(path: Any) -> None:
    network = MemoryNetwork(sse_reply([]))
    said = f"the path must be a string, not {type(path).__name__}"
    async with client_on(network) as client:
        with pytest.raises(TypeError, match=said):
            client.events(path)
        with pytest.raises(TypeError, match=said):
            client.stream("GET", path)
        with pytest.raises(TypeError, match=said):
            await client.request("GET", path)
    assert network.connections == []


@pytest.mark.parametrize("done", ["message_stop", [5], [b"x"], None, 5])
async def test_done_is_names(done: Any) -> None:
    async with client_on(sse_reply([])) as client:
        with pytest.raises(TypeError):
            client.events("/x", done=done)


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"json": {}, "content": b""}, TypeError),
        ({"content": "text"}, TypeError),
        ({"content": 5}, TypeError),
    ],
)
async def test_one_body_of_bytes(arguments: dict[str, Any], kind: type[Exception]) -> None:
    network = MemoryNetwork(sse_reply([]))
    async with client_on(network) as client:
        with pytest.raises(kind):
            client.stream("POST", "/x", **arguments)
    assert network.connections == []


async def test_what_events_sends() -> None:
    network = MemoryNetwork(sse_reply([]))
    async with client_on(network, headers={"a": "client", "b": "client"}) as client:
        async for _ in client.events("/x?v=1", json={"n": 1}, extra_headers={"a": "call"}):
            pass
        async for _ in client.events("x", method="get"):
            pass
    first, second = network.requests
    assert (first.method, first.target, first.json) == ("POST", "/v1/x?v=1", {"n": 1})
    assert (first.headers["a"], first.headers["b"]) == ("call", "client")
    assert first.headers["content-type"] == "application/json"
    assert first.headers["accept"] == "text/event-stream"
    assert (second.method, second.target, second.body) == ("GET", "/v1/x", b"")
    assert "content-type" not in second.headers


async def test_what_stream_sends() -> None:
    network = MemoryNetwork(status_reply(200, b"ok"))
    contents: list[Any] = [b"\x00\xff", bytearray(b"ab"), memoryview(b"abc")[1:], b""]
    async with client_on(network, timeouts=Timeouts(total=5)) as client:
        for content in contents:
            headers = {"content-type": "audio/wav"}
            body = client.stream("put", "/x", content=content, extra_headers=headers)
            assert await body.read() == b"ok"
        assert await client.stream("POST", "/x", content=b"x").read() == b"ok"
        assert await client.stream("POST", "/x", json=[1]).read() == b"ok"
        assert await client.stream("GET", "/x").read() == b"ok"
    *raw, octets, as_json, nothing = network.requests
    assert [request.body for request in raw] == [bytes(content) for content in contents]
    assert all(request.headers["content-type"] == "audio/wav" for request in raw)
    assert octets.headers["content-type"] == "application/octet-stream"
    assert (as_json.json, as_json.headers["content-type"]) == ([1], "application/json")
    assert nothing.body == b""
    assert all(request.headers["accept"] == "*/*" for request in network.requests)
