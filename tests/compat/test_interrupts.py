"""Ctrl-C in a blocking call: the wait ends at once, and its connection is closed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from penstock import Limiter
from penstock.compat.openai import OpenAI
from penstock.testing import Server, becomes_true, serve_in_thread, sse_reply, tokens
from penstock.testing.replies import completion, json_reply
from penstock.testing.script import Reply, Stall
from tests.support.blocking import interrupted_when
from tests.support.chat import KEY
from tests.support.compat import Generation
from tests.support.openai_clients import REQUEST, STREAMED

SILENT = Reply((Stall(),))
HANGING = sse_reply([*tokens("Hel", "lo", finish=None), Stall()], done=False)
WHOLE = json_reply(completion("ok"))


def pieces() -> Iterator[bytes]:
    yield b"a"
    yield b"b"


def post(client: Any, **how: Any) -> Any:
    request = client.build_request("POST", "/chat/completions", **how)
    return client.send(request, stream=True)


def interrupted(server: Server, call: Callable[[], object]) -> None:
    with interrupted_when(lambda: server.requests), pytest.raises(KeyboardInterrupt):
        call()
    assert becomes_true(lambda: server.open_connections == 0, 5)
    assert server.connections[0].ended == "client closed"


CALLS: dict[str, tuple[Reply, Callable[[Any], object]]] = {
    "head": (SILENT, lambda client: post(client, json={})),
    "after an upload": (SILENT, lambda client: post(client, content=pieces())),
    "body": (HANGING, lambda client: post(client, json={}).read()),
    "raw body": (HANGING, lambda client: list(post(client, json={}).iter_raw())),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_of_httpx(generation: Generation, name: str) -> None:
    reply, call = CALLS[name]
    limiter = Limiter(1)
    transport = generation.ours.Transport(limiter=limiter)
    with (
        serve_in_thread([reply, WHOLE]) as server,
        generation.httpx.Client(transport=transport, base_url=server.base_url) as client,
    ):
        interrupted(server, lambda: call(client))
        assert limiter.statistics().in_flight == 0
        # And nothing else is broken.
        assert client.post("/chat/completions", json={}).status_code == 200


SDK_CALLS: dict[str, tuple[Reply, Callable[[Any], object]]] = {
    "whole": (SILENT, lambda chat: chat.create(**REQUEST)),
    "opening": (SILENT, lambda chat: chat.create(**STREAMED)),
    "reading": (HANGING, lambda chat: list(chat.create(**STREAMED))),
}


@pytest.mark.parametrize("name", SDK_CALLS)
def test_a_call_of_the_openai_sdk(name: str) -> None:
    reply, call = SDK_CALLS[name]
    with (
        serve_in_thread([reply, WHOLE]) as server,
        OpenAI(api_key=KEY, base_url=server.base_url) as client,
    ):
        interrupted(server, lambda: call(client.chat.completions))
        assert client.chat.completions.create(**REQUEST).choices[0].message.content == "ok"
