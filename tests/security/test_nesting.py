"""JSON nested to any depth is an answer or an error of the library, never a RecursionError."""

from __future__ import annotations

import copy
import pickle
import traceback
from collections.abc import Awaitable, Callable
from itertools import product
from typing import Any

import pytest

from penstock import AsyncClient, PenstockError
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import sse_reply, status_reply
from penstock.testing.script import Reply
from tests.support.chat import REQUEST, client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

# Around what Python, msgspec and the json module give up at; 64 is the library's own bound.
DEPTHS = [64, 65, 240, 330, 480, 900, 990, 50_000]
OPENINGS = {"lists": ("[", "]"), "objects": ('{"a":', "}")}


def nested(depth: int, kind: str) -> str:
    opening, closing = OPENINGS[kind]
    return opening * depth + ("0" if kind == "objects" else "") + closing * depth


JSON = {"content-type": "application/json"}
REPLIES: dict[str, Callable[[str], Reply]] = {
    "error body": lambda deep: status_reply(400, f'{{"error":{{"message":"x","a":{deep}}}}}', JSON),
    "error detail": lambda deep: status_reply(422, f'{{"detail":{deep}}}', JSON),
    "error of a list": lambda deep: status_reply(500, deep, JSON),
    "error in a stream": lambda deep: sse_reply([f'{{"error":{{"message":"x","a":{deep}}}}}']),
    "error that is a list": lambda deep: sse_reply([f'{{"error":{deep}}}']),
    "named error": lambda deep: sse_reply([f"event: error\ndata: {deep}\n\n".encode()]),
    "error of groq": lambda deep: sse_reply([f'{{"x_groq":{{"error":{deep}}}}}']),
    "error beside NaN": lambda deep: sse_reply([f'{{"error":{deep},"a":NaN}}']),
    "member": lambda deep: sse_reply([f'{{"choices":[],"a":{deep}}}']),
    "content": lambda deep: sse_reply([f'{{"choices":[{{"delta":{{"content":{deep}}}}}]}}']),
    "arguments": lambda deep: sse_reply(
        [f'{{"choices":[{{"delta":{{"tool_calls":[{{"function":{{"arguments":{deep}}}}}]}}}}]}}']
    ),
    "whole body": lambda deep: status_reply(200, f'{{"choices":{deep},"data":{deep}}}', JSON),
    "whole error": lambda deep: status_reply(200, f'{{"error":{deep}}}', JSON),
    "models": lambda deep: status_reply(200, f'{{"data":[{{"id":{deep}}}]}}', JSON),
}

Way = Callable[[AsyncClient], Awaitable[Any]]


async def asked(client: AsyncClient) -> Any:
    return (await client.request("GET", "/x")).json()


WAYS: dict[str, Way] = {
    "complete": lambda client: client.complete(REQUEST),
    "create": lambda client: client.chat.completions.create(**REQUEST),
    "models": lambda client: client.models.list(),
    "request": asked,
}


@pytest.mark.sampled(0.34)
@pytest.mark.parametrize("kind", OPENINGS)
@pytest.mark.parametrize("reply", REPLIES)
async def test_any_depth(reply: str, kind: str) -> None:
    streamed = b"event-stream" in REPLIES[reply]("").data
    ways = ["complete"] if streamed else list(WAYS)
    for depth, way in product(DEPTHS, ways):
        script = REPLIES[reply](nested(depth, kind))
        async with client_on(script, max_retries=0) as client:
            try:
                await WAYS[way](client)
            except PenstockError as error:
                can_be_passed_on(error)


def can_be_passed_on(error: PenstockError) -> None:
    """It can be logged, and handed to another process."""
    assert len(str(error)) < 1000
    traceback.format_exception(error)
    pickle.loads(pickle.dumps(error))
    copy.deepcopy(error)
