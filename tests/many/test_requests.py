"""Fan-outs, races and `complete` take text completions like chats."""

from __future__ import annotations

import json
from typing import Any

import pytest

import penstock
from penstock import TextCompletion
from penstock._many.requests import open_stream
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import sse_reply
from penstock.testing.script import RecordedRequest, Reply
from tests.support.chat import client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

PROMPTS = [{"model": "m", "prompt": prompt} for prompt in ("a", ["b"], [1, 2], [[3], [4, 5]])]


def answer_to(request: RecordedRequest) -> Reply:
    """Say the prompt again, in two pieces."""
    assert request.target == "/v1/completions"
    text = json.dumps(request.json["prompt"])
    pieces: list[Any] = [
        {"choices": [{"index": 0, "text": text[:1], "finish_reason": None}]},
        {"choices": [{"index": 0, "text": text[1:], "finish_reason": "stop"}]},
    ]
    return sse_reply(pieces)


def said(prompt: Any) -> str:
    return json.dumps(prompt)


async def test_complete() -> None:
    async with client_on(MemoryNetwork(answer_to)) as client:
        for request in PROMPTS:
            answer: Any = await client.complete(request)
            assert isinstance(answer, TextCompletion)
            assert answer.text == said(request["prompt"])


async def test_fan_out_chunks() -> None:
    texts: dict[int, str] = {}
    whole: dict[int, str] = {}
    async with (
        client_on(MemoryNetwork(answer_to)) as client,
        penstock.fan_out_chunks(client, PROMPTS) as events,
    ):
        async for event in events:
            if isinstance(event, penstock.ResultEvent):
                completion: Any = event.unwrap()
                whole[event.index] = completion.text
            else:
                piece: Any = event.chunk
                texts[event.index] = texts.get(event.index, "") + piece.text
    expected = {index: said(request["prompt"]) for index, request in enumerate(PROMPTS)}
    assert texts == whole == expected


async def test_fan_out_channels() -> None:
    texts: list[str] = []
    async with (
        client_on(MemoryNetwork(answer_to)) as client,
        penstock.fan_out_channels(client, PROMPTS) as channels,
    ):
        async for channel in channels:
            pieces: list[Any] = [piece async for piece in channel.receive]
            texts.append("".join(piece.text for piece in pieces))
            partial: Any = channel.partial
            assert partial.text == texts[-1]
    assert sorted(texts) == sorted(said(request["prompt"]) for request in PROMPTS)


async def test_race() -> None:
    async with (
        client_on(MemoryNetwork(answer_to)) as client,
        penstock.race(client, PROMPTS[:2]) as stream,
    ):
        winner: Any = await stream.collect()
    assert winner.text in {said("a"), said(["b"])}


async def test_what_is_no_prompt_is_refused_before_anything_is_sent() -> None:
    network = MemoryNetwork(answer_to)
    async with client_on(network) as client:
        for prompt, error in [
            ("", ValueError),
            ([], ValueError),
            (None, TypeError),
            (5, TypeError),
        ]:
            with pytest.raises(error, match="prompt"):
                open_stream(client, {"model": "m", "prompt": prompt})
        with pytest.raises(ValueError, match="model is empty"):
            open_stream(client, {"model": "", "prompt": "a"})
    assert network.requests == []
