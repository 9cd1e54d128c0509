"""One request for a row: what is sent, streamed inside or not, and to which of several servers."""

from __future__ import annotations

import json
from typing import Any

import pytest

import penstock
from penstock.batch.answers import Answer
from penstock.batch.rows import Row
from penstock.batch.sending import Sending, streamed
from penstock.testing.memory import MemoryNetwork
from penstock.testing.plugin import virtual_backend as anyio_backend
from penstock.testing.replies import completion, json_reply, sse_reply, tokens
from tests.support.chat import client_on

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

OK = json_reply(completion("Hello"))
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
STREAM = sse_reply(tokens("Hel", "lo", usage=USAGE))
MESSAGES = [{"role": "user", "content": "Hi"}]


def row(body: Any, path: str = "/chat/completions") -> Row:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Row("a", path, text, "penstock-" + "0" * 24)


async def send(reply: Any, asked: Row, *, stream: bool) -> tuple[Answer, Any]:
    network = MemoryNetwork(reply)
    async with client_on(network) as client:
        answer = await Sending(client, stream=stream).send(asked)
    [request] = network.requests
    return answer, request


async def test_a_body_goes_out_as_it_is_written() -> None:
    text = b'{ "model": 1.0,\t"x": "\\ud800" }'
    answer, request = await send(OK, row(text), stream=False)
    assert request.body == text
    assert json.loads(answer.body) == completion("Hello")


@pytest.mark.parametrize("path", ["/chat/completions", "/chat/completions?x=1"])
async def test_a_collected_answer(path: str) -> None:
    body = {"model": "m", "messages": MESSAGES, "temperature": 0, "timeouts": 5}
    answer, request = await send(STREAM, row(body, path), stream=True)
    whole = json.loads(answer.body)
    assert whole["object"] == "chat.completion"
    assert whole["choices"][0]["message"]["content"] == "Hello"
    assert request.json == {**body, "stream": True, "stream_options": {"include_usage": True}}
    assert request.target == "/v1" + path
    assert answer.tokens == USAGE
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"messages": MESSAGES},  # the server has one model
        {"model": "m"},
        {"model": 5, "messages": "Hi", "n": "x"},
        {},
        b'  {"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}\t',
    ],
)
async def test_what_a_stream_asks_is_the_servers_business(body: Any) -> None:
    answer, request = await send(STREAM, row(body), stream=True)
    assert answer.tokens == USAGE
    given = json.loads(body) if isinstance(body, bytes) else body
    assert request.json == {**given, "stream": True, "stream_options": {"include_usage": True}}


async def test_every_choice_is_waited_for() -> None:
    events = [*tokens("a", usage=None), *tokens("b", index=1, role_first=False)]
    answer, _ = await send(sse_reply(events), row({"messages": MESSAGES, "n": 2}), stream=True)
    found = [each["message"]["content"] for each in json.loads(answer.body)["choices"]]
    assert found == ["a", "b"]


@pytest.mark.parametrize("prompt", ["Hi", ["Hi", "Ho"], [1, 2]])
async def test_a_text_completion_is_collected(prompt: Any) -> None:
    count = 2 if prompt == ["Hi", "Ho"] else 1
    pieces = [
        {"id": "c", "object": "text_completion", "created": 1, "model": "m",
         "choices": [{"index": number, "text": "x", "finish_reason": "stop"}]}
        for number in range(count)
    ]  # fmt: skip
    asked = row({"model": "m", "prompt": prompt}, "/completions")
    answer, _ = await send(sse_reply(pieces), asked, stream=True)
    assert [each["text"] for each in json.loads(answer.body)["choices"]] == ["x"] * count


async def test_other_endpoints_are_not_streamed() -> None:
    asked = row({"input": "x"}, "/embeddings")
    answer, request = await send(json_reply({"data": []}), asked, stream=True)
    assert answer.body == b'{"data": []}'
    assert request.json == {"input": "x"}


@pytest.mark.parametrize("stream", [False, True])
async def test_sessions_of_a_spread(stream: bool) -> None:
    networks = [MemoryNetwork(STREAM if stream else OK) for _ in range(3)]
    async with penstock.Spread([client_on(each) for each in networks], session="user") as spread:
        sending = Sending(spread, stream=stream)
        for user in ("u", "v", "w") * 3:
            await sending.send(row({"model": "m", "messages": MESSAGES, "user": user}))
    asked = [{request.json["user"] for request in each.requests} for each in networks]
    assert sum(map(len, asked)) == 3  # nobody was at two servers


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b"{}", b'{"stream":true'),
        (b' { "a" : 1 } ', b'{"a" : 1,"stream":true'),
    ],
)
def test_the_body_of_a_stream(body: bytes, sent: bytes) -> None:
    found = streamed(body)
    assert found.startswith(sent)
    assert json.loads(found)["stream_options"] == {"include_usage": True}
