"""Promise 1 where servers answer in another way than asked: never an empty or half success.

The inputs are kinds that were reported of servers and gateways: whole JSON in answer to a streamed
request and the other way round, a message in place of deltas, errors that only have words.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Awaitable

import pytest

import penstock
from penstock import AsyncClient, Timeouts
from penstock.testing.cuts import drip, split_at
from penstock.testing.memory import MemoryNetwork
from penstock.testing.replies import (
    completion,
    json_reply,
    sse_event,
    sse_reply,
    status_reply,
    tokens,
)
from penstock.testing.script import Reply, Send, Stall
from tests.support.chat import REQUEST, URL

from .offsets import offsets
from .recorded import FAULTS, Fault, cut
from .test_p03_cancelled_reads_lose_nothing import patiently
from .virtual_uvloop import virtual_backend as anyio_backend

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
WHOLE = completion("whole", usage={"total_tokens": 3})
RICH = {
    **WHOLE,
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "whole", "reasoning": "r"},
            "finish_reason": "stop",
        },
        {
            "index": 1,
            "message": {"role": "assistant", "content": None, "tool_calls": [CALL]},
            "finish_reason": "tool_calls",
        },
    ],
}
MESSAGE = {"choices": WHOLE["choices"]}
SENTINEL = b"\n\ndata: [DONE]\n\n"
JSON = {"content-type": "application/json"}

STREAMED: dict[str, tuple[Reply, str]] = {
    "whole JSON": (json_reply(WHOLE), "whole"),
    "whole JSON in chunks": (json_reply(RICH, chunked=True), "whole"),
    "JSON and [DONE]": (status_reply(200, json.dumps(WHOLE).encode() + SENTINEL, JSON), "whole"),
    "JSON as events": (
        status_reply(
            200, json.dumps(WHOLE).encode() + SENTINEL, {"content-type": "text/event-stream"}
        ),
        "whole",
    ),
    "one message": (sse_reply([MESSAGE]), "whole"),
    "messages that grow": (sse_reply([*tokens()[:1], MESSAGE, MESSAGE]), "whole"),
    "single line ends": (
        sse_reply([sse_event(chunk)[:-1] for chunk in tokens("who", "le")]),
        "whole",
    ),
    "type error": (sse_reply([{"type": "error", "message": "boom"}]), "!boom"),
    "detail": (sse_reply([{"detail": "boom"}]), "!boom"),
    "code and message": (sse_reply([{"code": 500, "message": "boom"}]), "!boom"),
    "words at its end": (sse_reply([*tokens("who", finish=None), {"detail": "boom"}]), "!boom"),
    "an error of a choice": (
        sse_reply([{"choices": [{"index": 0, "error": {"message": "boom"}}]}]),
        "!boom",
    ),
    "finish_reason error": (sse_reply(tokens("who", finish="error")), "!error"),
    "a JSON error": (json_reply({"detail": "boom"}), "!boom"),
    "JSON without choices": (json_reply({"choices": None, "message": "boom"}), "!boom"),
}

CREATED: dict[str, tuple[Reply, str]] = {
    "events": (sse_reply(tokens("who", "le")), "whole"),
    "events of JSON": (sse_reply(tokens("who", "le"), content_type="application/json"), "whole"),
    "JSON and [DONE]": STREAMED["JSON and [DONE]"],
    "detail": (json_reply({"detail": "boom"}), "!boom"),
    "code and message": (json_reply({"code": 500, "message": "boom"}), "!boom"),
    "choices null": (json_reply({"choices": None, "error": None, "msg": "boom"}), "!boom"),
    "an error of a choice": (
        json_reply({"choices": [{"index": 0, "finish_reason": "error", "error": "boom"}]}),
        "!boom",
    ),
    "an error in events": (sse_reply([{"error": "boom"}]), "!boom"),
}


async def outcome(asked: Awaitable[penstock.ChatCompletion]) -> str:
    """The text, or ! and what the server says."""
    try:
        answer = await asked
    except (penstock.StreamError, penstock.APIResponseError) as error:
        return f"!{error}"
    return answer.choices[0].message.content or ""


def same(found: str, expected: str) -> bool:
    if expected.startswith("!"):
        return found.startswith("!") and expected[1:] in found
    return found == expected


@pytest.mark.sampled(0.34)
@pytest.mark.parametrize("name", STREAMED)
async def test_streamed_and_split_at_every_place(name: str) -> None:
    reply, expected = STREAMED[name]
    for n in offsets(reply.data, step=7)[:-1]:
        network = MemoryNetwork(split_at(reply, [n]))
        async with AsyncClient(URL, network=network, max_retries=0) as client:
            assert same(await outcome(client.complete(REQUEST)), expected), n
        assert network.open_connections == 0


@pytest.mark.parametrize("name", STREAMED)
@pytest.mark.parametrize("phase", [0.07, 0.3, 1.7])
async def test_streamed_and_cancelled_at_every_read(name: str, phase: float) -> None:
    reply, expected = STREAMED[name]
    network = MemoryNetwork(drip(reply, 0.5, size=29))
    async with AsyncClient(URL, network=network, max_retries=0) as client:
        stream = client.chat.completions.stream(**REQUEST)
        found = await outcome(patiently(stream.collect, itertools.cycle([phase, 0.4])))
        assert same(found, expected)
        await stream.aclose()
    assert len(network.requests) == 1
    assert network.open_connections == 0


@pytest.mark.sampled(0.2)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", STREAMED)
async def test_streamed_and_cut_at_every_byte(name: str, fault: Fault) -> None:
    reply, expected = STREAMED[name]
    data = reply.data
    for n in offsets(data, step=9, shift=3 * list(FAULTS).index(fault))[:-1]:
        network = MemoryNetwork(cut(data, n, fault))
        limits = Timeouts(read=3.0)
        async with AsyncClient(URL, network=network, timeouts=limits, max_retries=0) as client:
            try:
                found = await outcome(client.complete(REQUEST))
            except penstock.APIConnectionError:
                found = ""
            # What was whole before the cut, or a failure; never a part of it.
            assert found == "" or same(found, expected), n
        assert network.open_connections == 0
        assert len(network.requests) == 1


@pytest.mark.parametrize("name", CREATED)
async def test_created_and_split_at_every_place(name: str) -> None:
    reply, expected = CREATED[name]
    for n in offsets(reply.data, step=7)[:-1]:
        network = MemoryNetwork(split_at(reply, [n]))
        async with AsyncClient(URL, network=network, max_retries=0) as client:
            asked = client.chat.completions.create(**REQUEST)
            assert same(await outcome(asked), expected), n
            assert network.requests[0].json["stream"] is False
        assert network.open_connections == 0


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", CREATED)
async def test_created_and_cut_at_every_byte(name: str, fault: Fault) -> None:
    reply, expected = CREATED[name]
    data = reply.data
    for n in offsets(data, step=9, shift=3 * list(FAULTS).index(fault))[:-1]:
        network = MemoryNetwork(cut(data, n, fault))
        limits = Timeouts(read=3.0)
        async with AsyncClient(URL, network=network, timeouts=limits, max_retries=0) as client:
            try:
                found = await outcome(client.chat.completions.create(**REQUEST))
            except penstock.APIConnectionError:
                found = ""
            # What events said whole before the cut, or a failure; never a part of it.
            assert found == "" or same(found, expected), n
        assert network.open_connections == 0


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_finished_answer_that_is_held_open(fault: Fault) -> None:
    # The field's own input: role and text, finish_reason, then nothing.
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    body = b"".join(map(sse_event, tokens("whole")))
    for n in offsets(head + body):
        reply = Reply((Send((head + body)[:n]), FAULTS[fault] if n < len(head + body) else Stall()))
        network = MemoryNetwork(reply)
        limits = Timeouts(read=2)
        async with AsyncClient(URL, network=network, timeouts=limits, max_retries=0) as client:
            if n == len(head + body):
                assert (await client.complete(REQUEST)).text == "whole"
                continue
            with pytest.raises(penstock.APIConnectionError):
                await client.complete(REQUEST)
        assert network.open_connections == 0
