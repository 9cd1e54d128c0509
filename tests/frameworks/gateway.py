"""A gateway that lets the embedded model call tools.

Its template knows no tools, but llama.cpp makes a grammar of a schema. So a request with tools is
sent on as one for a call in JSON, and the JSON goes back as a call. Once the tool's result is
there, the model's answer passes through byte by byte, and a client that leaves is gone for the
model at once.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from anyio.from_thread import start_blocking_portal

import penstock
from penstock.testing import RecordedRequest, tool_calls_reply
from penstock.testing.requests import RequestReader

__all__ = ["gateway"]


@contextmanager
def gateway(upstream: str) -> Iterator[str]:
    """Run a gateway to this base URL in a thread, and yield its own base URL."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(_listening(upstream)) as base_url,
    ):
        yield base_url


@asynccontextmanager
async def _listening(upstream: str) -> AsyncIterator[str]:
    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        penstock.AsyncClient(upstream, proxy="") as model,
        anyio.create_task_group() as group,
    ):
        port = listener.extra(SocketAttribute.local_port)
        group.start_soon(listener.serve, partial(_serve, model, upstream))
        yield f"http://127.0.0.1:{port}/v1"
        group.cancel_scope.cancel()


async def _serve(model: penstock.AsyncClient, upstream: str, client: SocketStream) -> None:
    """Answer one request after another, until the client leaves."""
    requests = RequestReader()
    async with client:
        try:
            while True:
                data = await client.receive()
                for request in requests.feed(data, connection=0, time=0.0):
                    async with anyio.create_task_group() as group:
                        group.start_soon(_leave, client, group.cancel_scope)
                        await _answer(model, upstream, request, client)
                        group.cancel_scope.cancel()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return


async def _leave(client: ByteStream, scope: anyio.CancelScope) -> None:
    """Cancel the answer when the client has gone."""
    try:
        await client.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        scope.cancel()


async def _answer(
    model: penstock.AsyncClient, upstream: str, request: RecordedRequest, client: ByteStream
) -> None:
    asked = request.json
    if asked.get("tools") and not any(each["role"] == "tool" for each in asked["messages"]):
        call = await _call(model, asked)
        await client.send(tool_calls_reply(call, stream=bool(asked.get("stream"))).data)
        return
    answering = {**asked, "messages": [_plain(each) for each in asked["messages"]]}
    for name in ("tools", "tool_choice", "parallel_tool_calls"):
        answering.pop(name, None)
    await _pass_through(upstream, json.dumps(answering).encode(), client)


async def _call(model: penstock.AsyncClient, asked: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Let the model write a call of the first tool, by its schema."""
    function = asked["tools"][0]["function"]
    parameters = function["parameters"]
    short = {name: {**kind, "maxLength": 12} for name, kind in parameters["properties"].items()}
    schema = {"name": "call", "schema": {**parameters, "properties": short}}
    whole = await model.complete(
        {
            "model": asked["model"],
            "messages": [_plain(each) for each in asked["messages"]],
            "response_format": {"type": "json_schema", "json_schema": schema},
        }
    )
    return function["name"], json.loads(whole.text)


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message in words that the model's template knows."""
    if message["role"] == "tool":
        return {"role": "user", "content": message["content"]}
    if message.get("tool_calls"):
        return {"role": "assistant", "content": json.dumps(message["tool_calls"])}
    return message


async def _pass_through(upstream: str, body: bytes, client: ByteStream) -> None:
    host, _, path = upstream.removeprefix("http://").partition("/")
    address, _, port = host.partition(":")
    head = (
        f"POST /{path}/chat/completions HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    async with await anyio.connect_tcp(address, int(port)) as server:
        await server.send(head.encode() + body)
        async for data in server:
            await client.send(data)
    await client.aclose()  # after its `connection: close`
