"""A tour through the library, run by `test_bytes_warning.py` in a Python with `-bb`.

There a comparison of text with bytes, or text made of bytes, is an exception.
"""

from __future__ import annotations

import contextlib
import copy
import pickle
import sys
from typing import Any

import anyio

import penstock
from penstock import AsyncClient, Client, PenstockError, race
from penstock.testing.clock import virtual
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import (
    completion,
    error_reply,
    json_reply,
    sse_reply,
    status_reply,
    tokens,
)
from penstock.testing.script import End, Reply, Reset, reply
from penstock.testing.server import serve

KEY = "sk-Secret/0123456789abcdef"
REQUEST: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
HELLO = sse_reply(tokens("Hel", "lo"))
TOOL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
REPLIES: list[Reply] = [
    HELLO,
    sse_reply(tokens("a"), chunked=True),
    json_reply(completion("Hello")),
    json_reply({"data": [{"id": "m"}]}),
    error_reply(400, KEY, headers={"x-echo": KEY, "x-request-id": KEY}),
    error_reply(429, headers={"retry-after": "0", "date": "Sun, 17 Mar 2030 17:46:40 GMT"}),
    status_reply(502, f"<html><title>{KEY}</title>"),
    status_reply(302, headers={"location": "http://x.test"}),
    sse_reply([*tokens("a"), {"error": {"message": KEY}}]),
    sse_reply([f"event: error\ndata: {KEY}\n\n".encode()]),
    sse_reply([b'data: {"a":"\xff' + KEY.encode() + b'"}\n\n']),
    sse_reply(["{"]),
    status_reply(200, "text", {"content-encoding": KEY}),
    reply(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n", End()),
    reply(f"{KEY}\r\n\r\n".encode(), End()),
    reply(b"\x05\x02", b"\x01\x01", End()),
    reply(Reset()),
]


async def tour() -> None:
    for script in REPLIES:
        for proxy in (None, "http://me:pw@proxy.test", "socks5://me:pw@p.test"):
            network = MemoryNetwork(script)
            async with AsyncClient(
                "http://api.test/v1?api-version=1",
                api_key=KEY,
                headers={"x-api-key": KEY},
                network=network,
                max_retries=1,
                proxy=proxy,
            ) as client:
                await visit(client)


async def visit(client: AsyncClient) -> None:
    turns = [TOOL, penstock.tool_message(penstock.ToolCall(id="c"), {"a": 1})]
    calls: list[Any] = [
        lambda: client.complete({**REQUEST, "messages": turns}),
        lambda: client.chat.completions.create(**REQUEST, extra_body={"top_k": 1}),
        lambda: client.chat.completions.parse(**REQUEST, response_format=list[int]),
        lambda: client.models.list(),
        lambda: client.request("POST", "/x?y=z", json={"data": b"bytes"}),
        lambda: raced(client),
        lambda: fanned_out(client),
    ]
    for call in calls:
        try:
            repr(await call())
        except PenstockError as error:
            seen = [repr(error), str(error), repr(vars(error))]
            copies = [copy.deepcopy(error), pickle.loads(pickle.dumps(error))]
            assert all(str(each) == seen[1] for each in copies)


async def raced(client: AsyncClient) -> object:
    async with race(client, [REQUEST, REQUEST]) as stream:
        return await stream.collect()


async def fanned_out(client: AsyncClient) -> object:
    async with penstock.fan_out(client.complete, [REQUEST] * 2) as results:
        return [repr(result) async for result in results]


async def on_sockets() -> None:
    async with (
        serve([HELLO, json_reply(completion("Hello"))]) as server,
        AsyncClient(server.base_url, api_key=KEY) as client,
    ):
        await client.complete(REQUEST)
        await client.chat.completions.create(**REQUEST)


def refused() -> None:
    wrong: list[dict[str, Any]] = [
        {"api_key": b"key"},
        {"base_url": b"http://api.test"},
        {"headers": {b"a": "b"}},
        {"headers": {"a": b"b"}},
        {"provider": b"openai"},
        {"proxy": b"http://proxy.test"},
        {"default_query": {"a": b"b"}},
    ]
    makers: list[Any] = [AsyncClient, Client]
    for options in wrong:
        for make in makers:
            with contextlib.suppress(TypeError, ValueError):
                make(**{"base_url": "http://api.test", **options})
    with Client("http://api.test", network=MemoryNetwork(HELLO)) as client:
        for arguments in (
            {"model": b"m"},
            {"messages": b"m"},
            {"response_format": b"x"},
            {"tools": [b"x"]},
            {"extra_query": {b"a": 1}},
            {"extra_body": b"x"},
        ):
            with contextlib.suppress(TypeError, ValueError):
                client.chat.completions.stream(**{**REQUEST, **arguments})


if __name__ == "__main__":
    assert sys.flags.bytes_warning == 2
    refused()
    for backend in sys.argv[1:]:
        name, how = virtual(backend)
        anyio.run(tour, backend=name, backend_options=how)
        anyio.run(on_sockets, backend=backend)
