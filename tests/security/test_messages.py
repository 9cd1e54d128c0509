"""What an error says is one short line that can be printed, whatever a peer has sent.

A line end would make a second record of a log, an escape code would move a terminal's cursor.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from penstock import AsyncClient, PenstockError
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import (
    chunk,
    error_reply,
    head,
    json_reply,
    sse_reply,
    status_reply,
    tokens,
)
from penstock.testing.script import End, Reply, reply
from tests.support.chat import REQUEST, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

# Line ends of ASCII and of Unicode, escape codes of 7 and of 8 bits, what writes backwards.
EVIL = "a\r\nb\n\x1b[2J\x9b2J\x07\x00\x7f\u2028\u202e" + "x" * 20_000
# Of these a head may have no line ends and no controls of ASCII.
BYTES = b"\x9b2J\x85" + b"x" * 20_000
JSON = {"content-type": "application/json"}
EVENTS = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}


def with_header(line: bytes, status: bytes = b"200 OK", body: bytes = b"x") -> Reply:
    return reply(b"HTTP/1.1 " + status + b"\r\n" + line + b"\r\n\r\n" + body, End())


REPLIES: dict[str, Reply] = {
    "message": error_reply(400, EVIL),
    "code and type": error_reply(400, EVIL, code=EVIL, type=EVIL),
    "detail": json_reply({"detail": [{"loc": [EVIL], "msg": EVIL}]}, 422),
    "text": status_reply(500, EVIL),
    "page": status_reply(502, f"<html><title>{EVIL}</title>{EVIL}</html>"),
    "in the stream": sse_reply([*tokens("a"), {"error": {"message": EVIL, "code": EVIL}}]),
    "named": sse_reply([f"event: error\ndata: {'x' * 20_000}\x1b[2J\n\n".encode()]),
    "no json": sse_reply([EVIL.encode().replace(b"\n", b"").replace(b"\r", b"")]),
    "no stream": status_reply(200, EVIL, {"content-type": "text/html"}),
    "no json body": status_reply(200, EVIL, JSON),
    "finish": sse_reply([{"choices": [{"index": 2**40, "delta": {"content": "x"}}]}], done=False),
    "reason": with_header(b"x-a: b", b"418 " + BYTES),
    "content type": with_header(b"content-type: " + BYTES),
    "content coding": with_header(b"content-encoding: " + BYTES),
    "length": with_header(b"content-length: " + BYTES),
    "transfer coding": with_header(b"transfer-encoding: " + BYTES),
    "no head": reply(EVIL.encode("latin-1", "ignore") + b"\r\n\r\n", End()),
    "no status line": reply(b"HTTP/1.1 " + b"2" * 20_000 + b"\r\n\r\n", End()),
    "no header": with_header(b"x" * 20_000),
    "no name": with_header(b"a\x1b[2J: b"),
    "size of a chunk": reply(head(200, EVENTS) + b"\x1b[2J\x9b" + BYTES[:9000] + b"\r\n", End()),
    "end of a chunk": reply(head(200, EVENTS) + chunk(b": a\n\n")[:-2] + BYTES, End()),
}
WAYS: dict[str, Callable[[AsyncClient], Awaitable[Any]]] = {
    "complete": lambda client: client.complete(REQUEST),
    "create": lambda client: client.chat.completions.create(**REQUEST),
    "models": lambda client: client.models.list(),
}


def assert_one_line(error: PenstockError) -> None:
    assert len(str(error)) < 1000
    assert str(error).isprintable(), str(error)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", REPLIES)
async def test_an_error_is_one_short_line(kind: str, way: str) -> None:
    async with client_on(REPLIES[kind], max_retries=0) as client:
        try:
            await WAYS[way](client)
        except PenstockError as error:
            assert_one_line(error)


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 502 " + BYTES + b"\r\n\r\n", BYTES + b"\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + BYTES],
    ids=["reason", "no head", "no end"],
)
async def test_what_a_proxy_says_is_one_short_line(answer: bytes) -> None:
    network = MemoryNetwork(reply(answer, End()))
    async with client_on(
        network, "https://api.test/v1", proxy="http://proxy.test", max_retries=0
    ) as client:
        with pytest.raises(PenstockError) as caught:
            await client.complete(REQUEST)
    assert_one_line(caught.value)
