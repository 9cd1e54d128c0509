"""Whole answers, streamed or not: what they know of their response, and what is safe to read."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import penstock
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import completion, error_reply, json_reply, sse_reply, tokens
from penstock.testing.script import Stall
from tests.support.chat import REQUEST, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("way", ["create", "stream", "complete", "parse", "text", "models"])
async def test_a_whole_answer_knows_its_response(way: str) -> None:
    headers = {"x-request-id": "r1", "x-ratelimit-remaining-requests": "7"}
    text = {"choices": [{"text": "5", "finish_reason": "stop"}]}
    replies = {
        "create": json_reply(completion("5"), headers=headers),
        "text": json_reply(text, headers=headers),
        "models": json_reply({"data": [{"id": "m"}]}, headers=headers),
    }
    reply = replies.get(way, sse_reply(tokens("5"), headers=headers))
    async with client_on(reply) as client:
        calls: dict[str, Callable[[], Any]] = {
            "create": lambda: client.chat.completions.create(**REQUEST),
            "stream": lambda: client.chat.completions.stream(**REQUEST).collect(),
            "complete": lambda: client.complete(REQUEST),
            "parse": lambda: client.chat.completions.parse(**REQUEST, response_format=int),
            "text": lambda: client.completions.create(model="m", prompt="x"),
            "models": client.models.list,
        }
        if way == "parse":
            with pytest.raises(penstock.StructuredOutputError) as caught:
                await calls[way]()
            answer: Any = caught.value.completion
            assert caught.value.request_id == "r1"
        else:
            answer = await calls[way]()
    for known in (answer, pickle.loads(pickle.dumps(answer)), copy.copy(answer)):
        assert known.request_id == "r1"
        assert known.headers["X-RateLimit-Remaining-Requests"] == "7"
        assert known == answer
        assert copy.deepcopy(known).request_id == "r1"
        # It is no part of the answer.
        assert "r1" not in f"{known!r} {known.to_dict()}"
    made = type(answer)()
    assert (made.request_id, dict(made.headers)) == (None, {})


@pytest.mark.parametrize("name", ["chat", "text"])
async def test_text_is_safe_when_nothing_came(name: str) -> None:
    asked: dict[str, Any] = REQUEST if name == "chat" else {"model": "m", "prompt": "x"}
    async with client_on(error_reply(400)) as client:
        completions: Any = client.chat.completions if name == "chat" else client.completions
        stream = completions.stream(**asked)
        assert stream.partial.text == ""
        with pytest.raises(penstock.BadRequestError):
            await anext(stream.text)
        assert stream.partial.text == ""
    nothing = {"choices": [], "usage": {"prompt_tokens": 1}}
    async with client_on(json_reply(nothing)) as client:
        completions = client.chat.completions if name == "chat" else client.completions
        assert (await completions.create(**asked)).text == ""
    async with client_on(sse_reply([])) as client:
        completions = client.chat.completions if name == "chat" else client.completions
        stream = completions.stream(**asked)
        assert [text async for text in stream.text] == []
        assert (await stream.collect()).text == ""


@pytest.mark.parametrize("way", ["aclose", "client", "block"])
async def test_a_closed_stream_tells_the_text_so_far(way: str) -> None:
    async with client_on(sse_reply([*tokens("Hel", finish=None), Stall()], done=False)) as client:
        stream = client.chat.completions.stream(**REQUEST)
        async with stream:
            assert await anext(stream.text) == "Hel"
            if way == "aclose":
                await stream.aclose()
            elif way == "client":
                await client.aclose()
        for read in (lambda: anext(stream), stream.collect, lambda: anext(stream.text)):
            with pytest.raises(penstock.StreamClosedError) as caught:
                await read()
            assert caught.value.partial is not None
            assert caught.value.partial.text == stream.partial.text == "Hel"
